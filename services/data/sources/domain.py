"""What a source means: a name for a place that raw data comes from."""

from dataclasses import dataclass
from datetime import datetime

from services.data.reading.kinds import Definition, FileFormat, FilesSource
from services.kit import resources
from services.kit.errors import InvalidValue, NotFound, match_etag


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


def check(definition: Definition) -> None:
    """Raises invalid_value for a description that no source can have."""
    if not isinstance(definition, FilesSource):
        return
    if bool(definition.pattern) == bool(definition.upload_digest):
        raise InvalidValue("files need a pattern or the digest of an upload, and not both")
    if definition.format is FileFormat.CSV:
        _check_dialect(definition)


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


def existing(source: Source | None, name: str) -> Source:
    """A source that is there. Raises not_found."""
    if source is None or source.delete_time:
        raise NotFound(f"there is no source {name}")
    return source


def changed(source: Source, change: Change, etag: str, now: datetime) -> Source:
    """The source after an update. Raises etag_mismatch."""
    match_etag(etag, source.generation, source.source)
    description = source.description if change.description is None else change.description
    return resources.changed(source, now, description=description, definition=change.definition or source.definition)
