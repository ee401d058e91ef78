"""Uploads and the store behind them, when things go wrong between two steps."""

import asyncio
import errno
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit import uploads as uploads_module
from services.kit.adapters import Storage
from services.kit.blobs import CHUNK, Blobs, FolderBlobs
from services.kit.digests import digest_of, hash_of
from services.kit.errors import Code, Failure
from services.kit.uploads import FolderUploads, Uploads
from tests.support.power import Disk
from tests.support.refused import code_of
from tests.support.storages import ALL, settings, storage

ABC = digest_of(b"abc")


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
def folder(tmp_path: Path) -> Iterator[FolderBlobs]:
    """The near store."""
    made = FolderBlobs(tmp_path)
    yield made
    made.close()


@pytest.fixture
def near(folder: FolderBlobs) -> FolderUploads:
    return FolderUploads(folder)


async def begun(uploads: Uploads, *chunks: bytes, tenant: str = "acme") -> str:
    upload = (await uploads.begin(tenant)).upload
    size = 0
    for chunk in chunks:
        size = (await uploads.write(tenant, upload, size, chunk)).size
    return upload


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ALL)
async def test_an_upload_goes_on_in_another_process(kind: str, tmp_path: Path) -> None:
    env = settings(kind)
    first, second = storage(tmp_path, env), storage(tmp_path if kind == "near" else tmp_path / "other", env)
    upload = await begun(first.uploads, b"ab")
    status = await second.uploads.status("acme", upload)
    await second.uploads.write("acme", upload, status.size, b"c")
    committed = await first.uploads.commit("acme", upload, ABC)
    for found in (first, second):
        assert await found.blobs.get("acme", ABC) == b"abc"
        found.blobs.close()

    assert (status.size, committed.size, committed.digest) == (2, 3, ABC)


async def test_a_committed_upload_leaves_its_note_and_its_bytes_and_nothing_else(
    near: FolderUploads, tmp_path: Path
) -> None:
    upload = await begun(near, b"abc")
    await near.commit("acme", upload, ABC)
    name = ABC.removeprefix("sha256:")

    assert files(tmp_path) == [f"acme/sha256/{name[:2]}/{name}", f"acme/uploads/{upload}.done"]


async def test_a_commit_may_be_repeated_with_the_same_digest_only(uploads: Uploads) -> None:
    upload = await begun(uploads, b"abc")
    first = await uploads.commit("acme", upload, ABC)

    assert await uploads.commit("acme", upload, ABC) == first == await uploads.status("acme", upload)
    assert await code_of(uploads.commit("acme", upload, digest_of(b"x"))) is Code.DIGEST_MISMATCH


async def test_what_was_uploaded_is_there_after_a_power_cut(
    near: FolderUploads, folder: FolderBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, upload = Disk(monkeypatch), (await near.begin("acme")).upload
    for offset, chunk in enumerate((b"a", b"b", b"c")):
        await near.write("acme", upload, offset, chunk)
        assert disk.has(tmp_path / "acme" / "uploads" / upload)
    await near.commit("acme", upload, ABC)

    assert disk.has(tmp_path / "acme" / "uploads" / f"{upload}.done")
    assert disk.has(folder.path("acme", ABC))


async def test_a_crash_before_the_note_leaves_an_upload_that_can_be_committed(
    near: FolderUploads, folder: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begun(near, b"abc")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(uploads_module.os, "replace", crash)  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            near._commit("acme", upload, ABC)
    assert (await near.status("acme", upload)).size == 3
    await near.commit("acme", upload, ABC)

    assert await folder.get("acme", ABC) == b"abc"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_disk_that_fails_takes_back_the_chunk_that_it_did_not_keep(
    near: FolderUploads, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    upload = await begun(near, b"ab")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(uploads_module.os, "fsync", fail)  # type: ignore[attr-defined]
        with pytest.raises((Failure, OSError)) as caught:
            await near.write("acme", upload, 2, b"c")
    full = isinstance(caught.value, Failure) and caught.value.code is Code.STORAGE_FULL
    assert full == (number == errno.ENOSPC)
    assert (await near.status("acme", upload)).size == 2
    await near.write("acme", upload, 2, b"c")
    assert (await near.commit("acme", upload, ABC)).digest == ABC


async def test_of_a_chunk_that_does_not_fit_nothing_is_kept(near: FolderUploads) -> None:
    upload, limits = await begun(near, b"ab"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, limits[1]))
    try:
        with pytest.raises((Failure, OSError)):
            await near.write("acme", upload, 2, b"c" * CHUNK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert (await near.status("acme", upload)).size == 2


@pytest.mark.parametrize("upload", ["", "..", "../uploads", "a/b", "x" * 36, "0" * 36, "\0", "%2e%2e", "*"])
async def test_only_an_id_of_ours_names_an_upload(uploads: Uploads, upload: str) -> None:
    assert await code_of(uploads.status("acme", upload)) is Code.NOT_FOUND
    assert await code_of(uploads.write("acme", upload, 0, b"x")) is Code.NOT_FOUND
    assert await code_of(uploads.commit("acme", upload, ABC)) is Code.NOT_FOUND


@pytest.mark.parametrize("offset", [-1, 1, 4, 2**62])
async def test_a_chunk_goes_nowhere_but_to_the_end(uploads: Uploads, offset: int) -> None:
    upload = await begun(uploads, b"abc")
    with pytest.raises(Failure) as caught:
        await uploads.write("acme", upload, offset, b"x")

    assert (caught.value.code, caught.value.committed_size) == (Code.WRONG_OFFSET, 3)


async def test_an_empty_upload_is_the_empty_blob(uploads: Uploads, blobs: Blobs) -> None:
    upload = await begun(uploads)
    await uploads.commit("acme", upload, digest_of(b""))

    assert await blobs.get("acme", digest_of(b"")) == b""
    assert [piece async for piece in blobs.read("acme", digest_of(b""))] == []


async def test_an_upload_that_was_taken_back_is_not_found(uploads: Uploads) -> None:
    upload = await begun(uploads, b"abc")
    for _ in range(2):
        await uploads.abandon("acme", upload)

    assert await code_of(uploads.status("acme", upload)) is Code.NOT_FOUND
    assert await code_of(uploads.write("acme", upload, 3, b"d")) is Code.NOT_FOUND


async def test_what_was_abandoned_is_collected_when_it_is_old(uploads: Uploads, blobs: Blobs) -> None:
    old, done = await begun(uploads, b"ab"), await begun(uploads, b"abc")
    await uploads.commit("acme", done, ABC)

    assert await uploads.collect() == 0
    assert (await uploads.status("acme", old)).size == 2
    assert await uploads.collect(age=-5) == 1
    assert await code_of(uploads.status("acme", old)) is Code.NOT_FOUND
    assert (await uploads.status("acme", done)).digest == ABC
    assert await blobs.get("acme", ABC) == b"abc"


async def test_files_that_a_crash_left_on_their_way_are_collected(near: FolderUploads, folder: FolderBlobs) -> None:
    (folder.scratch("acme") / "left").write_bytes(b"x")
    (folder.scratch("acme") / "work").mkdir()
    await near.collect(age=-5)

    assert [path.name for path in folder.scratch("acme").iterdir()] == ["work"]


async def test_what_a_killed_training_left_in_a_folder_of_its_own_is_collected(
    near: FolderUploads, folder: FolderBlobs
) -> None:
    for name, days in (("old", 8), ("young", 6)):
        file = folder.scratch("acme") / name / "model.onnx"
        file.parent.mkdir()
        file.write_bytes(b"x")
        os.utime(file, (0, time.time() - days * 86_400))
    await near.collect()

    assert [file.parent.name for file in folder.scratch("acme").rglob("*.onnx")] == ["young"]


async def test_of_two_writers_at_one_offset_one_is_told_where_to_go_on(uploads: Uploads) -> None:
    upload = await begun(uploads, b"ab")
    outcomes = await asyncio.gather(
        *(uploads.write("acme", upload, 2, bytes([n])) for n in range(8)), return_exceptions=True
    )
    refused = [one for one in outcomes if isinstance(one, Failure)]

    assert [(one.code, one.committed_size) for one in refused] == [(Code.WRONG_OFFSET, 3)] * 7
    assert (await uploads.status("acme", upload)).size == 3


async def test_two_uploads_of_the_same_bytes_do_not_harm_each_other(uploads: Uploads, blobs: Blobs) -> None:
    names = [await begun(uploads, b"abc") for _ in range(8)]
    await asyncio.gather(*(uploads.commit("acme", name, ABC) for name in names))

    assert await blobs.get("acme", ABC) == b"abc"
    assert {(await uploads.status("acme", name)).digest for name in names} == {ABC}


async def test_a_tenant_cannot_commit_what_another_began(uploads: Uploads, blobs: Blobs) -> None:
    upload = await begun(uploads, b"abc")

    assert await code_of(uploads.commit("other", upload, ABC)) is Code.NOT_FOUND
    assert not await blobs.exists("other", ABC)


async def test_a_file_is_taken_over_and_is_gone_from_its_place(blobs: Blobs) -> None:
    file = blobs.scratch("acme") / "model"
    file.write_bytes(b"abc")

    assert await blobs.adopt("acme", file) == ABC
    assert not file.exists()
    assert await blobs.size("acme", ABC) == 3


async def test_a_file_that_is_there_already_is_taken_over_all_the_same(blobs: Blobs) -> None:
    await blobs.put("acme", b"abc")
    file = blobs.scratch("acme") / "again"
    file.write_bytes(b"abc")

    assert await blobs.adopt("acme", file) == ABC
    assert not file.exists()
    assert list(blobs.scratch("acme").iterdir()) == []


async def test_nobody_writes_into_what_is_kept(folder: FolderBlobs) -> None:
    await folder.put("acme", b"abc")

    assert os.stat(folder.path("acme", ABC)).st_mode & 0o222 == 0


async def test_writers_of_the_same_bytes_meet_in_one_file(folder: FolderBlobs, tmp_path: Path) -> None:
    assert set(await asyncio.gather(*(folder.put("acme", b"abc") for _ in range(20)))) == {ABC}
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1])
async def test_large_bytes_come_in_pieces_and_whole(blobs: Blobs, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    digest = await blobs.put("acme", data[:size])
    pieces = [piece async for piece in blobs.read("acme", digest)]

    assert b"".join(pieces) == data[:size]
    assert max(map(len, pieces)) <= CHUNK


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
async def test_reading_may_begin_anywhere_up_to_the_end(blobs: Blobs, offset: int) -> None:
    await blobs.put("acme", b"abc")

    assert b"".join([piece async for piece in blobs.read("acme", ABC, offset)]) == b"abc"[offset:]


async def test_what_is_not_there_is_not_found_by_any_way(blobs: Blobs) -> None:
    assert not await blobs.exists("acme", ABC)
    assert await code_of(blobs.get("acme", ABC)) is Code.NOT_FOUND
    assert await code_of(blobs.size("acme", ABC)) is Code.NOT_FOUND
    assert await code_of(anext(blobs.read("acme", ABC))) is Code.NOT_FOUND


async def test_bytes_that_were_cut_are_never_streamed(folder: FolderBlobs) -> None:
    await folder.put("acme", b"abc")
    path = folder.path("acme", ABC)
    path.chmod(0o644)
    path.write_bytes(b"ab")

    assert await code_of(anext(folder.read("acme", ABC))) is Code.DIGEST_MISMATCH


async def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")

    assert hash_of(tmp_path / "x") == ABC == f"sha256:{ABC[7:]}"
