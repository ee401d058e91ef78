"""What may be written where. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.data.reading.kinds import SqlSource
from services.data.schema import Column
from services.kit.errors import FailedPrecondition, InvalidValue, Violation

MODES = ("append", "replace", "upsert")
_TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
_RESERVED = ("pg_", "sqlite_", "aimass_", "information_schema")
_LONGEST = 63  # bytes of the name of a column: PostgreSQL cuts longer ones


@dataclass(frozen=True)
class Pinned:
    """A version by its name in a query."""

    alias: str
    data_set: str
    version: int


@dataclass(frozen=True)
class Write:
    """Work that writes the result of a query into a table; `hidden` are columns by data set that are NULL in it."""

    operation: str
    source: str
    table: str
    mode: str
    key: tuple[str, ...]
    sql: str
    tables: tuple[Pinned, ...]
    hidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def check_target(table: str, mode: str, key: Sequence[str]) -> None:
    """Raises invalid_value."""
    if mode not in MODES:
        raise _wrong("mode", f"must be one of {', '.join(MODES)}")
    if not _TABLE.match(table):
        raise _wrong("table", "must be table or schema.table, of letters, digits and underscores")
    if any(part.lower().startswith(_RESERVED) for part in table.split(".")):
        raise _wrong("table", "must not begin as the tables of the database or of this service do")
    if bool(key) != (mode == "upsert"):
        raise _wrong("key", "must be set for upsert, and for nothing else")
    if len(set(key)) < len(key):
        raise _wrong("key", "must name each column once")


def check_apart(table: str, source: SqlSource) -> None:
    """Raises invalid_value for the table of the source itself, whose extractions would read what is written.

    In SQLite also for one with a schema.
    """
    schema, dot, name = table.rpartition(".")
    if not source.remote:
        if dot:
            raise _wrong("table", "must be without a schema in SQLite")
        if name.lower() == source.table.lower():
            raise _wrong("table", "must be another one than that of the source")
        return
    own, _, relation = source.table.rpartition(".")
    if (schema or "public", name) == (own or "public", relation):
        raise _wrong("table", "must be another one than that of the source")


def check_columns_of(columns: Sequence[Column], key: Sequence[str]) -> None:
    """Raises failed_precondition for columns that a table cannot have, or a key that is none of them."""
    names = {column.name for column in columns}
    for name in names:
        if len(name.encode()) > _LONGEST or "\0" in name:
            raise FailedPrecondition(
                f"the column {name[:40]} has more than {_LONGEST} bytes: name it otherwise with AS"
            )
    for name in key:
        if name not in names:
            raise FailedPrecondition(f"the key {name[:63]} is no column of the result")


def _wrong(name: str, rule: str) -> InvalidValue:
    return InvalidValue(f"{name} {rule}", [Violation(f"/{name}", rule)])
