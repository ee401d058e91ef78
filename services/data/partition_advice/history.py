"""What is remembered of queries: by which columns they chose rows, how, and what they read; no value. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.data.datasets.layouts import Value, typed
from services.data.datasets.quality import ColumnQuality
from services.data.schema import ColumnType
from services.data.sql.known import All, Among, Between, Condition, Constant, Some

_TESTS = 6  # columns of a shape
SHAPES = 64  # of a data set
HALF_LIFE = 30 * 86_400.0  # seconds after which a query counts half
_SMALLEST = 20  # steps of a share: below 1/2**20 all are alike


class Kind(StrEnum):
    """How a condition chooses by a column."""

    EQUAL = "equal"
    AMONG = "in"
    RANGE = "range"
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, order=True)
class Selector:
    """What one column must be. `step` is the power of two of how many values there are, or of 1 / its share.

    Both are rounded, so that no value follows from them. -1: the share is not known.
    """

    column: str
    kind: Kind
    step: int = 0

    @property
    def values(self) -> int:
        """Of an IN, about."""
        return 1 << self.step if self.kind is Kind.AMONG else 1

    @property
    def share(self) -> float:
        """Of the span of the column, of a range; a tenth where it is not known."""
        return 2.0**-self.step if self.step >= 0 else 0.1


Shape = tuple[Selector, ...]


@dataclass(frozen=True)
class Counts:
    """What some queries of one shape read. `columns` are those that they name, by all of the table."""

    queries: int = 0
    columns: float = 0.0
    partitions_read: int = 0
    partitions: int = 0
    files_read: int = 0
    files: int = 0
    bytes_read: int = 0
    bytes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*[mine + getattr(other, name) for name, mine in vars(self).items()])


@dataclass(frozen=True)
class Asked:
    """Queries of one shape so far; `weight` is how many they count at `time`: old ones count less."""

    shape: Shape
    counts: Counts
    weight: float
    time: datetime

    def at(self, now: datetime) -> "Asked":
        """As it counts at a later time."""
        passed = max((now - self.time).total_seconds(), 0.0)
        return replace(self, weight=self.weight * 0.5 ** (passed / HALF_LIFE), time=max(now, self.time))


def folded(before: Sequence[Asked], new: Mapping[Shape, Counts], now: datetime) -> list[Asked]:
    """With new queries; the shapes that count least are forgotten where there are too many."""
    found = {asked.shape: asked.at(now) for asked in before}
    for shape, counts in new.items():
        old = found.get(shape, Asked(shape, Counts(), 0.0, now))
        found[shape] = replace(old, counts=old.counts + counts, weight=old.weight + counts.queries)
    # A new shape has a small weight: it stays before an old one of the same.
    return sorted(found.values(), key=lambda asked: (-asked.weight, asked.shape not in new, asked.shape))[:SHAPES]


@dataclass(frozen=True)
class _Said:
    """What is known of one column: so many values, or a part of its span from 0 to 1; None: no such bound."""

    values: int = 0
    low: float | None = None
    high: float | None = None
    known: bool = True  # whether the bounds could be placed in the span


def shape_of(
    condition: Condition, types: Mapping[str, ColumnType], found: Sequence[ColumnQuality], hidden: Collection[str] = ()
) -> Shape:
    """How a condition chooses; the narrowest tests where there are many. `found` says what spans the columns have."""
    names = {name.lower() for name in hidden}
    spans = {one.column: one for one in found if one.column in types and one.column.lower() not in names}
    said = _read(condition, {name: types[name] for name in spans}, spans)
    tests = [_test(name, each) for name, each in said.items()]
    order = [Kind.EQUAL, Kind.AMONG, Kind.RANGE, Kind.ABOVE, Kind.BELOW]
    return tuple(sorted(sorted(tests, key=lambda test: (order.index(test.kind), test))[:_TESTS]))


def _test(name: str, said: _Said) -> Selector:
    if said.values:
        kind = Kind.EQUAL if said.values == 1 else Kind.AMONG
        return Selector(name, kind, round(math.log2(said.values)))
    kind = Kind.BELOW if said.low is None else Kind.ABOVE if said.high is None else Kind.RANGE
    if not said.known:
        return Selector(name, kind, -1)
    low, high = 0.0 if said.low is None else said.low, 1.0 if said.high is None else said.high
    share = min(max(high - low, 2.0**-_SMALLEST), 1.0)
    return Selector(name, kind, round(-math.log2(share)))


def _read(
    condition: Condition, types: Mapping[str, ColumnType], spans: Mapping[str, ColumnQuality]
) -> dict[str, _Said]:
    match condition:
        case All():
            found: dict[str, _Said] = {}
            for part in condition.parts:
                for name, said in _read(part, types, spans).items():
                    found[name] = _both(found[name], said) if name in found else said
            return found
        case Some():
            branches = [_read(part, types, spans) for part in condition.parts]
            each = {name: [branch.get(name) for branch in branches] for name in (branches[0] if branches else ())}
            either = {name: _either(said) for name, said in each.items()}
            return {name: said for name, said in either.items() if said}
        case Among() if condition.column in types:
            return {condition.column: _Said(len(set(condition.values)))} if condition.values else {}
        case Between() if condition.column in types and (condition.low or condition.high):
            kind, span = types[condition.column], spans[condition.column]
            low, high = (_place(end, kind, span) for end in (condition.low, condition.high))
            known = (low is None) == (condition.low is None) and (high is None) == (condition.high is None)
            if not known:  # what is kept is which of the two bounds there are
                low, high = 0.0 if condition.low else None, 1.0 if condition.high else None
            return {condition.column: _Said(0, low, high, known)}
    return {}


def _both(one: _Said, other: _Said) -> _Said:
    if one.values or other.values:
        return min((said for said in (one, other) if said.values), key=lambda said: said.values)
    lows = [said.low for said in (one, other) if said.low is not None]
    highs = [said.high for said in (one, other) if said.high is not None]
    return _Said(0, max(lows, default=None), min(highs, default=None), one.known and other.known)


def _either(said: Sequence[_Said | None]) -> _Said | None:
    """At least one of them holds; None where that says nothing, or more than a range."""
    there = [each for each in said if each]
    if len(there) < len(said):
        return None
    if all(each.values for each in there):
        return _Said(sum(each.values for each in there))
    if any(each.values for each in there):
        return None
    lows, highs = [each.low for each in there], [each.high for each in there]
    low = None if None in lows else min(low for low in lows if low is not None)
    high = None if None in highs else max(high for high in highs if high is not None)
    return None if low is None and high is None else _Said(0, low, high, all(each.known for each in there))


def _place(constant: Constant | None, kind: ColumnType, found: ColumnQuality) -> float | None:
    """Where in the span of a column a constant lies, 0 to 1; None where that cannot be told."""
    if constant is None:
        return None
    try:
        values = [typed(text, kind) for text in (found.minimum, found.maximum, constant.text)]
    except (ValueError, KeyError):
        return None
    least, most, value = (_number(each) for each in values)
    if not 0 < most - least < math.inf:
        return None
    return min(max((value - least) / (most - least), 0.0), 1.0)


def _number(value: Value) -> float:
    """Texts by how they begin."""
    if isinstance(value, str):
        return float(int.from_bytes(value.encode()[:8].ljust(8, b"\0")))
    return float(value or 0)
