"""What a source means: a name for a place that raw data comes from."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from services.data.reading import crawls, endpoints, multiline, topics
from services.data.reading.crawls import CrawlSource
from services.data.reading.kinds import Definition, FileFormat, FilesSource, PushedSource, SqlSource
from services.data.reading.landed import PREFIX
from services.data.reading.topics import KafkaSource
from services.data.schema import check_columns
from services.kit import resources
from services.kit.errors import InvalidValue, NotFound, Violation, match_etag

_LAG = _WAIT = 86_400  # seconds
_NAME = 63  # characters of a data set's name


@dataclass(frozen=True)
class Source:
    """A source as it stands."""

    source: str
    description: str
    definition: Definition
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    generation: int = 1
    # The password, encrypted.
    sealed: bytes = field(default=b"", repr=False)
    # Whether its records are kept as they are.
    landed: bool = False


@dataclass(frozen=True)
class Upload:
    """Bytes that a caller hands over; `digest` is set once they are committed."""

    upload: str
    size: int
    digest: str
    create_time: datetime


@dataclass(frozen=True)
class Change:
    """What an update sets; None leaves it as it is."""

    description: str | None = None
    definition: Definition | None = None
    sealed: bytes = field(default=b"", repr=False)
    landed: bool | None = None


def check(definition: Definition) -> None:
    """Raises invalid_value, pattern_unsupported for a description that no source can have."""
    if isinstance(definition, SqlSource):
        if not 0 <= definition.lag_seconds <= _LAG:
            raise InvalidValue(f"lag_seconds must be between 1 and {_LAG}")
        if definition.password and not definition.remote:
            raise InvalidValue("a SQLite file has no password")
    if isinstance(definition, PushedSource):
        check_columns(definition.columns)
    if isinstance(definition, KafkaSource):
        topics.check(definition)
    if isinstance(definition, CrawlSource):
        crawls.check(definition)
    if not isinstance(definition, FilesSource):
        return
    _check_server(definition)
    if bool(definition.pattern) == bool(definition.upload_digest):
        raise InvalidValue("files need a pattern or the digest of an upload, and not both")
    if definition.format is FileFormat.DOCUMENT and definition.remote:
        raise InvalidValue("the format document is for files below a folder and for uploads")
    if definition.format is FileFormat.CSV:
        _check_dialect(definition)
    _check_records(definition)


def _check_server(files: FilesSource) -> None:
    kinds = {"s3": ("endpoint", "region", "access_key"), "https": endpoints.FIELDS}
    here = "s3" if files.bucket else "https" if files.polled else ""
    for kind, names in kinds.items():
        if kind != here and (said := [name for name in names if getattr(files, name)]):
            raise InvalidValue(f"{said[0]} is for patterns that begin with {kind}://")
    if files.secret and not files.access_key and not files.polled:
        raise InvalidValue("the secret needs the access_key that it belongs to")
    if files.polled:
        endpoints.check(files)


def _check_dialect(files: FilesSource) -> None:
    dialect = files.dialect
    if files.unquoted and files.quote:
        raise InvalidValue("unquoted files have no quote")
    marks = {"delimiter": dialect.delimiter, "quote": dialect.quote, "escape": dialect.escape}
    for name, mark in marks.items():
        if mark in ("\n", "\r", "\0"):
            raise InvalidValue(f"the {name} must not be the end of a line")
    used = [mark for mark in marks.values() if mark]
    if len(set(used)) < len(used):
        raise InvalidValue("delimiter, quote and escape must be different characters")


def _check_records(files: FilesSource) -> None:
    said = {
        "record_lines": (files.record_lines, multiline.LINES_MOST),
        "record_bytes": (files.record_bytes, multiline.BYTES_MOST),
        "record_wait_seconds": (files.record_wait_seconds, _WAIT),
    }
    for name, (value, most) in said.items():
        if value and not files.record_start:
            raise InvalidValue(f"{name} is for files with a record_start")
        if not 0 <= value <= most:
            raise InvalidValue(f"{name} must be between 1 and {most}")
    if not files.record_start:
        return
    if files.format is not FileFormat.TEXT:
        raise InvalidValue("record_start is for files of format text")
    multiline.check_start(files.record_start)


def check_landed(name: str, landed: bool) -> None:
    """Raises invalid_value for a name that leaves no room for that of the landed data set."""
    most = _NAME - len(PREFIX)
    if landed and len(name) > most:
        rule = f"must have at most {most} characters: the source is landed"
        raise InvalidValue(f"source {rule}", [Violation("/source", rule)])


def existing(source: Source | None, name: str) -> Source:
    """A source that is there. Raises not_found."""
    if source is None or source.delete_time:
        raise NotFound(f"there is no source {name}")
    return source


def changed(source: Source, change: Change, etag: str, now: datetime) -> Source:
    """The source after an update. Raises etag_mismatch."""
    match_etag(etag, source.generation, source.source)
    description = source.description if change.description is None else change.description
    definition = change.definition or source.definition
    sealed = change.sealed or (source.sealed if server_of(definition) == server_of(source.definition) else b"")
    landed = source.landed if change.landed is None else change.landed
    check_landed(source.source, landed)
    values = {"description": description, "definition": definition, "sealed": sealed, "landed": landed}
    return resources.changed(source, now, **values)


def server_of(definition: Definition) -> str:
    """What a password or a secret belongs to, as it is written. Who names another one says the password again."""
    match definition:
        case SqlSource():
            return definition.url
        case FilesSource() if definition.bucket:
            return f"s3 {definition.endpoint} {definition.region} {definition.access_key}"
        case KafkaSource():
            return definition.brokers
        case FilesSource() if definition.polled:
            return f"http {'/'.join(definition.pattern.split('/')[:3])} {definition.header_name}"
        case _:
            return ""


def secret_of(definition: Definition) -> str:
    """The password or the secret, as a caller has just said it; empty without one."""
    match definition:
        case SqlSource():
            return definition.password
        case FilesSource():
            return definition.secret
        case KafkaSource():
            return definition.sasl_password or definition.client_key
        case _:
            return ""


def without_secret(definition: Definition) -> Definition:
    """The definition as it is stored and shown."""
    match definition:
        case SqlSource():
            return replace(definition, password="")
        case FilesSource():
            return replace(definition, secret="")
        case KafkaSource():
            return replace(definition, sasl_password="", client_key="")
        case _:
            return definition
