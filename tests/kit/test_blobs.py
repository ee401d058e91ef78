import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit.blobs import Blobs, digest_of
from services.kit.errors import Code, Failure
from services.kit.uploads import Uploads


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    blobs = Blobs(tmp_path)
    yield blobs
    blobs.close()


@pytest.fixture
def uploads(blobs: Blobs) -> Uploads:
    return Uploads(blobs)


async def code_of(call: object) -> Code:
    with pytest.raises(Failure) as caught:
        await call  # type: ignore[misc]
    return caught.value.code


async def test_bytes_come_back_by_their_digest(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello")

    assert digest == f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    assert await blobs.get("acme", digest) == b"hello"
    assert await blobs.size("acme", digest) == 5


async def test_the_same_bytes_are_kept_once(blobs: Blobs, tmp_path: Path) -> None:
    await asyncio.gather(*(blobs.put("acme", b"hello") for _ in range(8)))

    assert len([path for path in (tmp_path / "acme").rglob("*") if path.is_file()]) == 1


async def test_a_tenant_has_its_own_bytes(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello")

    assert await code_of(blobs.get("other", digest)) is Code.NOT_FOUND


async def test_damaged_bytes_are_never_served(blobs: Blobs) -> None:
    digest = await blobs.put("acme", b"hello world")
    path = blobs.path("acme", digest)
    path.chmod(0o644)
    path.write_bytes(b"hellO world")

    assert await code_of(blobs.get("acme", digest)) is Code.DIGEST_MISMATCH
    assert await code_of(anext(blobs.read("acme", digest))) is Code.DIGEST_MISMATCH


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:" + "g" * 64, "sha256:../" + "a" * 61, "", "md5:1"])
async def test_only_a_digest_names_a_blob(blobs: Blobs, name: str) -> None:
    assert await code_of(blobs.get("acme", name)) is Code.INVALID_VALUE


async def test_reading_goes_on_from_an_offset(blobs: Blobs) -> None:
    digest = await blobs.put("acme", bytes(range(200)) * 10_000)

    got = b"".join([piece async for piece in blobs.read("acme", digest, 1_500_000)])
    assert got == (bytes(range(200)) * 10_000)[1_500_000:]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
