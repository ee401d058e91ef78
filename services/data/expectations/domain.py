"""What an expectation means: which columns can have which, and how one is said. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from services.data.schema import Column, ColumnType
from services.kit.errors import Code, Failure, InvalidValue, Violation, match_etag


class Kind(StrEnum):
    """What is expected."""

    NOT_NULL = "not_null"
    RANGE = "range"
    VALUES = "values"
    UNIQUE = "unique"
    ROW_COUNT = "row_count"
    MISSING = "missing"


class Action(StrEnum):
    """What is done when it does not hold, from the gravest."""

    BLOCK = "block"
    QUARANTINE = "quarantine"
    WARN = "warn"


# Kinds that no single row breaks.
OF_TABLES = (Kind.ROW_COUNT, Kind.MISSING)
_NUMBERS = (ColumnType.INT64, ColumnType.DOUBLE)
_TIMES = (ColumnType.DATE, ColumnType.TIMESTAMP)
_TYPES = {
    Kind.RANGE: (*_NUMBERS, *_TIMES),
    Kind.VALUES: (ColumnType.STRING, ColumnType.INT64, ColumnType.BOOL),
    Kind.UNIQUE: tuple(kind for kind in ColumnType if kind is not ColumnType.DOUBLE),
}


@dataclass(frozen=True)
class Expectation:
    """One expectation; bounds and values are texts, as quality reports have them."""

    kind: Kind
    action: Action
    column: str = ""
    minimum: str = ""
    maximum: str = ""
    values: tuple[str, ...] = ()
    fraction: float = 0.0


@dataclass(frozen=True)
class Expectations:
    """All of a data set; generation 0: it never had any."""

    data_set: str
    items: tuple[Expectation, ...] = ()
    generation: int = 0
    update_time: datetime | None = None


@dataclass(frozen=True)
class Result:
    """What came of one: rows that break it, or 1 for one that no single row breaks; and what was found."""

    expectation: Expectation
    failed: int
    found: str


@dataclass(frozen=True)
class Check:
    """What came of all when a version was written; version 0: none was."""

    check: str
    data_set: str
    version: int
    run: str
    results: tuple[Result, ...]
    create_time: datetime

    @property
    def action(self) -> Action | None:
        """The gravest of those that do not hold."""
        broken = {result.expectation.action for result in self.results if result.failed}
        return next((action for action in Action if action in broken), None)


def fits(kind: Kind, column: ColumnType) -> bool:
    """Whether it can be expected of a column of this type."""
    return column in _TYPES.get(kind, tuple(ColumnType))


def said(expected: Expectation) -> str:
    """An expectation in words: the reason of rows that were quarantined for it."""
    bounds = " and ".join(
        f"{word} {text}" for word, text in (("at least", expected.minimum), ("at most", expected.maximum)) if text
    )
    match expected.kind:
        case Kind.NOT_NULL:
            return f"{expected.column} is never NULL"
        case Kind.RANGE:
            return f"{expected.column} is {bounds}"
        case Kind.VALUES:
            return f"{expected.column} is one of {len(expected.values)} values"
        case Kind.UNIQUE:
            return f"{expected.column} is unique"
        case Kind.ROW_COUNT:
            return f"a version adds {bounds} rows"
        case Kind.MISSING:
            return f"at most {expected.fraction:.2%} of {expected.column} are NULL"


def changed(before: Expectations, items: Sequence[Expectation], etag: str, now: datetime) -> Expectations:
    """With other items. Raises etag_required and etag_mismatch where there are some."""
    if before.items == tuple(items):
        return before
    if before.items and not etag:
        raise Failure(Code.ETAG_REQUIRED, f"{before.data_set} has expectations: If-Match with their etag is required")
    match_etag(etag, before.generation, f"the expectations of {before.data_set}")
    return replace(before, items=tuple(items), generation=before.generation + 1, update_time=now)


def check(items: Sequence[Expectation], columns: Sequence[Column] | None) -> None:
    """Raises invalid_value for the first that means nothing; None where there is no version yet."""
    types = None if columns is None else {column.name: column.type for column in columns}
    for index, item in enumerate(items):
        for field, rule in _wrong(item, types):
            at = f"/expectations/{index}/{field}"
            raise InvalidValue(f"expectations.{index}.{field} {rule}", [Violation(at, rule)])


def _wrong(item: Expectation, types: Mapping[str, ColumnType] | None) -> Iterable[tuple[str, str]]:
    if item.kind is Kind.ROW_COUNT:
        yield from _wrong_bounds(item, _count, "must be a whole number, not negative")
        if item.column:
            yield "column", "must not be set: it is about all rows"
    elif not item.column:
        yield "column", "must be set"
    elif types is not None:
        yield from _wrong_column(item, types)
    if item.action is Action.QUARANTINE and item.kind in OF_TABLES:
        yield "action", "must be block or warn: no single row breaks it"
    if item.kind is Kind.RANGE and not (item.minimum or item.maximum):
        yield "minimum", "must be set, or maximum"
    if item.kind is Kind.VALUES and not item.values:
        yield "values", "must not be empty"
    if not (math.isfinite(item.fraction) and 0 <= item.fraction <= 1):
        yield "fraction", "must lie between 0 and 1"


def _wrong_column(item: Expectation, types: Mapping[str, ColumnType]) -> Iterable[tuple[str, str]]:
    kind = types.get(item.column)
    if kind is None:
        yield "column", "must be a column of the newest version"
    elif not fits(item.kind, kind):
        yield "column", f"must hold {', '.join(_TYPES[item.kind])}"
    elif item.kind is Kind.RANGE:
        yield from _wrong_bounds(item, lambda text: value_of(text, kind), f"must be a value of {kind}")
    elif item.kind is Kind.VALUES:
        for number, text in enumerate(item.values):
            if _parsed(text, lambda text: value_of(text, kind)) is None:
                yield f"values/{number}", f"must be a value of {kind}"


def _wrong_bounds(item: Expectation, parse: Callable[[str], Any], rule: str) -> Iterable[tuple[str, str]]:
    bounds = {name: getattr(item, name) for name in ("minimum", "maximum")}
    parsed = {name: _parsed(text, parse) for name, text in bounds.items() if text}
    if not parsed:
        yield "minimum", "must be set, or maximum"
    yield from ((name, rule) for name, value in parsed.items() if value is None)
    if len(parsed) == 2 and None not in parsed.values() and parsed["minimum"] > parsed["maximum"]:
        yield "minimum", "must not be above maximum"


def _parsed(text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except (ValueError, OverflowError):
        return None


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError
    return number


def value_of(text: str, kind: ColumnType) -> Any:
    """A value out of the text that a quality report has for it. Raises ValueError."""
    match kind:
        case ColumnType.INT64:
            if not -(2**63) <= (number := int(text)) < 2**63:
                raise ValueError
            return number
        case ColumnType.DOUBLE:
            if not math.isfinite(value := float(text)):
                raise ValueError
            return value
        case ColumnType.BOOL:
            return {"true": True, "false": False}.get(text)
        case ColumnType.DATE:
            return date.fromisoformat(text)
        case ColumnType.TIMESTAMP:
            at = datetime.fromisoformat(text)
            if at.tzinfo is None:
                raise ValueError
            return at
    return text
