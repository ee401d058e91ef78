import asyncio
import contextlib
from pathlib import Path

import pytest
from google.api.httpbody_pb2 import HttpBody

from aimass.v1 import uploads_pb2 as pb
from aimass.v1.artifacts_pb2 import DownloadArtifactRequest
from services.kit.digests import digest_of, name_of
from services.kit.errors import Code, Failure
from tests.support.house import house
from tests.support.models import upload
from tests.support.tenants import Tenant, code_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
DATA = b"0123456789" * 200_000  # two pieces of a download


async def begin(tenant: Tenant, **metadata: str) -> pb.Upload:
    made = await tenant.artifacts(**metadata).CreateArtifactUpload(pb.CreateUploadRequest())
    assert isinstance(made, pb.Upload)
    return made


def chunk(made: pb.Upload, data: bytes, offset: int = 0) -> pb.WriteUploadRequest:
    return pb.WriteUploadRequest(upload=made.upload, offset=offset, body=HttpBody(data=data))


async def download(tenant: Tenant, digest: str, offset: int = 0) -> bytes:
    request = DownloadArtifactRequest(digest=digest, offset=offset)
    return b"".join([piece.data async for piece in tenant.artifacts().DownloadArtifact(request)])


async def test_what_was_uploaded_is_downloaded(acme: Tenant) -> None:
    digest = await upload(acme.house, DATA, acme.name)

    assert digest == digest_of(DATA)
    assert await download(acme, digest) == DATA


async def test_a_download_goes_on_from_an_offset(acme: Tenant) -> None:
    digest = await upload(acme.house, DATA, acme.name)

    assert await download(acme, digest, 1_999_990) == b"0123456789"
    assert await download(acme, digest, len(DATA)) == b""


@pytest.mark.parametrize("offset", [-1, len(DATA) + 1])
async def test_an_offset_outside_says_how_long_it_is(acme: Tenant, offset: int) -> None:
    digest = await upload(acme.house, DATA, acme.name)

    with pytest.raises(Failure) as caught:
        await download(acme, digest, offset)

    assert (caught.value.code, caught.value.committed_size) == (Code.WRONG_OFFSET, len(DATA))


async def test_an_upload_tells_how_far_it_is(acme: Tenant) -> None:
    made = await begin(acme)
    written = await acme.artifacts().WriteArtifactUpload(chunk(made, b"abc"))
    seen = await acme.artifacts().GetArtifactUpload(pb.GetUploadRequest(upload=made.upload))

    assert (made.state, made.committed_size) == (pb.UPLOAD_STATE_OPEN, 0)
    assert seen == written
    assert (seen.state, seen.committed_size, seen.digest) == (pb.UPLOAD_STATE_OPEN, 3, "")
    assert seen.create_time == made.create_time


async def test_a_chunk_at_a_wrong_offset_is_told_the_right_one(acme: Tenant) -> None:
    made = await begin(acme)
    await acme.artifacts().WriteArtifactUpload(chunk(made, b"abc"))

    with pytest.raises(Failure) as caught:
        await acme.artifacts().WriteArtifactUpload(chunk(made, b"abc"))

    assert (caught.value.code, caught.value.committed_size) == (Code.WRONG_OFFSET, 3)


async def test_a_chunk_is_at_most_16_mib(acme: Tenant) -> None:
    made = await begin(acme)
    call = acme.artifacts().WriteArtifactUpload(chunk(made, bytes(16 * 2**20 + 1)))

    assert await code_of(call) == "body_too_large"


async def test_bytes_that_are_not_those_meant_are_not_kept(acme: Tenant) -> None:
    made = await begin(acme)
    await acme.artifacts().WriteArtifactUpload(chunk(made, b"abc"))
    commit = pb.CommitUploadRequest(upload=made.upload, digest=digest_of(b"abd"))

    assert await code_of(acme.artifacts().CommitArtifactUpload(commit)) == "digest_mismatch"
    assert await code_of(download(acme, digest_of(b"abc"))) == "not_found"
    assert await code_of(acme.artifacts().CommitArtifactUpload(commit)) == "not_found"


async def test_a_second_commit_changes_nothing(acme: Tenant) -> None:
    made = await begin(acme)
    await acme.artifacts().WriteArtifactUpload(chunk(made, b"abc"))
    commit = pb.CommitUploadRequest(upload=made.upload, digest=digest_of(b"abc"))
    first = await acme.artifacts().CommitArtifactUpload(commit)

    assert await acme.artifacts().CommitArtifactUpload(commit) == first
    assert first.state == pb.UPLOAD_STATE_COMMITTED
    assert await code_of(acme.artifacts().WriteArtifactUpload(chunk(made, b"d", 3))) == "failed_precondition"


async def test_a_repeat_opens_no_second_upload(acme: Tenant) -> None:
    first = await begin(acme, idempotency_key="one")

    assert await begin(acme, idempotency_key="one") == first
    assert await begin(acme, idempotency_key="two") != first


async def test_repeats_that_come_at_once_leave_one_upload(acme: Tenant) -> None:
    async def ask() -> pb.Upload | None:
        with contextlib.suppress(Failure):  # in progress, says one that came too early
            return await begin(acme, idempotency_key="one")
        return None

    made = {found.upload for found in await asyncio.gather(*(ask() for _ in range(8))) if found}
    folder = acme.house.runtime.home / "blobs" / acme.name / "uploads"

    assert [path.name for path in folder.iterdir()] == list(made)


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 63, "sha256:" + "G" * 64, "md5:abc", "../../etc/passwd"])
async def test_what_is_no_digest_is_refused(acme: Tenant, digest: str) -> None:
    made = await begin(acme)
    commit = pb.CommitUploadRequest(upload=made.upload, digest=digest)

    assert await code_of(download(acme, digest)) == "invalid_value"
    assert await code_of(acme.artifacts().CommitArtifactUpload(commit)) == "invalid_value"


@pytest.mark.parametrize("upload_id", ["../../../etc", "0198c8d0-0000-7000-8000-000000000000", "a/b"])
async def test_an_upload_that_is_not_there_is_not_found(acme: Tenant, upload_id: str) -> None:
    stub, made = acme.artifacts(), pb.Upload(upload=upload_id)
    commit = pb.CommitUploadRequest(upload=upload_id, digest=digest_of(b""))

    assert await code_of(stub.GetArtifactUpload(pb.GetUploadRequest(upload=upload_id))) == "not_found"
    assert await code_of(stub.WriteArtifactUpload(chunk(made, b""))) == "not_found"
    assert await code_of(stub.CommitArtifactUpload(commit)) == "not_found"


async def test_another_tenant_finds_nothing(acme: Tenant, other: Tenant) -> None:
    made, stub = await begin(acme), other.artifacts()
    digest = await upload(acme.house, b"mine", acme.name)
    commit = pb.CommitUploadRequest(upload=made.upload, digest=digest)

    assert await code_of(stub.GetArtifactUpload(pb.GetUploadRequest(upload=made.upload))) == "not_found"
    assert await code_of(stub.WriteArtifactUpload(chunk(made, b"x"))) == "not_found"
    assert await code_of(stub.CommitArtifactUpload(commit)) == "not_found"
    assert await code_of(download(other, digest)) == "not_found"


async def test_a_blob_that_nobody_uploaded_is_not_found(acme: Tenant) -> None:
    digest = await acme.house.runtime.blobs.put(acme.name, b"a checkpoint of the trainer")

    assert await code_of(download(acme, digest)) == "not_found"


async def test_a_damaged_blob_is_not_served(acme: Tenant) -> None:
    digest = await upload(acme.house, b"whole", acme.name)
    path = acme.house.runtime.home / "blobs" / name_of(acme.name, digest)
    path.chmod(0o644)
    path.write_bytes(b"whale")

    assert await code_of(download(acme, digest)) == "digest_mismatch"


async def test_a_permission_is_needed(acme: Tenant) -> None:
    call = acme.artifacts("artifacts.get").CreateArtifactUpload(pb.CreateUploadRequest())

    assert await code_of(call) == "forbidden"


async def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)
        made = await begin(acme)
        await acme.artifacts().WriteArtifactUpload(chunk(made, b"abc"))
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)
        await acme.artifacts().WriteArtifactUpload(chunk(made, b"def", 3))
        commit = pb.CommitUploadRequest(upload=made.upload, digest=digest_of(b"abcdef"))
        await acme.artifacts().CommitArtifactUpload(commit)

        assert await download(acme, digest_of(b"abcdef")) == b"abcdef"
