"""Records of a tenant whose keys are destroyed: out of the files and the index, and nobody else's with them."""

import asyncio
import random
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.logs.encoding import pack, repack, unpack
from services.logs.ingest.forgotten import Forgotten, without
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest, Stored, numbered_records
from services.logs.search.domain import All
from services.logs.search.index import Index, Window
from services.logs.search.service import Search
from services.logs.tables import Kept, records_of, tenant_of
from tests.logs.conftest import found, line, logs, search, tell
from tests.logs.records import record, table
from tests.support.house import House, until
from tests.support.kept import kept

WORDS = "canary 9f2c41d7b8e35a06"  # no compression finds a part of it before


async def shred(centre: House, tenant: str) -> None:
    assert centre.runtime.storage.keys
    await centre.runtime.storage.keys.shred(tenant)
    centre.runtime.forgetting.wake()


def read(home: Path) -> bool:
    """Whether the words can be read in a file of the index."""
    files = [path for path in (home / "logs-store" / "index").rglob("*") if path.is_file()]
    return any(b"9f2c41d7b8e35a06" in path.read_bytes() for path in files)


async def forgotten(home: Path) -> None:
    await until(lambda: (home / "logs-store" / "forgotten").exists())


async def behind(ingest: Ingest, position: Position) -> list[Stored]:
    """All that the files have behind a position."""
    found, last = list[Stored](), None
    while position != last:
        last = position
        stored, position = await ingest.read(last)
        found += stored
    return found


async def nothing(tenants: Collection[str]) -> None:
    """There is no index."""


async def test_nothing_of_a_forgotten_tenant_is_found_or_kept(tmp_path: Path) -> None:
    async with logs(tmp_path) as centre:
        await tell(centre, line(f"{WORDS} one", "gone"), line("others are here", "stays"), line(WORDS, "gone"))
        await found(centre, "canary", 2, "gone")
        await found(centre, "others", 1, "stays")
        await shred(centre, "gone")
        await forgotten(tmp_path)

        assert await search(centre, "canary", "gone") == []
        await tell(centre, line("others come later", "stays"), line(f"{WORDS} again", "gone"))
        await found(centre, "others", 2, "stays")
        assert await search(centre, "canary", "gone") == []
    assert {one.tenant for one in await kept(tmp_path)} >= {"stays"}
    assert "gone" not in {one.tenant for one in await kept(tmp_path)}
    assert not read(tmp_path)


async def test_a_log_centre_that_was_away_forgets_when_it_starts(tmp_path: Path) -> None:
    async with logs(tmp_path) as centre:
        await tell(centre, line(WORDS, "gone"), line("others", "stays"))
        await found(centre, "canary", 1, "gone")
        await found(centre, "others", 1, "stays")
        keys = centre.runtime.storage.keys
        assert keys
    assert read(tmp_path)
    await keys.shred("gone")

    async with logs(tmp_path) as centre:
        await forgotten(tmp_path)
        await found(centre, "others", 1, "stays")
        assert await search(centre, "canary", "gone") == []
    assert not read(tmp_path)
    assert "gone" not in {one.tenant for one in await kept(tmp_path)}


async def test_who_is_noted_has_nothing_kept_from_the_start_on(tmp_path: Path) -> None:
    (tmp_path / "logs-store").mkdir()
    (tmp_path / "logs-store" / "forgotten").write_text('["gone"]')
    async with logs(tmp_path) as centre:
        await tell(centre, line(WORDS, "gone"), line("others", "stays"))
        await found(centre, "others", 1, "stays")

        assert await search(centre, "canary", "gone") == []


def test_what_is_not_committed_when_it_is_dropped_leaves_bytes_as_well(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.open()
    index.add([(0, record(tenant="gone", text=WORDS)), (1, table(3, tenant="gone")), (4, table(2))])

    assert index.drop(["gone"])
    index.commit((0, 0))
    assert [index.total(Scope(tenant), All(), Window()) for tenant in ("gone", "acme")] == [0, 2]
    index.close()


async def test_one_who_follows_goes_on_where_he_was(tmp_path: Path) -> None:
    ingest = Ingest(Segments(tmp_path / "records", most=400))
    await ingest.open()
    half = Position()
    for number in range(30):
        mixed = [record(number, tenant=tenant, text=f"{WORDS} {number}") for tenant in ("acme", "gone")]
        await ingest.append([Batch(f"event-{number}", mixed)])
        if number == 14:
            _, half = await ingest.read(half)
    dropped = list[str]()

    async def unfind(tenants: Collection[str]) -> None:
        dropped.extend(tenants)

    await Forgotten(tmp_path / "forgotten", ingest, unfind).forget(["gone", "never"])
    left = list(numbered_records(await behind(ingest, half)))
    ingest.close()

    assert [(one.tenant, one.record) for _, one in left] == [("acme", f"r{number}") for number in range(15, 30)]
    assert sorted(dropped) == ["gone", "never"]


async def test_one_who_follows_comes_past_all_that_was_taken_out(tmp_path: Path) -> None:
    """More than is read at a time: he must not wait there for what comes next, which may be long."""
    ingest = Ingest(Segments(tmp_path / "records"))
    await ingest.open()
    for number in range(30):
        texts = [random.Random(100 * number + part).randbytes(8_000).hex() for part in range(20)]
        await ingest.append([Batch(f"gone-{number}", [record(tenant="gone", text=text) for text in texts])])
    await ingest.append([Batch("last", [record(1)])])
    await Forgotten(tmp_path / "forgotten", ingest, nothing).forget(["gone"])
    stored, position = list[Stored](), Position()
    async with asyncio.timeout(10):
        while not stored:
            stored, position = await ingest.after(position)
    ingest.close()

    assert [one.record for _, one in numbered_records(stored)] == ["r1"]


async def test_a_pass_that_was_broken_off_is_made_again(tmp_path: Path) -> None:
    ingest = Ingest(Segments(tmp_path / "records", most=300))
    await ingest.open()
    for number in range(20):
        await ingest.append([Batch(f"event-{number}", [record(number, tenant="gone")])])

    async def fails(tenants: Collection[str]) -> None:
        raise OSError("the disk is away")

    with pytest.raises(OSError, match="away"):
        await Forgotten(tmp_path / "forgotten", ingest, fails).forget(["gone"])
    (tmp_path / "records" / "00000000000000000000.seg.new").write_bytes(b"half of a file")

    again = Forgotten(tmp_path / "forgotten", ingest, nothing)
    await again.forget(["gone"])
    stored, _ = await ingest.read(Position())
    ingest.close()

    assert stored == []
    assert (tmp_path / "forgotten").read_text() == '["gone"]'


class Stubborn(Ingest):
    """Cannot write its first file anew."""

    async def rewrite(self, segment: int, change: Callable[[bytes], bytes | None]) -> bool:
        if segment == 0:
            raise ValueError("records do not fit")
        return await super().rewrite(segment, change)


async def test_a_file_that_cannot_be_written_anew_keeps_nothing_else(tmp_path: Path) -> None:
    ingest = Stubborn(Segments(tmp_path / "records", most=1))
    search = Search(ingest, Index(tmp_path / "logs-store" / "index"))
    await ingest.open()
    following = asyncio.create_task(search.follow())
    for number in range(9):
        await ingest.append([Batch(f"event-{number}", [record(number, tenant="gone", text=WORDS), record(99)])])

    async def indexed() -> bool:
        return await search.total(Scope("acme"), "", Window()) == 9

    await until(indexed)
    with pytest.raises(ValueError, match="do not fit"):
        await Forgotten(tmp_path / "forgotten", ingest, search.forget).forget(["gone"])

    assert {one.sequence for one in await behind(ingest, Position()) if tenant_of(one.record) == "gone"} == {0}
    assert await search.total(Scope("gone"), "", Window()) == 0
    assert await search.total(Scope("acme"), "", Window()) == 9
    assert not read(tmp_path)
    assert not (tmp_path / "forgotten").exists()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await search.close()
    ingest.close()


@pytest.mark.parametrize("tenants", [[], ["gone"], ["gone", "acme"], ["acme"]])
def test_a_block_without_some_records_is_as_long_and_has_the_others(tenants: list[str]) -> None:
    order = [(number, tenant) for number in range(9) for tenant in ("acme", "gone")]
    records: list[Kept] = [record(number, tenant=tenant, text="x" * number) for number, tenant in order]
    records += [table(5, 5 * number, tenant=tenant) for number, tenant in order]
    block = pack(records)
    changed = without(tenants, block)

    assert (changed is None) == (not tenants)
    if changed is not None:
        assert len(changed) == len(block)
        assert list(records_of(unpack(changed))) == [one for one in records_of(records) if one.tenant not in tenants]


def test_records_that_need_more_without_one_between_them_fit_all_the_same() -> None:
    """Each says what the one before says, too far away from the last but one for a window of 32 KiB."""
    words = [random.Random(seed).randbytes(many).hex() for seed, many in enumerate((8_000, 7_000, 7_000))]
    order = [("acme", words[0]), ("acme", words[1]), ("gone", words[0]), ("acme", words[2]), ("acme", words[0])]
    records = [record(number, tenant=tenant, text=text) for number, (tenant, text) in enumerate(order)]
    block = pack(records)
    changed = without(["gone"], block)

    assert changed is not None
    assert len(changed) == len(block)
    assert unpack(changed) == [one for one in records if one.tenant == "acme"]


def test_records_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit into 10 bytes"):
        repack([record()], 10)
