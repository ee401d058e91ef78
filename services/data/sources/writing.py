"""Writes rows into a table of somebody else's database, in one transaction that also says which work did it.

So work that is done again, because nobody knows whether its commit arrived, finds its own line and writes nothing.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.data.reading import postgres_server, sqlite
from services.data.reading.folders import Place
from services.data.reading.kinds import SqlSource
from services.data.schema import Column, ColumnType, quoted
from services.kit.errors import Code, FailedPrecondition, Failure

DONE = "aimass_writes"  # the table with a line for each piece of work
_KEPT = 90 * 24 * 3600  # seconds that a line is kept
_ROWS = 1000  # that are sent together
_TYPES = {
    "postgres": {
        ColumnType.BOOL: "boolean",
        ColumnType.INT64: "bigint",
        ColumnType.DOUBLE: "double precision",
        ColumnType.STRING: "text",
        ColumnType.TIMESTAMP: "timestamptz",
        ColumnType.DATE: "date",
    },
    "sqlite": {
        ColumnType.BOOL: "BOOLEAN",
        ColumnType.INT64: "INTEGER",
        ColumnType.DOUBLE: "REAL",
        ColumnType.STRING: "TEXT",
        ColumnType.TIMESTAMP: "TIMESTAMP",
        ColumnType.DATE: "DATE",
    },
}


@dataclass(frozen=True)
class Target:
    """What is written, and by which work. `mode` is append, replace or upsert; `table` may have a schema before it."""

    table: str
    mode: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    operation: str


class _Connection(Protocol):
    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Any: ...


def write(
    source: SqlSource, place: Place, target: Target, tables: Iterable[Any], tell: Callable[[int], None], seconds: float
) -> int:
    """The rows that were written. `tables` are Arrow tables, `tell` hears how many rows have been sent.

    Raises unavailable for a database that is away or a table that is locked, failed_precondition, invalid_value,
    limit_exceeded.
    """
    if source.remote:
        return _postgres(source, place, target, tables, tell, seconds)
    with sqlite.opened(place.root, place.steps, seconds, writes=True) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        work = _Work(connection, connection.executemany, target, "sqlite", "")
        rows = work.run(tables, tell)
        connection.execute("COMMIT")
    return rows


def leftover(source: SqlSource, place: Place) -> Path | None:
    """What a writer that was killed leaves of its transaction beside a SQLite file."""
    return None if source.remote else place.root.joinpath(*place.steps[:-1], f"{place.steps[-1]}-journal")


def take_back(place: Place, seconds: float) -> None:
    """Has SQLite take back what such a writer has done. Who may only read the file cannot, and could not read it."""
    with sqlite.opened(place.root, place.steps, seconds, writes=True) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()


def _postgres(
    source: SqlSource, place: Place, target: Target, tables: Iterable[Any], tell: Callable[[int], None], seconds: float
) -> int:
    import psycopg

    schema, dot, _ = target.table.rpartition(".")
    where = f"{quoted(schema if dot else 'public')}."
    with postgres_server.opened(place, source, seconds, writes=True) as connection:
        try:
            with connection.transaction(), connection.cursor() as cursor:
                # One at a time: two that replace would keep the rows of both.
                cursor.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"aimass {where}{target.table}",)
                )
                return _Work(cursor, cursor.executemany, target, "postgres", where).run(tables, tell)
        except psycopg.DataError as error:
            # What the server says has the value in it, which not everybody who sees the operation may see.
            kind = type(error).__name__
            raise FailedPrecondition(f"a value does not fit a column of {target.table}: {kind}") from None
        except psycopg.errors.UniqueViolation as error:
            if error.diag.schema_name != "pg_catalog":
                raise
            # Somebody else has just made a table that was not there.
            raise Failure(Code.UNAVAILABLE, f"somebody else makes a table beside {target.table}") from None
        except psycopg.errors.LockNotAvailable:
            raise Failure(Code.UNAVAILABLE, f"the table {target.table} is locked by somebody else") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise FailedPrecondition(f"the database refuses it: {error.diag.message_primary}") from None


class _Work:
    """What is done within the transaction."""

    def __init__(self, connection: _Connection, many: Any, target: Target, kind: str, where: str) -> None:
        """`where`: what stands before the name of a table."""
        self._connection, self._many, self._target, self._kind = connection, many, target, kind
        self._mark = "%s" if kind == "postgres" else "?"
        self._done = f"{where}{quoted(DONE)}"
        self._table = f"{where}{quoted(target.table.rpartition('.')[2])}"

    def run(self, tables: Iterable[Any], tell: Callable[[int], None]) -> int:
        """The rows that were written, also if that was before."""
        execute, mark, target = self._connection.execute, self._mark, self._target
        execute(
            f"CREATE TABLE IF NOT EXISTS {self._done} (operation varchar(64) PRIMARY KEY, row_count bigint, at bigint)"
        )
        found = execute(f"SELECT row_count FROM {self._done} WHERE operation = {mark}", (target.operation,)).fetchone()
        if found:
            return int(found[0])
        execute(self._creation())
        if self._kind == "postgres":
            execute(f"LOCK TABLE {self._table} IN SHARE ROW EXCLUSIVE MODE")
        if target.mode == "replace":
            execute(f"DELETE FROM {self._table}")
        rows, statement = 0, self._insertion()
        for batch in self._batches(tables):
            self._many(statement, batch)
            rows += len(batch)
            tell(rows)
        now = int(time.time())
        execute(f"DELETE FROM {self._done} WHERE at < {mark}", (now - _KEPT,))
        execute(f"INSERT INTO {self._done} VALUES ({mark}, {mark}, {mark})", (target.operation, rows, now))
        return rows

    def _creation(self) -> str:
        types = _TYPES[self._kind]
        parts = [f"{quoted(column.name)} {types[column.type]}" for column in self._target.columns]
        if self._target.key:
            parts.append(f"PRIMARY KEY ({', '.join(map(quoted, self._target.key))})")
        return f"CREATE TABLE IF NOT EXISTS {self._table} ({', '.join(parts)})"

    def _insertion(self) -> str:
        names = [column.name for column in self._target.columns]
        marks = ", ".join([self._mark] * len(names))
        text = f"INSERT INTO {self._table} ({', '.join(map(quoted, names))}) VALUES ({marks})"
        if not self._target.key:
            return text
        rest = [quoted(name) for name in names if name not in self._target.key]
        change = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in rest)}" if rest else "NOTHING"
        return f"{text} ON CONFLICT ({', '.join(map(quoted, self._target.key))}) DO {change}"

    def _batches(self, tables: Iterable[Any]) -> Iterator[list[tuple[Any, ...]]]:
        """Rows as the database takes them. Raises failed_precondition for a key that is NULL."""
        for table in tables:
            for batch in table.to_batches(_ROWS):
                for name in self._target.key:
                    if batch.column(name).null_count:
                        raise FailedPrecondition(f"the key {name} is NULL in some rows")
                columns = [_values(batch.column(column.name), column, self._kind) for column in self._target.columns]
                yield list(zip(*columns, strict=True))


def _values(found: Any, column: Column, database: str) -> list[Any]:
    """Raises failed_precondition for a time that is none of Python's."""
    try:
        values: list[Any] = found.to_pylist()
    except (ValueError, OverflowError):
        raise FailedPrecondition(f"a value of {column.name} is in no year from 1 to 9999") from None
    kind = column.type
    if database == "sqlite" and kind in (ColumnType.DATE, ColumnType.TIMESTAMP):
        return [None if value is None else value.isoformat() for value in values]
    return values
