"""The RPCs of artifacts."""

from collections.abc import AsyncIterator

from google.api.httpbody_pb2 import HttpBody

from aimass.v1 import artifacts_pb2, uploads_pb2
from services.kit.rpc import Call
from services.kit.timestamps import to_wire
from services.registry.artifacts.domain import Upload
from services.registry.artifacts.service import Artifacts


class ArtifactsApi:
    """aimass.v1.Artifacts."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def CreateArtifactUpload(self, request: uploads_pb2.CreateUploadRequest, call: Call) -> uploads_pb2.Upload:
        return upload_to_wire(await self._artifacts.begin(call.scope, call.once(upload_to_wire)))

    async def GetArtifactUpload(self, request: uploads_pb2.GetUploadRequest, call: Call) -> uploads_pb2.Upload:
        return upload_to_wire(await self._artifacts.status(call.scope, request.upload))

    async def WriteArtifactUpload(self, request: uploads_pb2.WriteUploadRequest, call: Call) -> uploads_pb2.Upload:
        data = request.body.data
        return upload_to_wire(await self._artifacts.write(call.scope, request.upload, request.offset, data))

    async def CommitArtifactUpload(self, request: uploads_pb2.CommitUploadRequest, call: Call) -> uploads_pb2.Upload:
        return upload_to_wire(await self._artifacts.commit(call.scope, request.upload, request.digest))

    async def DownloadArtifact(
        self, request: artifacts_pb2.DownloadArtifactRequest, call: Call
    ) -> AsyncIterator[HttpBody]:
        async for piece in self._artifacts.read(call.scope, request.digest, request.offset):
            yield HttpBody(content_type="application/octet-stream", data=piece)


def upload_to_wire(upload: Upload) -> uploads_pb2.Upload:
    """An upload as callers see it."""
    state = uploads_pb2.UPLOAD_STATE_COMMITTED if upload.digest else uploads_pb2.UPLOAD_STATE_OPEN
    return uploads_pb2.Upload(
        upload=upload.upload,
        state=state,
        committed_size=upload.size,
        digest=upload.digest,
        create_time=to_wire(upload.create_time),
    )
