"""Sources and uploads between the domain and the wire."""

from collections.abc import Sequence
from typing import Any

from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2
from services.data.reading.kinds import SOURCES, Definition, FilesSource, PushedSource, name_of
from services.data.reading.landed import data_set_of
from services.data.sources.domain import Source, Upload
from services.data.wire import column_type_from_wire, fields_of, plain, schema_to_wire
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire

Described = pb.CreateSourceRequest | pb.UpdateSourceRequest | pb.PreviewSourceRequest


def definition_of(request: Described) -> Definition:
    """What a request describes. Raises invalid_value when it describes nothing."""
    kind = request.WhichOneof("kind")
    if kind is None:
        raise InvalidValue(f"{' or '.join(SOURCES)} must be set")
    values = plain(getattr(request, kind))
    if isinstance(columns := values.get("columns"), Sequence):
        kinds = [column_type_from_wire(column.type) for column in columns]
        pairs = zip(columns, kinds, strict=True)
        values["columns"] = [{"name": one.name, "type": type_, "nullable": one.nullable} for one, type_ in pairs]
    return SOURCES[kind].of(values)


def source_to_wire(source: Source) -> pb.Source:
    """A source with its etag."""
    kind = name_of(source.definition)
    described: Any = {kind: fields_of(source.definition, pb.Source.DESCRIPTOR.fields_by_name[kind].message_type)}
    if isinstance(source.definition, PushedSource):
        described[kind]["columns"] = schema_to_wire(source.definition.columns).columns
    return pb.Source(
        source=source.source,
        description=source.description,
        etag=str(source.generation),
        create_time=to_wire(source.create_time),
        update_time=to_wire(source.update_time),
        delete_time=to_wire(source.delete_time),
        landed=source.landed,
        landed_data_set=data_set_of(source.source) if source.landed else "",
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
