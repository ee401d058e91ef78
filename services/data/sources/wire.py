"""Sources and uploads between the domain and the wire."""

from typing import Any

from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2
from services.data.reading.kinds import SOURCES, Definition, FilesSource, name_of
from services.data.sources.domain import Source, Upload
from services.data.wire import fields_of, plain
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire

Described = pb.CreateSourceRequest | pb.UpdateSourceRequest | pb.PreviewSourceRequest


def definition_of(request: Described) -> Definition:
    """What a request describes. Raises invalid_value when it describes nothing."""
    kind = request.WhichOneof("kind")
    if kind is None:
        raise InvalidValue(f"{' or '.join(SOURCES)} must be set")
    return SOURCES[kind].of(plain(getattr(request, kind)))


def source_to_wire(source: Source) -> pb.Source:
    """A source with its etag."""
    kind = name_of(source.definition)
    described: Any = {kind: fields_of(source.definition, pb.Source.DESCRIPTOR.fields_by_name[kind].message_type)}
    return pb.Source(
        source=source.source,
        description=source.description,
        etag=str(source.generation),
        create_time=to_wire(source.create_time),
        update_time=to_wire(source.update_time),
        delete_time=to_wire(source.delete_time),
        **described,
    )


def files_to_wire(files: FilesSource) -> pb.FilesSource:
    """The description of files."""
    return pb.FilesSource(**fields_of(files, pb.FilesSource.DESCRIPTOR))


def upload_to_wire(upload: Upload) -> uploads_pb2.Upload:
    """An upload as it stands."""
    done = uploads_pb2.UPLOAD_STATE_COMMITTED if upload.digest else uploads_pb2.UPLOAD_STATE_OPEN
    return uploads_pb2.Upload(
        upload=upload.upload,
        state=done,
        committed_size=upload.size,
        digest=upload.digest,
        create_time=to_wire(upload.create_time),
    )
