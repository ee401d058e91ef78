"""Tables of PostgreSQL as sources: one connection to a checked address, read-only, each statement bounded in time.

The server is not trusted: it may send more than it was asked for, nothing, or garbage. So this runs in a child, whose
memory is bounded; answers are read in pieces, and counted.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from services.data.reading.kinds import SqlSource
from services.data.schema import ColumnType, quoted
from services.kit.errors import FailedPrecondition, InvalidValue

_PIECE = 1000  # rows that are read at once
_BYTES = 64 * 2**20  # of one page
_TYPES = {
    "boolean": ColumnType.BOOL,
    "smallint": ColumnType.INT64,
    "integer": ColumnType.INT64,
    "bigint": ColumnType.INT64,
    "real": ColumnType.DOUBLE,
    "double precision": ColumnType.DOUBLE,
    "numeric": ColumnType.DOUBLE,
    "date": ColumnType.DATE,
    "timestamp without time zone": ColumnType.TIMESTAMP,
    "timestamp with time zone": ColumnType.TIMESTAMP,
}
_ROWS = quoted("__rows")
TIMES = ("date", "timestamp without time zone", "timestamp with time zone")


@dataclass(frozen=True)
class Described:
    """A table as its server describes it. `key` breaks ties of a cursor that is not unique; empty for one that is."""

    oid: int
    columns: tuple[tuple[str, ColumnType | None], ...]
    kinds: dict[str, str]
    key: str


def relation(source: SqlSource) -> str:
    """The table as SQL names it; `schema.table` is one of another schema than public.

    It has an alias, for ORDER BY: there a name alone is first of all one of the columns that are selected.
    """
    schema, dot, table = source.table.rpartition(".")
    return f"{quoted(schema if dot else 'public')}.{quoted(table)} AS {_ROWS}"


def describe(connection: Any, source: SqlSource) -> Described:
    """The columns of a source's table. Raises invalid_value when it is no table, or the cursor orders no rows."""
    schema, dot, table = source.table.rpartition(".")
    found = connection.execute(
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
        (schema if dot else "public", table),
    ).fetchone()
    if found is None:
        raise InvalidValue(f"there is no table {source.table}")
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, NULL), attnotnull, attnum FROM pg_attribute"
        " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        found,
    ).fetchall()
    numbers = {name: number for name, _, _, number in rows}
    if source.cursor not in numbers:
        raise InvalidValue(f"{source.table} has no column {source.cursor}")
    if not {name: filled for name, _, filled, _ in rows}[source.cursor]:
        _check_filled(connection, source)
    kinds = {name: kind for name, kind, _, _ in rows}
    columns = tuple((name, _TYPES.get(kind, ColumnType.STRING)) for name, kind in kinds.items())
    return Described(found[0], columns, kinds, _key(connection, source, found[0], numbers))


def _check_filled(connection: Any, source: SqlSource) -> None:
    empty = f"SELECT 1 FROM {relation(source)} WHERE {quoted(source.cursor)} IS NULL LIMIT 1"
    if connection.execute(empty).fetchone():
        raise InvalidValue(f"the cursor {source.cursor} is NULL in some rows, which would never be read")


def _key(connection: Any, source: SqlSource, oid: int, numbers: dict[str, int]) -> str:
    """The column that orders rows of equal cursors."""
    indexes = connection.execute(
        "SELECT indkey::text, indisprimary FROM pg_index"
        " WHERE indrelid = %s AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL"
        " AND indnkeyatts = 1",
        (oid,),
    ).fetchall()
    names = {str(number): name for name, number in numbers.items()}
    alone = [(names.get(found.split()[0], ""), primary) for found, primary in indexes]
    if any(name == source.cursor for name, _ in alone):
        return ""
    key = next((name for name, primary in alone if primary), "")
    if not key:
        raise InvalidValue(
            f"the cursor {source.cursor} is not unique, and {source.table} has no primary key of one column for rows"
            " with the same value"
        )
    return key


def newest(connection: Any, source: SqlSource, table: Described) -> str | None:
    """The largest value of the cursor that may be read now, as text: None where there is none.

    Times of the last `lag_seconds` are left: a transaction that is still running may add older ones.
    """
    cursor, where = quoted(source.cursor), ""
    if table.kinds[source.cursor] in TIMES:
        where = f"WHERE {cursor} <= now() - make_interval(secs => {int(source.lag_seconds or 60)})"
    query = f"SELECT {cursor}::text FROM {relation(source)} {where} ORDER BY {_ROWS}.{cursor} DESC LIMIT 1"
    found = connection.execute(query).fetchone()
    return found[0] if found else None


def writers_end(connection: Any, table: Described, seconds: float) -> bool:
    """Waits for the transactions that write to a table now: they may have taken smaller keys than are there by now.

    False if they do not end in time.
    """
    query = (
        "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted"
        " AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND pid IS DISTINCT FROM pg_backend_pid()"
        " AND (relation = %s OR relation IN (SELECT relid FROM pg_partition_tree(%s)))"
    )
    asked, deadline = (table.oid, table.oid), time.monotonic() + seconds
    before = set(connection.execute(query, asked).fetchall())
    while before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
        before &= set(connection.execute(query, asked).fetchall())
    return True


def behind(connection: Any, source: SqlSource, table: Described, after: tuple[str, str] | None, most: int) -> int:
    """Rows above a cursor and a key (None: all), counted up to `most`."""
    rows, values = f"SELECT 1 FROM {relation(source)}", list[Any]()
    if after is not None:
        key = table.key or source.cursor
        kinds = f"CAST(%s AS {table.kinds[source.cursor]}), CAST(%s AS {table.kinds[key]})"
        names = f"{quoted(source.cursor)}, {quoted(key)}".replace("%", "%%")
        rows, values = f"{rows.replace('%', '%%')} WHERE ({names}) > ({kinds})", [*after]
    query = f"SELECT count(*) FROM ({rows} LIMIT {most}) AS counted"
    return int(connection.execute(query, values or None).fetchone()[0])


def page(
    connection: Any,
    source: SqlSource,
    table: Described,
    statement: str,
    after: tuple[str, str] | None,
    upto: str | None,
    rows: int,
) -> list[tuple[Any, ...]]:
    """The rows of a checked statement above a cursor and a key, not above `upto`; the last two values are those.

    Raises failed_precondition for a statement that was written for another cursor, or for a server that sends more.
    """
    # A sign of percent would be read as the place of a value.
    cursor, key = (quoted(name).replace("%", "%%") for name in (source.cursor, table.key or source.cursor))
    if selection(source, table.key) not in statement:
        raise FailedPrecondition(f"the rule was made for another cursor than {source.cursor}: add a version to it")
    kind, tie = table.kinds[source.cursor], table.kinds[table.key or source.cursor]
    text, values = statement.replace("%", "%%"), list[Any]()
    if after is not None:
        text += f" AND ({cursor}, {key}) > (CAST(%s AS {kind}), CAST(%s AS {tie}))"
        values += after
    if upto is not None:
        text += f" AND {cursor} <= CAST(%s AS {kind})"
        values.append(upto)
    text += f" ORDER BY {_ROWS}.{cursor}, {_ROWS}.{key} LIMIT {rows}"
    found, size = list[tuple[Any, ...]](), 0
    for row in connection.cursor().stream(text, values, size=_PIECE):
        found.append(tuple(map(_plain, row)))
        size += sum(len(value) for value in found[-1] if isinstance(value, str))
        if len(found) > rows:
            raise FailedPrecondition("the server sends more rows than it was asked for")
        if size > _BYTES:
            break
    return found


def selection(source: SqlSource, key: str) -> str:
    """What a statement selects behind its own columns, for `page`."""
    cursor = quoted(source.cursor)
    return f"{cursor}::text AS {quoted('__cursor')}, {quoted(key or source.cursor)}::text AS {quoted('__key')}"


def _plain(value: Any) -> Any:
    """A value as JSON has it; times with the zone that RFC 3339 writes."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return f"{value[:-3]}Z" if value.endswith("+00") and value[4:5] == "-" else value
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return json.dumps(value, default=str)
