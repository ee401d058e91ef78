"""Tables of SQLite files, read by a unique increasing column; and what PostgreSQL has in common with them."""

import hashlib
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.data.reading import extractor, folders, samples, sqlite
from services.data.reading.connector import End, PartLag, Sink
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, SqlSource
from services.data.reading.patience import LEFT, Patience, deadlines, finish
from services.data.reading.samples import Sample, Tried, suggested
from services.data.reading.sqlite import Table
from services.data.reading.values import Misfit, parse
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition

_PAGE = 32_768  # records that are typed together
COUNTED = 1_000_000  # rows behind a cursor


class SqlConnector:
    """A table; the cursor is the last value of its column that was read."""

    def __init__(self, source: SqlSource) -> None:
        self._source = source

    @property
    def identity(self) -> str:
        """The database, the table and the column."""
        return sql_identity(self._source)

    @property
    def reaches(self) -> Sequence[tuple[str, int]]:
        """No server."""
        return ()

    @property
    def apart(self) -> bool:
        """SQLite files are opened with an authorizer and limits."""
        return False

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts rows with these columns."""
        return extractor.for_fields(compiled, fields)

    def below(self, allowed: Sequence[Path]) -> Place:
        """The file that the URL names."""
        return folders.place(allowed, sqlite.path_of(self._source.url))

    def look(self, place: Place) -> Table:
        """Describes the table."""
        with sqlite.opened(place.root, place.steps, samples.SECONDS) as connection:
            return sqlite.describe(connection, self._source)

    def prepare(self, place: Place, compiled: Compiled) -> None:
        """Has the database compile a checked statement. Raises invalid_value, with what it says; sql_not_allowed."""
        with sqlite.opened(place.root, place.steps, samples.SECONDS) as connection:
            sqlite.confine(connection, self._source.table)
            sqlite.page(connection, self._source, compiled.statement, None, 0)

    def preview(self, place: Place, records: int) -> Sample:
        """The first rows, with the declared types where their values keep to them."""
        with sqlite.opened(place.root, place.steps, samples.SECONDS) as connection:
            table = sqlite.describe(connection, self._source)
            names, rows = sqlite.preview(connection, self._source, records)
        found = tuple(dict(zip(names, row, strict=True)) for row in rows)
        columns = tuple(declared(name, kind, [record[name] for record in found]) for name, kind in table.columns)
        return Sample(found, columns, (self._source.table,))

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first rows of the statement that an extraction runs."""
        names = [column.name for column in compiled.columns]
        ready = extractor.for_fields(compiled, names)
        with sqlite.opened(place.root, place.steps, samples.SECONDS) as connection:
            sqlite.confine(connection, self._source.table)
            for row in sqlite.first(connection, self._source, compiled.statement, records):
                yield Tried(row, ready, names)

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """Rows above the cursor, counted up to a bound."""
        with sqlite.opened(place.root, place.steps, samples.SECONDS) as connection:
            sqlite.describe(connection, self._source)
            count = sqlite.behind(connection, self._source, cursor.get("after"), COUNTED)
        return [PartLag(self._source.table, 0, 0, count)]

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """The rows above the cursor that are there when it begins; a file that somebody has locked is waited for."""
        reading = _Reading(self._source, place, compiled, cursor, sink, seconds)
        finish(reading, Patience(seconds, sink.wait))
        return End({"after": reading.after}, reading.notes)


class _Reading:
    """One run: how far it is, whoever locks the file."""

    def __init__(
        self, source: SqlSource, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float
    ) -> None:
        self._source, self._place, self._compiled, self._sink = source, place, compiled, sink
        self._fields = [column.name for column in compiled.columns]
        self._deadline, self._until = deadlines(seconds)
        self._ready = extractor.for_fields(compiled, self._fields)
        self.after, self.done = cursor.get("after"), False
        self.notes: list[str] = []
        self._first: Any = None
        # Its only value is the newest one: set once there is one.
        self._newest: tuple[Any, ...] = ()

    def go_on(self) -> None:
        """Reads to the end of what is there. Raises unavailable when the file is locked."""
        source = self._source
        with sqlite.opened(self._place.root, self._place.steps, self._deadline - time.monotonic()) as connection:
            sqlite.describe(connection, source)
            sqlite.confine(connection, source.table)
            self._newest = self._newest or (sqlite.newest(connection, source),)
            while not self.done:
                self._page(connection, self._newest[0])

    def _page(self, connection: sqlite3.Connection, newest: Any) -> None:
        source = self._source
        rows = sqlite.page(connection, source, self._compiled.statement, self.after, _PAGE)
        if rows:
            values = [row[self._compiled.cursor] for row in rows]
            self._first = values[0] if self._first is None else self._first
            after = _kept(values[-1], source)
            self._sink.take(self._ready, rows, [f"{source.table}:{value}" for value in values], self._fields)
            self.after = after
            self._sink.tell(_fraction(self._first, after, newest))
        # Rows that are added while we read are for the next run, or this one may never end.
        self.done = len(rows) < _PAGE or self.after == newest
        if not self.done and time.monotonic() > self._until:
            self.done = True
            self.notes.append(LEFT)


def sql_identity(source: SqlSource) -> str:
    """What the cursor of a table belongs to."""
    said = "\0".join((source.url, source.table, source.cursor))
    return f"sha256:{hashlib.sha256(said.encode()).hexdigest()}"


def declared(name: str, kind: ColumnType | None, values: Sequence[Any]) -> Column:
    """The declared type where the values keep to it; a database without types for times has them as text."""
    found = suggested(name, values, set())
    if kind is None:
        return found
    if kind is ColumnType.STRING:
        times = found.type in (ColumnType.TIMESTAMP, ColumnType.DATE)
        return found if times else Column(name, kind, found.nullable)
    try:
        for value in values:
            if value is not None:
                parse(value, kind)
    except Misfit:
        return found
    return Column(name, kind, found.nullable)


def _kept(cursor: Any, source: SqlSource) -> Any:
    """A cursor that survives being written down. Raises failed_precondition: a run after it would read rows twice."""
    if isinstance(cursor, int | str) or (isinstance(cursor, float) and math.isfinite(cursor)):
        return cursor
    raise FailedPrecondition(f"the cursor {source.cursor} of {source.table} holds neither a number nor a text")


def _fraction(first: Any, after: Any, newest: Any) -> float:
    try:
        return float((after - first) / (newest - first))
    except (TypeError, ZeroDivisionError):
        return 0.5
