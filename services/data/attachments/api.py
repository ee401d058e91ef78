"""The RPCs of attachments."""

from collections.abc import AsyncIterator

from google.api.httpbody_pb2 import HttpBody

from aimass.v1 import attachments_pb2 as pb
from services.data.attachments.service import Attachments
from services.data.attachments.wire import attachment_to_wire, preview_to_wire, state_from_wire
from services.kit.rpc import Call


class AttachmentsApi:
    """aimass.v1.Attachments."""

    def __init__(self, attachments: Attachments) -> None:
        self._attachments = attachments

    async def ListAttachments(self, request: pb.ListAttachmentsRequest, call: Call) -> pb.ListAttachmentsResponse:
        wanted = request.data_set, state_from_wire(request.state), request.page_size, request.page_token
        page = await self._attachments.list(call.principal, call.scope, *wanted)
        return pb.ListAttachmentsResponse(
            attachments=map(attachment_to_wire, page.items), next_page_token=page.next_token
        )

    async def PreviewAttachment(self, request: pb.PreviewAttachmentRequest, call: Call) -> pb.PreviewAttachmentResponse:
        found = await self._attachments.preview(call.principal, call.scope, request.data_set, request.digest)
        return preview_to_wire(found)

    async def DownloadAttachment(self, request: pb.DownloadAttachmentRequest, call: Call) -> AsyncIterator[HttpBody]:
        wanted = request.data_set, request.digest, request.offset
        async for piece in self._attachments.read(call.principal, call.scope, *wanted):
            # Never as what it is: it is others' and a browser would show it as ours.
            yield HttpBody(content_type="application/octet-stream", data=piece)

    async def StreamAttachments(self, request: pb.StreamAttachmentsRequest, call: Call) -> AsyncIterator[HttpBody]:
        wanted = request.data_set, request.digests, request.after, request.max_files
        async for piece in self._attachments.stream(call.principal, call.scope, *wanted):
            yield HttpBody(content_type="application/x-tar", data=piece)
