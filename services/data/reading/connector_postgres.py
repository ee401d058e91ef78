"""Tables of PostgreSQL, read by a key or a time."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.data.reading import extractor, postgres, samples
from services.data.reading.connector import End, PartLag, Sink
from services.data.reading.connector_sql import COUNTED, declared, sql_identity
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, SqlSource
from services.data.reading.patience import LEFT, Patience, deadlines, finish
from services.data.reading.postgres_server import opened, server_of
from services.data.reading.samples import Sample, Tried
from services.data.reading.sqlite import Table
from services.data.schema import quoted
from services.kit.errors import FailedPrecondition

_PAGE = 16_384  # records that are typed together
_WRITERS = 30.0  # seconds that a run waits for transactions that write to the table


class PostgresConnector:
    """A table; the cursor is the last value of its column that was read, with the key of that row."""

    apart = True

    def __init__(self, source: SqlSource) -> None:
        self._source = source

    @property
    def identity(self) -> str:
        """The database, the table and the column."""
        return sql_identity(self._source)

    @property
    def reaches(self) -> Sequence[tuple[str, int]]:
        """The server."""
        server = server_of(self._source.url)
        return ((server.host, server.port),)

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts rows with these columns."""
        return extractor.for_fields(compiled, fields)

    def below(self, allowed: Sequence[Path]) -> Place:
        """Nothing of this machine."""
        server_of(self._source.url)
        return Place(Path("/"), ())

    def look(self, place: Place) -> Table:
        """Describes the table."""
        with opened(place, self._source, samples.SECONDS) as connection:
            found = postgres.describe(connection, self._source)
        return Table(found.columns, found.key)

    def prepare(self, place: Place, compiled: Compiled) -> None:
        """Has the database compile a checked statement. Raises invalid_value, with what it says."""
        with opened(place, self._source, samples.SECONDS) as connection:
            table = postgres.describe(connection, self._source)
            postgres.page(connection, self._source, table, compiled.statement, None, None, 0)

    def preview(self, place: Place, records: int) -> Sample:
        """The first rows, with the declared types where their values keep to them."""
        source = self._source
        with opened(place, source, samples.SECONDS) as connection:
            table = postgres.describe(connection, source)
            names = [name for name, _ in table.columns]
            items = ", ".join([*map(quoted, names), postgres.selection(source, table.key)])
            statement = f"SELECT {items} FROM {postgres.relation(source)} WHERE TRUE"
            rows = postgres.page(connection, source, table, statement, None, None, records)
        found = tuple(dict(zip(names, row, strict=False)) for row in rows)
        columns = tuple(declared(name, kind, [record[name] for record in found]) for name, kind in table.columns)
        return Sample(found, columns, (source.table,))

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The first rows of the statement that an extraction runs."""
        names = [column.name for column in compiled.columns]
        ready = self.ready(compiled, names)
        with opened(place, self._source, samples.SECONDS) as connection:
            table = postgres.describe(connection, self._source)
            for row in postgres.page(connection, self._source, table, compiled.statement, None, None, records):
                yield Tried(row[:-2], ready, names)

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """Rows above the cursor, counted up to a bound, also those that are too young for a run."""
        after = cursor.get("after")
        with opened(place, self._source, samples.SECONDS) as connection:
            table = postgres.describe(connection, self._source)
            last = (after[0], after[1]) if after else None
            count = postgres.behind(connection, self._source, table, last, COUNTED)
        return [PartLag(self._source.table, 0, 0, count)]

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """The rows above the cursor that are there when it begins; a server that is away is waited for."""
        reading = _Reading(self._source, place, compiled, cursor, sink, seconds)
        finish(reading, Patience(seconds, sink.wait))
        return End({"after": list(reading.after) if reading.after else None}, reading.notes)


class _Reading:
    """One run: how far it is, whatever becomes of the connection."""

    def __init__(
        self, source: SqlSource, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float
    ) -> None:
        self._source, self._place, self._compiled = source, place, compiled
        self._sink = sink
        self._deadline, self._until = deadlines(seconds)
        after = cursor.get("after")
        self.after: tuple[str, str] | None = (after[0], after[1]) if after else None
        self._upto: str | None = None
        self._fields = [column.name for column in compiled.columns]
        self._ready = extractor.for_fields(compiled, self._fields)
        self.done = False
        self.notes: list[str] = []

    def go_on(self) -> None:
        """Reads to the end of what is there. Raises unavailable when the server is away."""
        source = self._source
        with opened(self._place, source, max(self._deadline - time.monotonic(), 1.0)) as connection:
            table = postgres.describe(connection, source)
            if self._upto is None:
                self._upto = postgres.newest(connection, source, table)
                self.done = self._upto is None
            if not postgres.writers_end(connection, table, _WRITERS):
                self.done = True
                self.notes.append(
                    f"nothing was read: a transaction has been writing to {source.table} for {_WRITERS:g} s"
                )
            while not self.done:
                self._page(connection, table)

    def _page(self, connection: Any, table: postgres.Described) -> None:
        source, upto = self._source, self._upto
        rows = postgres.page(connection, source, table, self._compiled.statement, self.after, upto, _PAGE)
        if rows:
            origins = [f"{source.table}:{row[-1] if table.key else row[-2]}" for row in rows]
            self._sink.take(self._ready, [row[:-2] for row in rows], origins, self._fields)
            last = (rows[-1][-2], rows[-1][-1])
            if last == self.after:
                raise FailedPrecondition("the server sends rows that it has sent before")
            self.after = last
            self._sink.tell(0.5)
        self.done = not rows
        if rows and time.monotonic() > self._until:
            self.done = True
            self.notes.append(LEFT)
