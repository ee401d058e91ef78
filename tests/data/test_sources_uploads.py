import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict

from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2 as up
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.support.house import House, house
from tests.support.refused import refused

DATA = b"code,name\nJFK,Kennedy\nLGA,La Guardia"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data", AIMASS_DATA_UPLOAD_MIB="17") as running:
        yield running


@pytest.fixture
def sources(running: House) -> Any:
    return running.stub(SourcesStub, "data")


def chunk(upload: str, offset: int, data: bytes) -> up.WriteUploadRequest:
    return up.WriteUploadRequest(upload=upload, offset=offset, body=HttpBody(data=data))


async def uploaded(sources: Any, data: bytes = DATA) -> str:
    upload = (await sources.CreateSourceUpload(up.CreateUploadRequest())).upload
    await sources.WriteSourceUpload(chunk(upload, 0, data))
    return str(upload)


async def test_a_file_is_handed_over_in_chunks_and_becomes_a_source(sources: Any) -> None:
    upload = (await sources.CreateSourceUpload(up.CreateUploadRequest())).upload
    await sources.WriteSourceUpload(chunk(upload, 0, DATA[:10]))
    seen = await sources.GetSourceUpload(up.GetUploadRequest(upload=upload))
    await sources.WriteSourceUpload(chunk(upload, seen.committed_size, DATA[10:]))
    done = await sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=DIGEST))

    assert (seen.state, seen.committed_size) == (up.UPLOAD_STATE_OPEN, 10)
    assert (done.state, done.digest, done.committed_size) == (up.UPLOAD_STATE_COMMITTED, DIGEST, len(DATA))
    assert done == await sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=DIGEST))
    files = pb.FilesSource(upload_digest=DIGEST, format=pb.FILE_FORMAT_CSV)
    await sources.CreateSource(pb.CreateSourceRequest(source="airports", files=files))
    shown = await sources.PreviewSource(pb.PreviewSourceRequest(source="airports"))
    assert [MessageToDict(record)["code"] for record in shown.records] == ["JFK", "LGA"]


async def test_a_chunk_must_begin_where_the_last_one_ended(sources: Any) -> None:
    upload = await uploaded(sources)

    failure = await refused(sources.WriteSourceUpload(chunk(upload, 3, b"x")))
    assert (failure.code, failure.committed_size) == (Code.WRONG_OFFSET, len(DATA))


async def test_other_bytes_than_meant_are_not_kept(sources: Any) -> None:
    upload = await uploaded(sources, DATA + b"!")

    failure = await refused(sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=DIGEST)))
    assert failure.code is Code.DIGEST_MISMATCH
    assert (await refused(sources.GetSourceUpload(up.GetUploadRequest(upload=upload)))).code is Code.NOT_FOUND


async def test_chunks_and_uploads_have_a_largest_size(sources: Any) -> None:
    upload = (await sources.CreateSourceUpload(up.CreateUploadRequest())).upload
    large = bytes(16 * 2**20)

    assert (await refused(sources.WriteSourceUpload(chunk(upload, 0, large + b"x")))).code is Code.BODY_TOO_LARGE
    await sources.WriteSourceUpload(chunk(upload, 0, large))
    failure = await refused(sources.WriteSourceUpload(chunk(upload, len(large), bytes(2**20 + 1))))
    assert failure.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("who", [{"tenant": "umbrella"}, {"project": "other"}])
async def test_an_upload_belongs_to_its_project(running: House, sources: Any, who: dict[str, str]) -> None:
    upload = await uploaded(sources)
    await sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=DIGEST))
    other = running.stub(SourcesStub, "data", **who)

    for call in (
        other.GetSourceUpload(up.GetUploadRequest(upload=upload)),
        other.WriteSourceUpload(chunk(upload, 0, b"")),
        other.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=DIGEST)),
    ):
        assert (await refused(call)).code is Code.NOT_FOUND
    files = pb.FilesSource(upload_digest=DIGEST, format=pb.FILE_FORMAT_CSV)
    failure = await refused(other.PreviewSource(pb.PreviewSourceRequest(files=files)))
    assert failure.detail == f"no upload was committed as {DIGEST}"


async def test_a_repeat_opens_no_second_upload(running: House) -> None:
    keyed = running.stub(SourcesStub, "data", idempotency_key="k")

    first = await keyed.CreateSourceUpload(up.CreateUploadRequest())
    assert await keyed.CreateSourceUpload(up.CreateUploadRequest()) == first
