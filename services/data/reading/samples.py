"""The first records of a source, for previews and tests of rules: bounded in records, bytes and time."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.data.reading import extractor, folders, lines, sqlite
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Parts
from services.data.reading.kinds import Compiled, Definition, FileFormat, FilesSource, SqlSource
from services.data.reading.places import Place
from services.data.reading.sqlite import Table
from services.data.reading.values import Misfit, guess, parse
from services.data.schema import Column, ColumnType
from services.kit.errors import Code, Failure, InvalidValue

_SECONDS = 10.0
_BYTES = 16 * 2**20
_PARTS = 100  # of a source that are named
_STEP = 100  # records between two looks at the clock


@dataclass(frozen=True)
class Sample:
    """Records by field, what they suggest, and the parts of the source."""

    records: tuple[dict[str, Any], ...]
    columns: tuple[Column, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Tried:
    """A record and the part's extractor for it; `reason` is set for what is no record."""

    record: Any
    extractor: Extractor
    fields: Sequence[str]
    text: str = ""
    reason: str = ""

    def shown(self) -> str:
        """The record for people."""
        return self.text or lines.text_of(self.record, self.fields)


def look(definition: Definition, place: Place) -> Table | None:
    """Opens a source. Raises invalid_value with the reason why not; describes a table."""
    if isinstance(definition, SqlSource):
        with sqlite.opened(place.root, place.steps, _SECONDS) as connection:
            return sqlite.describe(connection, definition)
    _parts(place)
    return None


def prepare(source: SqlSource, place: Place, compiled: Compiled) -> None:
    """Has the database compile a checked statement. Raises invalid_value, with what it says; sql_not_allowed."""
    with sqlite.opened(place.root, place.steps, _SECONDS) as connection:
        sqlite.confine(connection, source.table)
        sqlite.page(connection, source, compiled.statement, None, 0)


def _parts(place: Place) -> list[Parts]:
    parts = folders.matches(place.root, place.steps)
    if not parts:
        raise InvalidValue(f"{'/'.join(place.steps)} matches no file")
    return parts


def preview(definition: Definition, place: Place, records: int) -> Sample:
    """The first records as they are. Raises invalid_value, limit_exceeded."""
    if isinstance(definition, SqlSource):
        return _preview_table(definition, place, records)
    found = [record for record, _ in zip(_fields(definition, place), range(records), strict=False)]
    missing = {"", *definition.null_values} if definition.format is FileFormat.CSV else set()
    names = list(dict.fromkeys(name for record in found for name in record))
    columns = tuple(_column(name, [record.get(name) for record in found], missing) for name in names)
    parts = tuple("/".join(part) for part in _parts(place)[:_PARTS])
    return Sample(tuple(found), columns, parts)


def _preview_table(source: SqlSource, place: Place, records: int) -> Sample:
    with sqlite.opened(place.root, place.steps, _SECONDS) as connection:
        table = sqlite.describe(connection, source)
        names, rows = sqlite.preview(connection, source, records)
    found = tuple(dict(zip(names, row, strict=True)) for row in rows)
    columns = tuple(_declared(name, kind, [record[name] for record in found]) for name, kind in table.columns)
    return Sample(found, columns, (source.table,))


def _declared(name: str, kind: ColumnType | None, values: Sequence[Any]) -> Column:
    """The declared type where the values keep to it; a database without types for times has them as text."""
    suggested = _column(name, values, set())
    if kind is None:
        return suggested
    if kind is ColumnType.STRING:
        times = suggested.type in (ColumnType.TIMESTAMP, ColumnType.DATE)
        return suggested if times else Column(name, kind, suggested.nullable)
    try:
        for value in values:
            if value is not None:
                parse(value, kind)
    except Misfit:
        return suggested
    return Column(name, kind, suggested.nullable)


def _column(name: str, values: Sequence[Any], missing: set[str]) -> Column:
    there = [v for v in values if v is not None and not (isinstance(v, str) and v in missing)]
    return Column(name, guess(there), len(there) < len(values))


def _fields(source: FilesSource, place: Place) -> Iterator[dict[str, Any]]:
    for reader, batch in _batches(source, place):
        for record in batch.records:
            match source.format:
                case FileFormat.CSV:
                    yield dict(zip(reader.fields, record, strict=True))
                case FileFormat.JSON_LINES:
                    yield record
                case FileFormat.TEXT:
                    yield {"line": record}


def _batches(source: FilesSource, place: Place) -> Iterator[tuple[lines.Reader, lines.Batch]]:
    deadline, left = time.monotonic() + _SECONDS, _BYTES
    for part in _parts(place):
        with os.fdopen(folders.open_file(place.root, part), "rb") as file:
            reader = lines.reader(source, file)
            begin = reader.offset
            while (batch := reader.read(_STEP, lines.LONGEST)).size:
                yield reader, batch
                if time.monotonic() > deadline:
                    raise Failure(Code.LIMIT_EXCEEDED, "reading the sample takes too long")
                if reader.offset - begin > left:
                    return
            left -= reader.offset - begin


def tries(definition: Definition, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
    """The first records with what extracts them. Raises invalid_value, limit_exceeded."""
    if isinstance(definition, SqlSource):
        yield from _try_table(definition, place, compiled, records)
        return
    for reader, batch in _batches(definition, place):
        ready = extractor_for(definition, compiled, reader.fields)
        for _, text, reason in batch.broken:
            yield Tried(None, ready, (), text, reason)
        for record in batch.records:
            yield Tried(record, ready, reader.fields)


def extractor_for(source: FilesSource, compiled: Compiled, fields: Sequence[str]) -> Extractor:
    """What extracts the records of a file with these fields."""
    if compiled.pattern:
        return extractor.for_lines(compiled)
    if compiled.paths:
        return extractor.for_documents(compiled)
    return extractor.for_fields(compiled, fields, frozenset(["", *source.null_values]))


def _try_table(source: SqlSource, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
    names = [column.name for column in compiled.columns]
    ready = extractor.for_fields(compiled, names)
    with sqlite.opened(place.root, place.steps, _SECONDS) as connection:
        sqlite.confine(connection, source.table)
        for row in sqlite.page(connection, source, compiled.statement, None, records):
            yield Tried(row, ready, names)
