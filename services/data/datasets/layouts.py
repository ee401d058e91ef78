"""How the rows of a data set are divided into partitions: by a fixed function of some columns. Pure.

The function is documented in docs/guides/partitions.md, with values to test other programs by: never change it.
"""

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from services.data.schema import ColumnType
from services.kit.errors import InvalidValue, Violation

MOST, _FIELDS, _KEYS = 256, 4, 10_000  # partitions, fields, keys of all partitions together
_EPOCH, _DAY_ONE, _TICK = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1).toordinal(), timedelta(microseconds=1)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?Z?\Z", re.ASCII)
_DATE, _WHOLE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII), re.compile(r"-?\d{1,19}\Z", re.ASCII)
# A value as it is compared: dates as days, times as microseconds since 1970, truth as 0 and 1.
Value = int | float | str | None
Key = tuple[Value, ...]


class Strategy(StrEnum):
    """What decides about the partition of a row."""

    KEY = "key"
    RANGE = "range"
    HASH = "hash"


@dataclass(frozen=True)
class Layout:
    """Partitions by some columns. Values are texts; `keys` are lists of keys, a list for each partition."""

    strategy: Strategy
    fields: tuple[str, ...]
    keys: tuple[tuple[tuple[str, ...], ...], ...] = ()
    bounds: tuple[tuple[str, ...], ...] = ()
    count: int = 0


def check_layout(layout: Layout) -> None:
    """Raises invalid_value for what makes no sense, whatever the columns hold."""
    fields = layout.fields
    _need(1 <= len(fields) <= _FIELDS, "fields", f"must have 1 to {_FIELDS} columns")
    _need(len({name.lower() for name in fields}) == len(fields), "fields", "must differ")
    given = {"keys": Strategy.KEY, "bounds": Strategy.RANGE, "count": Strategy.HASH}
    for part, strategy in given.items():
        _need(layout.strategy is strategy or not getattr(layout, part), part, f"belongs to the strategy {strategy}")
    match layout.strategy:
        case Strategy.KEY:
            _need(1 <= len(layout.keys) < MOST, "keys", f"must have 1 to {MOST - 1} partitions")
            _need(all(layout.keys), "keys", "must have a key for each partition")
            _need(sum(map(len, layout.keys)) <= _KEYS, "keys", f"must have at most {_KEYS} keys")
            _need(all(len(key) == len(fields) for keys in layout.keys for key in keys), "keys", _EACH)
        case Strategy.RANGE:
            _need(1 <= len(layout.bounds) < MOST - 1, "bounds", f"must have 1 to {MOST - 2} bounds")
            _need(all(len(bound) == len(fields) for bound in layout.bounds), "bounds", _EACH)
        case Strategy.HASH:
            _need(2 <= layout.count <= MOST, "count", f"must lie between 2 and {MOST}")


_EACH = "must have a value for each field"


def brief(layout: Layout | None) -> Layout | None:
    """Without its keys where they are many: for pages and events, which have many layouts."""
    return replace(layout, keys=()) if layout and sum(map(len, layout.keys)) > MOST else layout


def _need(holds: bool, part: str, rule: str) -> None:
    if not holds:
        raise InvalidValue(f"{part} {rule}", [Violation(f"/partitioning/{part}", rule)])


def typed(text: str, kind: ColumnType) -> Value:
    """A value of a column by its text. Raises ValueError for a text that is none."""
    match kind:
        case ColumnType.STRING:
            return text
        case ColumnType.BOOL:
            return {"false": 0, "true": 1}[text]
        case ColumnType.INT64 if _WHOLE.match(text) and -(2**63) <= int(text) < 2**63:
            return int(text)
        case ColumnType.DOUBLE if math.isfinite(float(text)):
            return float(text)
        case ColumnType.DATE if _DATE.match(text):
            return date.fromisoformat(text).toordinal() - _DAY_ONE
        case ColumnType.TIMESTAMP if _TIME.match(text):
            return (datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC) - _EPOCH) // _TICK
    raise ValueError(text)


class Placing:
    """The partition of a row, by the values of a layout's fields."""

    def __init__(self, layout: Layout, types: Mapping[str, ColumnType]) -> None:
        """Raises invalid_value when the layout does not fit the columns; one that is not there is NULL in all rows."""
        self.layout, self.kinds = layout, tuple(types.get(name, ColumnType.STRING) for name in layout.fields)
        there = [(name, kind) for name, kind in zip(layout.fields, self.kinds, strict=True) if name in types]
        for name, kind in there:
            exact = layout.strategy is Strategy.RANGE or kind is not ColumnType.DOUBLE
            _need(exact, "fields", f"must not name {name[:60]}, which holds double, but for ranges")
        absent = len(there) < len(layout.fields)  # nothing is known of its values, and no row has one
        self.bounds = [] if absent else [self._key(bound, "bounds") for bound in layout.bounds]
        self.keys: dict[Key, int] = {}
        if absent:
            return
        ascending = all(one < other for one, other in zip(self.bounds, self.bounds[1:], strict=False))
        _need(ascending, "bounds", "must ascend")
        for number, keys in enumerate(layout.keys):
            for text in keys:
                key = self._key(text, "keys")
                _need(key not in self.keys, "keys", f"must not have {', '.join(text)[:60]} twice")
                self.keys[key] = number

    @property
    def count(self) -> int:
        """How many partitions there are. The last one of keys has all other rows, that of ranges those with NULL."""
        layout = self.layout
        return layout.count or (len(layout.keys) + 1 if layout.keys else len(layout.bounds) + 2)

    def of(self, key: Key) -> int:
        """The partition of the rows with these values."""
        match self.layout.strategy:
            case Strategy.KEY:
                return self.keys.get(key, self.count - 1)
            case Strategy.RANGE:
                nothing = any(value is None or value != value for value in key)
                return self.count - 1 if nothing else bisect_right(self.bounds, key)
        text = ",".join(_canonical(value, kind) for value, kind in zip(key, self.kinds, strict=True))
        return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16) % self.layout.count

    def _key(self, texts: Sequence[str], part: str) -> Key:
        try:
            return tuple(typed(text, kind) for text, kind in zip(texts, self.kinds, strict=True))
        except (ValueError, KeyError):
            rule = f"must have values of {', '.join(self.kinds)}, not {', '.join(texts)[:60]}"
            raise InvalidValue(f"{part} {rule}", [Violation(f"/partitioning/{part}", rule)]) from None


def _canonical(value: Value, kind: ColumnType) -> str:
    if value is None:
        return "n"
    if isinstance(value, str):
        return f"s{len(value.encode())}:{value}"
    return f"{kind[0]}{value}"
