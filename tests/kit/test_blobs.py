import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from services.kit.adapters import Storage
from services.kit.blobs import Blobs, FolderBlobs
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from services.kit.uploads import Uploads
from tests.support.power import Disk
from tests.support.refused import code_of
from tests.support.storages import ALL, settings, storage


@pytest.fixture(params=ALL)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made = storage(tmp_path, settings(request.param))
    yield made
    made.blobs.close()


@pytest.fixture
def blobs(stored: Storage) -> Blobs:
    return stored.blobs


@pytest.fixture
def uploads(stored: Storage) -> Uploads:
    return stored.uploads


@pytest.fixture
def near(tmp_path: Path) -> Iterator[FolderBlobs]:
    made = FolderBlobs(tmp_path)
    yield made
    made.close()


async def test_bytes_come_back_by_their_digest(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello")

    assert digest == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert await blobs.get("acme", digest) == b"hello"
    assert await blobs.size("acme", digest) == 5


async def test_the_same_bytes_are_kept_once(near: FolderBlobs, tmp_path: Path) -> None:
    await asyncio.gather(*(near.put("acme", b"hello") for _ in range(8)))

    assert len([path for path in (tmp_path / "acme").rglob("*") if path.is_file()]) == 1


async def test_what_is_kept_is_there_after_a_power_cut(near: FolderBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, file = Disk(monkeypatch), near.scratch("acme") / "model"
    file.write_bytes(b"model")

    for digest in (await near.put("acme", b"hello"), await near.adopt("acme", file)):
        assert disk.has(near.path("acme", digest))


async def test_a_tenant_has_its_own_bytes(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello")

    assert await code_of(blobs.get("other", digest)) is Code.NOT_FOUND


async def test_damaged_bytes_are_never_served(near: FolderBlobs) -> None:
    digest = await near.put("acme", b"hello world")
    path = near.path("acme", digest)
    path.chmod(0o644)
    path.write_bytes(b"hellO world")

    assert await code_of(near.get("acme", digest)) is Code.DIGEST_MISMATCH
    assert await code_of(anext(near.read("acme", digest))) is Code.DIGEST_MISMATCH
    assert await code_of(near.local("acme", digest).__aenter__()) is Code.DIGEST_MISMATCH


async def test_a_blob_is_a_file_of_this_machine_for_as_long_as_it_is_needed(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello")
    for _ in range(2):
        async with blobs.local("acme", digest) as path:
            assert path.read_bytes() == b"hello"
            assert path.stat().st_mode & 0o222 == 0


async def test_the_file_of_a_blob_is_called_the_same_whenever_it_is_used(blobs: Blobs) -> None:
    digest, names = await blobs.put("acme", b"hello"), set[str]()
    for _ in range(2):
        async with blobs.local("acme", digest) as path:
            names.add(path.name)

    assert len(names) == 1


async def test_a_file_of_any_size_is_taken_over(blobs: Blobs) -> None:
    whole = os.urandom(20 * 2**20)
    for number in range(2):
        file = blobs.scratch("acme") / f"model-{number}"
        file.write_bytes(whole)
        digest = await blobs.adopt("acme", file)
        assert not file.exists()

    assert await blobs.size("acme", digest) == len(whole)
    assert await blobs.get("acme", digest) == whole


async def test_what_is_deleted_is_not_found(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello")
    for _ in range(2):
        await blobs.delete("acme", digest)

    assert not await blobs.exists("acme", digest)
    assert await code_of(blobs.get("acme", digest)) is Code.NOT_FOUND


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:" + "g" * 64, "sha256:../" + "a" * 61, "", "md5:1"])
async def test_only_a_digest_names_a_blob(blobs: Blobs, name: str) -> None:
    assert await code_of(blobs.get("acme", name)) is Code.INVALID_VALUE
    assert await code_of(blobs.exists("acme", name)) is Code.INVALID_VALUE
    assert await code_of(blobs.local("acme", name).__aenter__()) is Code.INVALID_VALUE


async def test_reading_goes_on_from_an_offset(blobs: Blobs) -> None:
    digest = await blobs.put("acme", bytes(range(200)) * 10_000)

    got = b"".join([piece async for piece in blobs.read("acme", digest, 1_500_000)])
    assert got == (bytes(range(200)) * 10_000)[1_500_000:]


@hypothesis.settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=6))
async def test_chunks_make_the_whole(uploads: Uploads, blobs: Blobs, chunks: list[bytes]) -> None:
    upload, offset = (await uploads.begin("acme")).upload, 0
    for chunk in chunks:
        assert await code_of(uploads.write("acme", upload, offset + 1, chunk)) is Code.WRONG_OFFSET
        offset = (await uploads.write("acme", upload, offset, chunk)).size
    whole = b"".join(chunks)
    done = await uploads.commit("acme", upload, digest_of(whole))

    assert await blobs.get("acme", done.digest) == whole
    assert await uploads.commit("acme", upload, done.digest) == done


async def test_a_wrong_offset_says_where_to_go_on(uploads: Uploads) -> None:
    upload = (await uploads.begin("acme")).upload
    await uploads.write("acme", upload, 0, b"12345")

    with pytest.raises(Failure) as caught:
        await uploads.write("acme", upload, 3, b"x")
    assert caught.value.committed_size == 5


async def test_a_wrong_digest_keeps_nothing(uploads: Uploads) -> None:
    upload = (await uploads.begin("acme")).upload
    await uploads.write("acme", upload, 0, b"12345")

    assert await code_of(uploads.commit("acme", upload, digest_of(b"other"))) is Code.DIGEST_MISMATCH
    assert await code_of(uploads.status("acme", upload)) is Code.NOT_FOUND


async def test_a_committed_upload_takes_no_more(uploads: Uploads) -> None:
    upload = (await uploads.begin("acme")).upload
    await uploads.commit("acme", upload, digest_of(b""))

    assert await code_of(uploads.write("acme", upload, 0, b"x")) is Code.FAILED_PRECONDITION


async def test_another_tenants_upload_is_not_found(uploads: Uploads) -> None:
    upload = (await uploads.begin("acme")).upload

    assert await code_of(uploads.status("other", upload)) is Code.NOT_FOUND
    assert await code_of(uploads.status("acme", "../../x")) is Code.NOT_FOUND
