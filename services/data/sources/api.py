"""The RPCs of sources and uploads."""

from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2
from services.data.reading.kinds import SOURCES
from services.data.sources.domain import Change
from services.data.sources.service import Sources
from services.data.sources.uploads import SourceUploads
from services.data.sources.wire import definition_of, files_to_wire, source_to_wire, upload_to_wire
from services.data.structs import from_struct, to_struct
from services.data.wire import schema_to_wire
from services.kit.errors import InvalidValue, Violation
from services.kit.rpc import Call

_FIELDS = ("description", "landed", *SOURCES)


class SourcesApi:
    """aimass.v1.Sources."""

    def __init__(self, sources: Sources, uploads: SourceUploads) -> None:
        self._sources, self._uploads = sources, uploads

    async def CreateSource(self, request: pb.CreateSourceRequest, call: Call) -> pb.Source:
        once = call.once(source_to_wire)
        definition = definition_of(request)
        said = request.source, request.description, definition
        made = await self._sources.create(call.scope, *said, once, request.landed)
        return source_to_wire(made)

    async def GetSource(self, request: pb.GetSourceRequest, call: Call) -> pb.Source:
        return source_to_wire(await self._sources.get(call.scope, request.source))

    async def ListSources(self, request: pb.ListSourcesRequest, call: Call) -> pb.ListSourcesResponse:
        page = await self._sources.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        sources = [source_to_wire(source) for source in page.items]
        return pb.ListSourcesResponse(sources=sources, next_page_token=page.next_token)

    async def UpdateSource(self, request: pb.UpdateSourceRequest, call: Call) -> pb.Source:
        change = _change(request)
        return source_to_wire(await self._sources.update(call.scope, request.source, change, call.etag))

    async def DeleteSource(self, request: pb.DeleteSourceRequest, call: Call) -> pb.Source:
        return source_to_wire(await self._sources.delete(call.scope, request.source, call.etag))

    async def UndeleteSource(self, request: pb.UndeleteSourceRequest, call: Call) -> pb.Source:
        return source_to_wire(await self._sources.undelete(call.scope, request.source))

    async def PreviewSource(self, request: pb.PreviewSourceRequest, call: Call) -> pb.PreviewSourceResponse:
        if bool(request.source) == bool(request.WhichOneof("kind")):
            raise InvalidValue("a preview is of a saved source or of a description, one of them")
        saved = await self._sources.get(call.scope, request.source) if request.source else None
        definition = saved.definition if saved else definition_of(request)
        if request.landed and not saved:
            raise InvalidValue("nothing of a description has landed", [Violation("/landed", "is of a saved source")])
        if saved and request.landed:
            sample = await self._sources.preview_landed(call.principal, saved, request.records)
        else:
            sample = await self._sources.preview(call.scope, definition, request.records, request.source)
        records = [to_struct(record) for record in sample.records]
        suggested = files_to_wire(sample.suggested) if sample.suggested else None
        schema = schema_to_wire(sample.columns)
        return pb.PreviewSourceResponse(records=records, schema=schema, parts=sample.parts, suggested=suggested)

    async def PushRecords(self, request: pb.PushRecordsRequest, call: Call) -> pb.PushRecordsResponse:
        records = [from_struct(record) for record in request.records]
        stored, repeated = await self._sources.pushes.push(call.scope, request.source, records)
        return pb.PushRecordsResponse(stored=stored, repeated=repeated)

    async def CreateSourceUpload(self, request: uploads_pb2.CreateUploadRequest, call: Call) -> uploads_pb2.Upload:
        return upload_to_wire(await self._uploads.create(call.scope, call.once(upload_to_wire)))

    async def GetSourceUpload(self, request: uploads_pb2.GetUploadRequest, call: Call) -> uploads_pb2.Upload:
        return upload_to_wire(await self._uploads.get(call.scope, request.upload))

    async def WriteSourceUpload(self, request: uploads_pb2.WriteUploadRequest, call: Call) -> uploads_pb2.Upload:
        data = request.body.data
        return upload_to_wire(await self._uploads.write(call.scope, request.upload, request.offset, data))

    async def CommitSourceUpload(self, request: uploads_pb2.CommitUploadRequest, call: Call) -> uploads_pb2.Upload:
        return upload_to_wire(await self._uploads.commit(call.scope, request.upload, request.digest))


def _change(request: pb.UpdateSourceRequest) -> Change:
    """What update_mask names; without one, what is set."""
    kind = request.WhichOneof("kind")
    said = ("description" if request.description else None, "landed" if request.landed else None, kind)
    given = [name for name in said if name]
    paths = list(request.update_mask.paths) or given
    if unknown := [path for path in paths if path not in _FIELDS]:
        raise InvalidValue(f"update_mask names {unknown[0][:80]}; there are {', '.join(_FIELDS)}")
    places = {path for path in paths if path in SOURCES}
    if places - {kind}:
        raise InvalidValue(f"update_mask names {min(places - {kind})}, which is not set")
    description = request.description if "description" in paths else None
    landed = request.landed if "landed" in paths else None
    return Change(description, definition_of(request) if places else None, landed=landed)
