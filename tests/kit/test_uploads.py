"""Uploads that several callers write at a time."""

import asyncio
import os
from pathlib import Path

import pytest

from services.kit.blobs import Blobs, digest_of
from services.kit.errors import Code, Failure
from services.kit.uploads import Uploads

FOREIGN = "019a0000-0000-7000-8000-000000000000"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def uploads(blobs: Blobs) -> Uploads:
    return Uploads(blobs)


async def code_of(call: object) -> Code | None:
    try:
        await call  # type: ignore[misc]
    except Failure as failure:
        return failure.code
    return None


async def test_one_of_many_chunks_at_one_offset_is_stored(uploads: Uploads) -> None:
    upload = (await uploads.begin("acme")).upload
    for offset in range(0, 40, 4):
        codes = await asyncio.gather(*(code_of(uploads.write("acme", upload, offset, b"data")) for _ in range(6)))
        assert sorted(code is None for code in codes) == [False] * 5 + [True]
        assert {code for code in codes if code} == {Code.WRONG_OFFSET}
    assert (await uploads.commit("acme", upload, digest_of(b"data" * 10))).size == 40


async def test_two_processes_write_one_upload_one_after_the_other(uploads: Uploads, blobs: Blobs) -> None:
    upload, other = (await uploads.begin("acme")).upload, Uploads(Blobs(blobs.folder))
    codes = await asyncio.gather(*(code_of(each.write("acme", upload, 0, b"x" * 2**20)) for each in (uploads, other)))

    assert sorted(codes, key=str) == [Code.WRONG_OFFSET, None]
    assert (await other.status("acme", upload)).size == 2**20


async def test_a_blob_holds_what_its_digest_says_whatever_is_written_meanwhile(uploads: Uploads, blobs: Blobs) -> None:
    data, digest = b"x" * 2**22, digest_of(b"x" * 2**22)
    upload = (await uploads.begin("acme")).upload
    await uploads.write("acme", upload, 0, data)
    committed, written = await asyncio.gather(
        code_of(uploads.commit("acme", upload, digest)), code_of(uploads.write("acme", upload, len(data), b"late"))
    )

    assert (committed, written) in [(None, Code.FAILED_PRECONDITION), (Code.DIGEST_MISMATCH, None)]
    if committed is None:
        assert await blobs.get("acme", digest) == data


async def test_commits_at_the_same_time_are_one(uploads: Uploads, blobs: Blobs) -> None:
    upload = (await uploads.begin("acme")).upload
    await uploads.write("acme", upload, 0, b"data")
    done = await asyncio.gather(*(uploads.commit("acme", upload, digest_of(b"data")) for _ in range(5)))

    assert len({status.digest for status in done}) == 1
    assert await blobs.get("acme", digest_of(b"data")) == b"data"
    assert not list(blobs.scratch("acme").iterdir())


async def test_what_is_abandoned_is_gone_and_may_be_abandoned_again(uploads: Uploads, blobs: Blobs) -> None:
    upload = (await uploads.begin("acme")).upload
    await uploads.abandon("acme", upload)
    await uploads.abandon("acme", upload)

    assert await code_of(uploads.status("acme", upload)) is Code.NOT_FOUND
    assert os.listdir(blobs.folder / "acme" / "uploads") == []


@pytest.mark.parametrize("upload", ["", "..", "../x", FOREIGN, FOREIGN + ".done", FOREIGN.upper() + "A"])
async def test_an_upload_that_is_not_there_is_not_found_by_any_call(uploads: Uploads, upload: str) -> None:
    await uploads.begin("acme")
    for call in (
        uploads.status("acme", upload),
        uploads.write("acme", upload, 0, b"x"),
        uploads.commit("acme", upload, digest_of(b"")),
    ):
        assert await code_of(call) is Code.NOT_FOUND


async def test_another_tenant_does_not_find_an_upload(uploads: Uploads) -> None:
    upload = (await uploads.begin("acme")).upload
    assert await code_of(uploads.write("umbrella", upload, 0, b"x")) is Code.NOT_FOUND
    await uploads.abandon("umbrella", upload)
    assert (await uploads.status("acme", upload)).size == 0
