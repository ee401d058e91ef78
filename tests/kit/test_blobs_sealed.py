"""Blobs under the keys of their tenants: nothing of them lies plain, and what lay plain before is still there."""

import asyncio
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.adapters import Storage
from services.kit.blobs import FolderBlobs
from services.kit.digests import digest_of, name_of
from services.kit.errors import Code
from services.kit.sealed import CHUNK, HEAD, TAG
from services.kit.uploads import FolderUploads
from tests.support.power import Disk
from tests.support.refused import code_of
from tests.support.storages import settings, storage

CANARY = b"canary of acme, a row of somebody's data\n"
DATA = CANARY * 10_000


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Storage]:
    made = storage(tmp_path, {})
    yield made
    made.blobs.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[FolderBlobs]:
    """The same folder as it was used before there were keys."""
    made = FolderBlobs(tmp_path / "blobs")
    yield made
    made.close()


def lying(home: Path, tenant: str, digest: str) -> Path:
    return home / "blobs" / name_of(tenant, digest)


def having(home: Path, wanted: bytes = CANARY) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and wanted in path.read_bytes()]


async def whole(stored: Storage, digest: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in stored.blobs.read("acme", digest, offset)])


async def local(stored: Storage, digest: str) -> bytes:
    async with stored.blobs.local("acme", digest) as path:
        return path.read_bytes()


async def test_no_store_has_the_bytes_at_any_step(stored: Storage, tmp_path: Path) -> None:
    (stored.blobs.scratch("acme") / "made").write_bytes(DATA + b"!")
    await stored.blobs.put("acme", DATA)
    await stored.blobs.adopt("acme", stored.blobs.scratch("acme") / "made")
    upload = (await stored.uploads.begin("acme")).upload
    await stored.uploads.write("acme", upload, 0, DATA)
    half = having(tmp_path)
    await stored.uploads.write("acme", upload, len(DATA), b"?")
    done = await stored.uploads.commit("acme", upload, digest_of(DATA + b"?"))

    assert half == having(tmp_path) == []
    assert await local(stored, done.digest) == DATA + b"?"
    assert having(tmp_path) == []


async def test_what_lies_sealed_is_there_after_a_power_cut_and_so_is_its_key(
    stored: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, digest = Disk(monkeypatch), await stored.blobs.put("acme", DATA)

    assert disk.has(lying(tmp_path, "acme", digest))
    keys = [path for path in tmp_path.rglob("*") if path.is_file() and "blobs/acme" not in str(path)]
    assert len(keys) >= 2
    assert [path for path in keys if not disk.has(path)] == []


@pytest.mark.parametrize("kept", [0, 1, 2])
async def test_a_piece_of_a_chunk_that_a_killed_process_left_is_as_if_it_had_not_come(
    stored: Storage, tmp_path: Path, kept: int
) -> None:
    upload = (await stored.uploads.begin("acme")).upload
    file = tmp_path / "blobs" / "acme" / "uploads" / upload
    for number in range(kept):
        await stored.uploads.write("acme", upload, number * len(DATA), DATA)
    before = file.stat().st_size
    await stored.uploads.write("acme", upload, kept * len(DATA), DATA)
    frame = file.read_bytes()[before:]
    for torn in (1, 5, 8, 10, HEAD - 1, HEAD, HEAD + 1, 3 * CHUNK, len(frame) - 13, len(frame) - 3, len(frame) - 1):
        os.truncate(file, before)
        file.write_bytes(file.read_bytes() + frame[:torn])
        assert (await stored.uploads.status("acme", upload)).size == kept * len(DATA), torn
        await stored.uploads.write("acme", upload, kept * len(DATA), DATA)
    whole = DATA * (kept + 1)
    done = await stored.uploads.commit("acme", upload, digest_of(whole))

    assert await stored.blobs.get("acme", done.digest) == whole


@pytest.mark.parametrize("length", [1, 4, 1024 - HEAD - 16])
async def test_zeros_of_a_machine_that_lost_its_power_take_no_chunk_away(
    stored: Storage, tmp_path: Path, length: int
) -> None:
    upload = (await stored.uploads.begin("acme")).upload
    file = tmp_path / "blobs" / "acme" / "uploads" / upload
    for number in range(2):
        await stored.uploads.write("acme", upload, number * length, b"?" * length)
    kept = file.stat().st_size
    for zeros in (1, 3, 4, 11, 13, 4096, 3 * 2**20):
        os.truncate(file, kept + zeros)
        assert (await stored.uploads.status("acme", upload)).size == 2 * length, zeros
    await stored.uploads.write("acme", upload, 2 * length, b"!")
    done = await stored.uploads.commit("acme", upload, digest_of(b"?" * 2 * length + b"!"))

    assert done.size == 2 * length + 1


@pytest.mark.parametrize("zeros", [5, HEAD, 4096])
async def test_zeros_in_place_of_the_first_chunk_are_no_chunk_and_what_comes_lies_sealed(
    stored: Storage, tmp_path: Path, zeros: int
) -> None:
    upload = (await stored.uploads.begin("acme")).upload
    file = tmp_path / "blobs" / "acme" / "uploads" / upload
    os.truncate(file, zeros)

    assert (await stored.uploads.status("acme", upload)).size == 0
    await stored.uploads.write("acme", upload, 0, b"told in confidence")
    assert b"told in confidence" not in file.read_bytes()
    done = await stored.uploads.commit("acme", upload, digest_of(b"told in confidence"))
    assert done.size == len(b"told in confidence")


async def test_an_upload_of_zeros_from_before_there_were_keys_goes_on(stored: Storage, tmp_path: Path) -> None:
    upload = (await stored.uploads.begin("acme")).upload
    (tmp_path / "blobs" / "acme" / "uploads" / upload).write_bytes(bytes(HEAD) + b"!")

    assert (await stored.uploads.status("acme", upload)).size == HEAD + 1
    done = await stored.uploads.commit("acme", upload, digest_of(bytes(HEAD) + b"!"))
    assert done.size == HEAD + 1


async def test_every_offset_reads_on_to_the_end(stored: Storage) -> None:
    data = os.urandom(40 * CHUNK + 17)
    digest, seeded = await stored.blobs.put("acme", data), random.Random(5)
    edges = [n * CHUNK + step for n in (0, 1, 16, 17, 32, 40) for step in (-1, 0, 1) if n or step >= 0]

    for offset in [*edges, len(data) - 1, len(data), *(seeded.randrange(len(data)) for _ in range(20))]:
        assert await whole(stored, digest, offset) == data[offset:], offset
    assert await code_of(anext(stored.blobs.read("acme", digest, len(data) + 1))) is Code.WRONG_OFFSET


async def test_a_read_from_an_offset_opens_its_own_chunks_only(stored: Storage, tmp_path: Path) -> None:
    data = os.urandom(40 * CHUNK)
    digest = await stored.blobs.put("acme", data)
    damage(lying(tmp_path, "acme", digest), HEAD + 3 * (CHUNK + TAG))

    assert await whole(stored, digest, 4 * CHUNK) == data[4 * CHUNK :]
    assert await code_of(whole(stored, digest)) is Code.DIGEST_MISMATCH


def damage(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


async def gather(stored: Storage, digest: str, got: bytearray) -> None:
    async for piece in stored.blobs.read("acme", digest):
        got += piece


async def test_damage_gives_the_right_beginning_or_nothing(stored: Storage, tmp_path: Path) -> None:
    seeded = random.Random(7)
    for number in range(60):
        data = seeded.randbytes(seeded.randrange(1, 3 * CHUNK))
        digest = await stored.blobs.put("acme", data)
        path = lying(tmp_path, "acme", digest)
        if number % 3:
            damage(path, seeded.randrange(HEAD, path.stat().st_size))
        else:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[: seeded.randrange(HEAD, path.stat().st_size)])

        got = bytearray()
        assert await code_of(gather(stored, digest, got)) is Code.DIGEST_MISMATCH
        assert data.startswith(got)
        assert await code_of(stored.blobs.get("acme", digest)) is Code.DIGEST_MISMATCH
        assert await code_of(local(stored, digest)) is Code.DIGEST_MISMATCH


async def test_a_blob_that_was_put_in_anothers_place_is_not_given(stored: Storage, tmp_path: Path) -> None:
    mine = await stored.blobs.put("acme", b"mine")
    for tenant, data in (("acme", b"more"), ("rival", b"mine")):
        other = await stored.blobs.put(tenant, data)
        await stored.blobs.delete("acme", mine)
        place = lying(tmp_path, "acme", mine)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(lying(tmp_path, tenant, other).read_bytes())

        assert await code_of(stored.blobs.get("acme", mine)) is Code.DIGEST_MISMATCH
        assert await code_of(whole(stored, mine)) is Code.DIGEST_MISMATCH


async def test_what_lay_plain_is_read_and_is_sealed_when_it_comes_again(
    stored: Storage, plain: FolderBlobs, tmp_path: Path
) -> None:
    digest = await plain.put("acme", DATA)
    first = await stored.blobs.size("acme", digest), await whole(stored, digest, 7), await local(stored, digest)
    reading = stored.blobs.read("acme", digest)
    begun = await anext(reading)
    await stored.blobs.put("acme", DATA)

    assert first == (len(DATA), DATA[7:], DATA)
    assert begun + b"".join([piece async for piece in reading]) == DATA
    assert having(tmp_path) == []
    assert await stored.blobs.get("acme", digest) == DATA


async def test_an_upload_that_was_begun_plain_is_gone_on_with(stored: Storage, plain: FolderBlobs) -> None:
    upload = (await FolderUploads(plain).begin("acme")).upload
    await FolderUploads(plain).write("acme", upload, 0, b"ab")
    await stored.uploads.write("acme", upload, 2, b"c")

    assert (await stored.uploads.status("acme", upload)).size == 3
    assert (await stored.uploads.commit("acme", upload, digest_of(b"abc"))).size == 3
    assert await stored.blobs.get("acme", digest_of(b"abc")) == b"abc"


async def test_chunks_of_an_upload_that_were_moved_are_not_committed(stored: Storage, tmp_path: Path) -> None:
    upload = (await stored.uploads.begin("acme")).upload
    for number in range(4):
        await stored.uploads.write("acme", upload, number * 10, bytes([number]) * 10)
    path = tmp_path / "blobs" / "acme" / "uploads" / upload
    data = path.read_bytes()
    one = len(data) // 4
    path.write_bytes(data[one : 2 * one] + data[:one] + data[2 * one :])
    digest = digest_of(b"".join(bytes([number]) * 10 for number in range(4)))

    assert await code_of(stored.uploads.commit("acme", upload, digest)) is Code.DIGEST_MISMATCH


async def test_reads_and_writes_go_on_while_keys_are_changed(stored: Storage) -> None:
    assert stored.keys
    known = {await stored.blobs.put("acme", data): data for data in (os.urandom(9 * CHUNK) for _ in range(4))}
    upload, parts = (await stored.uploads.begin("acme")).upload, [os.urandom(5000) for _ in range(6)]

    async def use(digest: str) -> None:
        for number in range(6):
            assert await whole(stored, digest) == known[digest]
            await stored.blobs.put("acme", f"{digest} {number}".encode())

    async def send() -> None:
        for number, part in enumerate(parts):
            await stored.uploads.write("acme", upload, number * 5000, part)
            await stored.keys.rotate("acme", number + 1)  # type: ignore[union-attr]

    await asyncio.gather(send(), *(use(digest) for digest in known))
    digest = digest_of(b"".join(parts))
    await stored.uploads.commit("acme", upload, digest)

    assert (await stored.keys.current("acme")).number == 7
    assert await stored.blobs.get("acme", digest) == b"".join(parts)
    assert {digest: await stored.blobs.get("acme", digest) for digest in known} == known


async def test_a_tenant_whose_keys_are_destroyed_has_no_bytes_and_gets_none(stored: Storage, tmp_path: Path) -> None:
    assert stored.keys
    mine, other = await stored.blobs.put("acme", DATA), await stored.blobs.put("rival", DATA)
    upload = (await stored.uploads.begin("acme")).upload
    await stored.uploads.write("acme", upload, 0, DATA)
    await stored.keys.shred("acme")
    again = storage(tmp_path, {})

    for one in (stored, again):
        assert await code_of(one.blobs.get("acme", mine)) is Code.FAILED_PRECONDITION
        assert await code_of(whole(one, mine)) is Code.FAILED_PRECONDITION
        assert await code_of(one.blobs.put("acme", b"new")) is Code.FAILED_PRECONDITION
        assert await code_of(one.uploads.commit("acme", upload, mine)) is Code.FAILED_PRECONDITION
        assert await one.blobs.get("rival", other) == DATA
    again.blobs.close()


@pytest.mark.parametrize("kind", ["near", pytest.param("sealed", marks=pytest.mark.far)])
@pytest.mark.parametrize("rotations", [0, 1])
async def test_what_no_key_opens_any_more_is_sealed_when_the_same_bytes_come_again(
    tmp_path: Path, kind: str, rotations: int
) -> None:
    before = storage(tmp_path, env := settings(kind))
    assert before.keys
    await before.keys.current("acme")
    for number in range(rotations):
        await before.keys.rotate("acme", number + 1)
    digest = await before.blobs.put("acme", DATA)
    if before.bucket:
        await before.bucket.delete([f"keys/acme/{1 + number}" for number in range(rotations + 1)])
    else:
        shutil.rmtree(tmp_path / "keys" / "tenants" / "acme")
    after = storage(tmp_path, env)
    await after.blobs.put("acme", b"makes key 1 anew")
    lost = await code_of(after.blobs.get("acme", digest))
    await after.blobs.put("acme", DATA)

    assert lost is (Code.FAILED_PRECONDITION if rotations else Code.DIGEST_MISMATCH)
    assert await after.blobs.get("acme", digest) == DATA
    before.blobs.close()
    after.blobs.close()


async def test_what_is_cut_off_is_sealed_when_the_same_bytes_come_again(stored: Storage, tmp_path: Path) -> None:
    digest = await stored.blobs.put("acme", DATA)
    for left in (HEAD + 3, len(DATA) // 2):
        os.truncate(lying(tmp_path, "acme", digest), left)
        await stored.blobs.put("acme", DATA)

        assert await stored.blobs.get("acme", digest) == DATA
