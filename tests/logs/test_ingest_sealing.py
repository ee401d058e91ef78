"""Records lie sealed under the keys of their tenants: what that keeps from whom, and what goes on as before."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass import backup
from services.kit.errors import Code, Failure, Unavailable
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys
from services.logs.domain import Record
from services.logs.ingest import sealing
from services.logs.ingest.sealing import runs
from services.logs.ingest.segments import Frame, Position, Segments
from services.logs.ingest.service import Batch, Ingest, Stored, numbered_records
from services.logs.tables import Kept, records_of
from tests.logs.conftest import found, line, logs, search, tell
from tests.logs.records import record, table
from tests.support.house import House, until
from tests.support.kept import frames, kept, keys_of

MARK = "9f2c41d7b8e35a06"  # no compression finds a part of it before
RECORDS = Path("logs-store", "records")


async def opened(home: Path, keys: TenantKeys | None = None, most: int = 2**25) -> Ingest:
    """What keeps the records of a home folder."""
    made = Ingest(Segments(home / RECORDS, most), keys=keys or keys_of(home))
    await made.open()
    return made


async def read(ingest: Ingest) -> list[tuple[int, Record]]:
    """All that the files say, with the numbers."""
    found, position, last = list[tuple[int, Record]](), Position(), None
    while position != last:
        last = position
        stored, position = await ingest.read(last)
        found += numbered_records(stored)
    return found


def told(folder: Path) -> set[str]:
    """Files below a folder in which the word can be read, also by who takes compressed bytes apart."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)) for path in files if MARK.encode() in unpacked(path.read_bytes())}


def unpacked(data: bytes) -> bytes:
    """Bytes, and behind them what comes of all places in them where something compressed may begin."""
    found = [data]
    for place in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj().decompress(data[place.start() :], 2**20))
    return b"".join(found)


def batch(number: int, *tenants: str, text: str = "") -> Batch:
    records = [record(number, tenant=tenant, text=text or f"{MARK} {number}") for tenant in tenants]
    return Batch(f"event-{number}", records)


def heads(found: list[tuple[Frame, list[Kept]]]) -> list[bytes]:
    return [run.head for frame, _ in found for run in runs(frame.block)]


async def rotated(centre: House, tenant: str) -> None:
    assert centre.runtime.storage.keys
    assert await centre.runtime.storage.keys.rotate(tenant, 1) == 2


async def test_what_a_record_says_is_found_and_is_in_no_file_of_records(tmp_path: Path) -> None:
    async with logs(tmp_path) as centre:
        await tell(centre, line(f"{MARK} of one", "one"), line(f"{MARK} of the house", "system", who=MARK))
        await found(centre, "house", 1, "system")
        (there,) = await found(centre, MARK, 1, "one")
    (segment,) = (tmp_path / RECORDS).glob("*.seg")

    assert there.text == f"{MARK} of one"
    assert segment.stat().st_size > 200
    assert {name.split("/")[0] for name in told(tmp_path)} <= {"bus.db", "bus.db-wal", "logs-store"}
    assert {name.split("/")[0] for name in told(tmp_path / "logs-store")} <= {"index"}
    of_files = {one.text for one in await kept(tmp_path) if MARK in one.text}
    assert of_files == {f"{MARK} of one", f"{MARK} of the house"}


async def test_files_that_were_copied_away_say_nothing_of_a_shredded_tenant(tmp_path: Path) -> None:
    async with logs(tmp_path) as centre:
        await tell(centre, line(f"{MARK} leaves", "gone"), line(f"{MARK} stays", "stays"))
        await found(centre, MARK, 1, "gone")
        await found(centre, MARK, 1, "stays")
        copy = Path(shutil.copytree(tmp_path / RECORDS, tmp_path / "copy"))
        shutil.copytree(tmp_path / "keys", tmp_path / "archive" / "keys")
        assert centre.runtime.storage.keys
        await centre.runtime.storage.keys.shred("gone")
        centre.runtime.forgetting.wake()
        await until(lambda: (tmp_path / "logs-store" / "forgotten").exists())
        assert await search(centre, MARK, "gone") == []
        await found(centre, MARK, 1, "stays")

    of_copy = [one.text for one in await kept(tmp_path, copy) if MARK in one.text]
    assert of_copy == [f"{MARK} stays"]
    assert [one.text for one in await kept(tmp_path) if MARK in one.text] == of_copy
    assert all(run.tenant != "gone" for frame, _ in await frames(tmp_path) for run in runs(frame.block))
    # It is the key that makes the difference: with one from before, the copy is read.
    assert len([one for one in await kept(tmp_path / "archive", copy) if MARK in one.text]) == 2


async def test_after_another_key_old_records_and_new_ones_are_found(tmp_path: Path) -> None:
    async with logs(tmp_path) as centre:
        await tell(centre, line("sealed by the first"))
        await found(centre, "sealed")
        await rotated(centre, "acme")
        await tell(centre, line("sealed by the second"))
        await found(centre, "sealed", 2)
    own = [frame for frame, records in await frames(tmp_path) if "sealed by the" in str(records)]
    ours = [run.key for frame in own for run in runs(frame.block) if run.tenant == "acme"]
    shutil.rmtree(tmp_path / "logs-store" / "index")

    assert ours == [("acme", 1), ("acme", 2)]
    async with logs(tmp_path) as again:
        await found(again, "sealed", 2)


async def test_files_from_before_lie_as_they_are_and_are_read(tmp_path: Path) -> None:
    before = Ingest(Segments(tmp_path / RECORDS))
    await before.open()
    await before.append([batch(0, "acme", "other"), batch(1, "acme")])
    before.close()
    assert told(tmp_path / RECORDS)
    (segment,) = (tmp_path / RECORDS).glob("*.seg")
    plain = segment.read_bytes()

    async with logs(tmp_path) as centre:
        await found(centre, MARK, 2)
        await tell(centre, line(f"{MARK} and more"))
        await found(centre, MARK, 3)
    after = [frame for frame, _ in await frames(tmp_path)]

    assert segment.read_bytes().startswith(plain)
    assert [bool(list(runs(frame.block))) for frame in after][:3] == [False, False, True]
    assert [one.record for one in await kept(tmp_path)][:3] == ["r0", "r0", "r1"]


async def test_a_torn_end_is_written_again_under_another_head(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    await first.append([batch(0, "acme"), batch(1, "acme")])
    first.close()
    before = await frames(tmp_path)
    (segment,) = (tmp_path / RECORDS).glob("*.seg")
    os.truncate(segment, segment.stat().st_size - 5)

    again = await opened(tmp_path)
    await again.append([batch(1, "acme", text="something else")])
    texts = [(number, one.text) for number, one in await read(again)]
    again.close()
    after = await frames(tmp_path)

    assert texts == [(0, f"{MARK} 0"), (1, "something else")]
    assert [frame.sequence for frame, _ in after] == [0, 1]
    assert heads(after)[0] == heads(before)[0] == heads(before)[1] != heads(after)[1]
    assert told(tmp_path / RECORDS) == set()  # what was cut has been put aside


async def test_what_a_full_disk_refused_is_sealed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest, sealed = await opened(tmp_path), list[bytes]()
    await ingest.append([batch(0, "acme")])

    def full(descriptor: int) -> None:
        sealed.append(next((tmp_path / RECORDS).glob("*.seg")).read_bytes())
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="no space"):
            await ingest.append([batch(1, "acme")])
    await ingest.append([batch(1, "acme", text="something else")])
    ingest.close()
    first, second = heads(await frames(tmp_path))

    assert sealed[0].count(first) == 2
    assert first != second


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(["acme", "other", "third", "table", "../keys", ""]), max_size=6), max_size=5))
def test_whoever_reads_the_files_gets_what_those_heard_who_followed(
    tmp_path_factory: pytest.TempPathFactory, told: list[list[str]]
) -> None:
    home = tmp_path_factory.mktemp("home")

    def made(number: int, tenant: str) -> Kept:
        return table(3, number, tenant="acme") if tenant == "table" else record(number, tenant=tenant)

    async def both() -> None:
        ingest, heard = await opened(home, most=1500), list[tuple[int, Record]]()
        batches = [Batch(f"e{at}", [made(at, tenant) for tenant in tenants]) for at, tenants in enumerate(told)]
        position = Position()
        for one in batches:
            await ingest.append([one])
            if one.records:
                stored, position = await ingest.after(position)
                heard += numbered_records(stored)
        lies = await read(ingest)
        ingest.close()

        assert lies == heard
        assert [number for number, _ in lies] == list(range(len(lies)))
        assert sorted(one.tenant for _, one in lies) == sorted(
            one.tenant
            for batch in batches
            for kept in batch.records
            for _, one in numbered_records([(0, kept)])  # type: ignore[list-item]
        )
        # What is no tenant's name has no keys of its own, and no folder.
        assert {path.name for path in (home / "keys" / "tenants").glob("*")} <= {"acme", "other", "third", "system"}

    asyncio.run(both())


async def test_each_tenant_s_records_stay_in_their_order(tmp_path: Path) -> None:
    ingest = await opened(tmp_path)
    mixed = [record(number, tenant=("acme", "other")[number % 2]) for number in range(8)]
    await ingest.append([Batch("e", mixed)])
    lies = await read(ingest)
    ingest.close()

    assert [one.record for _, one in lies if one.tenant == "acme"] == ["r0", "r2", "r4", "r6"]
    assert [one.record for _, one in lies if one.tenant == "other"] == ["r1", "r3", "r5", "r7"]


@pytest.mark.parametrize("way", ["changed", "moved"])
async def test_what_somebody_has_changed_is_not_served(tmp_path: Path, way: str) -> None:
    """A checksum anybody can make; the rest of the frame is served."""
    ingest = await opened(tmp_path, most=10)
    for number in range(2):
        await ingest.append([Batch(f"event-{number}", batch(0, "acme", "other").records)])
    ingest.close()
    segments = Segments(tmp_path / RECORDS)
    segments.open()
    both, _ = segments.read(Position())
    (ours, _), (theirs, _) = runs(both[0].block), runs(both[1].block)

    def change(block: bytes) -> bytes:
        if way == "moved":
            return block.replace(ours.head + ours.sealed, theirs.head + theirs.sealed)
        return block.replace(ours.sealed, ours.sealed[:-1] + bytes([ours.sealed[-1] ^ 1]))

    assert segments.rewrite(0, change)
    segments.close()

    again = await opened(tmp_path)
    for _ in range(2):
        assert [(number, one.tenant) for number, one in await read(again)] == [(1, "other"), (2, "acme"), (3, "other")]
    again.close()
    assert again.damaged == 1


async def test_one_who_follows_gets_past_records_that_nobody_reads_any_more(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    for number in range(5):
        await first.append([batch(number, "gone", text=os.urandom(300_000).hex())])
    await first.append([batch(9, "acme")])
    first.close()
    await keys_of(tmp_path).shred("gone")

    again, position, stored = await opened(tmp_path), Position(), list[Stored]()
    async with asyncio.timeout(10):
        while not stored:
            stored, position = await again.after(position)
    again.close()
    assert [one.record for _, one in numbered_records(stored)] == ["r9"]
    assert again.damaged == 0


class Away(FolderKeys):
    """Keys that cannot be reached for a time; counts who asks."""

    away, asked = False, 0

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise Unavailable("the store of keys is away")

    async def load(self, tenant: str, known: Collection[int] = ()) -> Mapping[int, bytes]:
        self._check()
        return await super().load(tenant, known)

    async def numbers(self) -> Mapping[str, Collection[int]]:
        self._check()
        return await super().numbers()


def away_of(home: Path) -> tuple[Away, TenantKeys]:
    store = Away(home / "keys" / "tenants")
    return store, TenantKeys(store, Vault(home / "keys"))


async def test_while_the_store_of_keys_is_away_those_who_are_known_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keys = away_of(tmp_path)
    ingest = await opened(tmp_path, keys)
    await ingest.append([batch(0, "acme")])
    store.away = True
    left, why = await ingest.append([batch(1, "new", "acme")])
    asked = store.asked
    left, _ = await ingest.append([*left, batch(2, "acme"), batch(3, "acme", "new")])
    assert store.asked == asked

    store.away = False
    monkeypatch.setattr(sealing, "_AGAIN", 0.0)
    assert await ingest.append(left) == ([], None)
    lies = await read(ingest)
    ingest.close()
    assert isinstance(why, Failure)
    assert why.code is Code.UNAVAILABLE
    assert [one.record for _, one in lies] == ["r0", "r1", "r2", "r3", "r1", "r3"]
    assert [one.tenant for _, one in lies] == ["acme", "acme", "acme", "acme", "new", "new"]


async def test_who_reads_waits_for_keys_that_are_away(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    await first.append([batch(0, "acme", "other")])
    first.close()
    store, keys = away_of(tmp_path)
    store.away = True
    again = await opened(tmp_path, keys)

    with pytest.raises(Failure) as caught:
        await again.after(Position())
    assert caught.value.code is Code.UNAVAILABLE
    store.away = False
    assert len((await again.after(Position()))[0]) == 2
    again.close()


async def test_keys_that_another_process_destroyed_are_let_go(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    ingest = await opened(tmp_path, keys)
    await ingest.append([batch(0, "gone", "acme")])
    await keys_of(tmp_path).shred("gone")
    await keys.look()
    await ingest.append([batch(1, "gone", "acme"), batch(2, "gone")])
    lies = await read(ingest)
    ingest.close()

    assert [(number, one.tenant, one.record) for number, one in lies] == [(1, "acme", "r0"), (2, "acme", "r1")]


async def test_a_key_that_is_lost_is_damage_and_one_that_does_not_open_stops_who_reads(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    await first.append([batch(0, "acme", "other")])
    first.close()
    (tmp_path / "keys" / "tenants" / "other" / "1").unlink()
    lost = await opened(tmp_path)
    for _ in range(2):
        assert [one.tenant for _, one in await read(lost)] == ["acme"]
    assert lost.damaged == 1
    lost.close()

    (tmp_path / "keys" / "secrets.key").write_bytes(os.urandom(32))
    other = await opened(tmp_path)
    with pytest.raises(Failure, match="AIMASS_SECRETS_KEY is not the one"):
        await read(other)
    left, why = await other.append([batch(1, "acme")])
    assert [one.record for batch in left for one in records_of(batch.records)] == ["r1"]
    assert "AIMASS_SECRETS_KEY is not the one" in str(why)
    other.close()
    assert other.sequence == 2


async def test_without_a_key_of_the_installation_sealed_records_are_not_read(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    await first.append([batch(0, "acme")])
    first.close()
    without = Ingest(Segments(tmp_path / RECORDS))
    await without.open()

    with pytest.raises(Failure, match="AIMASS_SECRETS_KEY is not set"):
        await without.read(Position())
    without.close()


async def test_an_archive_of_a_home_folder_has_the_records_and_what_opens_them(tmp_path: Path) -> None:
    async with logs(tmp_path / "home") as centre:
        await tell(centre, line(f"{MARK} before", "one"), line(f"{MARK} before", "two"))
        await found(centre, MARK, 1, "one")
        await found(centre, MARK, 1, "two")
        await asyncio.to_thread(backup.write, tmp_path / "home", tmp_path / "all.aimass")
    backup.read(tmp_path / "all.aimass", tmp_path / "back")
    assert not (tmp_path / "back" / "logs-store" / "index").exists()

    async with logs(tmp_path / "back") as again:
        await found(again, MARK, 1, "one")
        await tell(again, line(f"{MARK} after", "two"))
        await found(again, MARK, 2, "two")


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.logs.test_ingest_sealing import batch, opened
async def main():
    ingest = await opened(Path(sys.argv[1]), most=20_000)
    number = int(sys.argv[2])
    while True:
        await ingest.append([batch(n, "acme", "other") for n in range(number, number + 3)])
        number += 3
        print(number, flush=True)
asyncio.run(main())
"""


async def test_a_killed_writer_loses_nothing_and_no_head_has_a_number_twice(tmp_path: Path) -> None:
    confirmed, environment = 0, {**os.environ, "PYTHONPATH": f"{os.getcwd()}:{os.getcwd()}/sdk"}
    for _ in range(3):
        command = [sys.executable, "-c", _WRITER, str(tmp_path), str(confirmed)]
        writer = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
        assert writer.stdout
        for _ in range(30):
            confirmed = int(await writer.stdout.readline())
        writer.kill()
        await writer.wait()

    lies = await frames(tmp_path)
    texts = [[one.text for one in records_of(records)] for _, records in lies]
    sealed = [(run.head, run.tenant, frame.sequence) for frame, _ in lies for run in runs(frame.block)]
    assert texts[:confirmed] == [[f"{MARK} {number}"] * 2 for number in range(confirmed)]
    assert [frame.sequence for frame, _ in lies] == list(range(0, 2 * len(lies), 2))
    assert len(set(sealed)) == len(sealed) == 2 * len(lies)
    assert len({head for head, *_ in sealed}) >= 2 * 3
    assert told(tmp_path / RECORDS) == set()
