"""Columns of tables: what sources, rules, data sets and features of the data service share. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.kit.errors import InvalidValue


class ColumnType(StrEnum):
    """What a column holds. Timestamps are UTC with microseconds."""

    BOOL = "bool"
    INT64 = "int64"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DATE = "date"


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    type: ColumnType
    nullable: bool = True


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def check_columns(columns: Iterable[Column]) -> None:
    """Raises invalid_value when a name is empty, too long, used twice (case does not count), or reserved."""
    seen = set[str]()
    for column in columns:
        if not 0 < len(column.name) <= 128:
            raise InvalidValue(f"the column name {column.name[:40]!r} must have 1 to 128 characters")
        if column.name.startswith("__"):
            raise InvalidValue(f"the column name {column.name} must not begin with two underscores")
        if column.name.lower() in seen:
            raise InvalidValue(f"the column {column.name} is there twice")
        seen.add(column.name.lower())
