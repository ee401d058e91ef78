"""Raw values become typed ones, strictly: what does not fit exactly is refused, never bent. Pure."""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

from services.data.schema import ColumnType

Value = bool | int | float | str | datetime | date | None
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_ZEROS = re.compile(r"[+-]?0[0-9]")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))?\Z"
)
_BOOLS = {"true": True, "false": False, "1": True, "0": False}
EXACT = 2**53  # up to here a double holds every integer


class Misfit(ValueError):
    """A value that its type does not hold."""


def parse(value: Any, kind: ColumnType) -> Value:
    """The typed value of a raw one that is not missing: text, number, bool or bytes. Raises Misfit."""
    return _PARSERS[kind](value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = _BOOLS.get(value.lower()) if isinstance(value, str) else None
    if known is None and isinstance(value, int) and value in (0, 1):
        known = bool(value)
    if known is None:
        raise Misfit
    return known


def _int64(value: Any) -> int:
    if isinstance(value, bool):
        raise Misfit
    whole = isinstance(value, float) and abs(value) <= EXACT and value.is_integer()
    if whole or (isinstance(value, str) and _INTEGER.match(value)):
        value = int(value)
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise Misfit
    return value


def _double(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misfit
    try:
        number = float(value)
    except OverflowError:
        raise Misfit from None
    if not math.isfinite(number):
        raise Misfit
    return number


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        raise Misfit
    return value


def _timestamp(value: Any) -> datetime:
    """RFC 3339, or without zone, which means UTC; what is finer than a microsecond is cut off."""
    match = _TIMESTAMP.match(value) if isinstance(value, str) else None
    if match is None:
        raise Misfit
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    zone: tzinfo = UTC
    try:
        if sign:
            if int(hours) > 23 or int(minutes) > 59:
                raise Misfit
            zone = timezone(timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1))
        micros = int((fraction or "0").ljust(6, "0")[:6])
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micros, zone)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Misfit from None


def _date(value: Any) -> date:
    match = _DATE.match(value) if isinstance(value, str) else None
    if match is None:
        raise Misfit
    try:
        return date(*(int(part) for part in match.groups()))
    except ValueError:
        raise Misfit from None


_PARSERS: dict[ColumnType, Callable[[Any], Value]] = {
    ColumnType.BOOL: _bool,
    ColumnType.INT64: _int64,
    ColumnType.DOUBLE: _double,
    ColumnType.STRING: _string,
    ColumnType.TIMESTAMP: _timestamp,
    ColumnType.DATE: _date,
}
# Tried in this order: the first that holds every value is the type of a column.
_GUESSES = (ColumnType.INT64, ColumnType.DOUBLE, ColumnType.BOOL, ColumnType.TIMESTAMP, ColumnType.DATE)


def keeps(value: Any, kind: ColumnType) -> bool:
    """Whether a raw value loses nothing when it is read as a type: a code with leading zeros is no number."""
    if kind in (ColumnType.INT64, ColumnType.DOUBLE) and isinstance(value, str) and _ZEROS.match(value):
        return False
    try:
        parse(value, kind)
    except Misfit:
        return False
    return True


def guess(values: list[Any]) -> ColumnType:
    """The narrowest type that keeps all of some raw values that are not missing; string when there is none."""
    if any(isinstance(value, bool) for value in values):
        return ColumnType.BOOL if all(isinstance(value, bool) for value in values) else ColumnType.STRING
    found = (kind for kind in _GUESSES if values and all(keeps(value, kind) for value in values))
    return next(found, ColumnType.STRING)
