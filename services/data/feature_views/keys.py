"""What an entity is known by: the values of its key as they are asked for and as they are stored."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from services.data.schema import Column, ColumnType
from services.kit.errors import invalid

LONGEST_KEY = 1024  # characters of a text that is asked for
_EXACT = 2**53
_INT64 = 2**63


def key_of(columns: Sequence[Column], values: Sequence[Any], at: str) -> list[Any]:
    """What a key is known by: values of JSON by the columns' types. Raises invalid_value."""
    if len(values) != len(columns):
        names = ", ".join(column.name for column in columns)
        raise invalid(at, f"must have a value for each of {names}")
    pairs = zip(columns, values, strict=True)
    return [_part(column, value, f"{at}/values/{index}") for index, (column, value) in enumerate(pairs)]


def _part(column: Column, value: Any, at: str) -> Any:
    match column.type:
        case ColumnType.STRING if isinstance(value, str) and len(value) <= LONGEST_KEY:
            return value
        case ColumnType.BOOL if isinstance(value, bool):
            return value
        case ColumnType.INT64 if (number := _integer(value)) is not None:
            return number
        case ColumnType.DATE if isinstance(value, str) and (day := _day(value)):
            return day
    wanted = {
        ColumnType.STRING: f"a text of at most {LONGEST_KEY} characters",
        ColumnType.BOOL: "a boolean",
        ColumnType.INT64: "an integer of 64 bits, as a text beyond 2^53",
        ColumnType.DATE: "a date: 2030-01-31",
    }[column.type]
    raise invalid(at, f"must be {wanted}, for {column.name}")


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, str) and len(value) <= 20 and value.removeprefix("-").isdecimal() and value.isascii():
        return int(value) if -_INT64 <= int(value) < _INT64 else None
    return None


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat() if len(value) == 10 else ""
    except ValueError:
        return ""
