"""Sources and uploads between the domain and the wire."""

from aimass.v1 import sources_pb2 as pb
from aimass.v1 import uploads_pb2
from services.data.reading.kinds import Definition, FileFormat, FilesSource, SqlSource
from services.data.sources.domain import Source, Upload
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire

Described = pb.CreateSourceRequest | pb.UpdateSourceRequest | pb.PreviewSourceRequest


def definition_of(request: Described) -> Definition:
    """What a request describes. Raises invalid_value when it describes nothing."""
    kind = request.WhichOneof("kind")
    if kind is None:
        raise InvalidValue("sql or files must be set")
    return _sql(request.sql) if kind == "sql" else _files(request.files)


def _sql(source: pb.SqlSource) -> SqlSource:
    return SqlSource(source.url, source.table, source.cursor)


def _files(source: pb.FilesSource) -> FilesSource:
    name = pb.FileFormat.Name(source.format) if source.format in pb.FileFormat.values() else ""
    kind = FileFormat.__members__.get(name.removeprefix("FILE_FORMAT_"))
    if kind is None:
        raise InvalidValue("the format is not known")
    nulls = tuple(source.null_values)
    return FilesSource(kind, source.pattern, source.upload_digest, source.delimiter or ",", nulls)


def source_to_wire(source: Source) -> pb.Source:
    """A source with its etag."""
    message = pb.Source(
        source=source.source,
        description=source.description,
        etag=str(source.generation),
        create_time=to_wire(source.create_time),
        update_time=to_wire(source.update_time),
        delete_time=to_wire(source.delete_time),
    )
    what = source.definition
    if isinstance(what, SqlSource):
        message.sql.CopyFrom(pb.SqlSource(url=what.url, table=what.table, cursor=what.cursor))
        return message
    files = pb.FilesSource(
        pattern=what.pattern,
        upload_digest=what.upload_digest,
        format=pb.FileFormat.Value(f"FILE_FORMAT_{what.format.name}"),
        delimiter=what.delimiter,
        null_values=what.null_values,
    )
    message.files.CopyFrom(files)
    return message


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
