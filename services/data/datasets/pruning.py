"""Which partitions can have a row for which a condition holds. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from services.data.datasets.layouts import Key, Placing, Strategy, Value, typed
from services.data.schema import ColumnType
from services.data.sql.known import All, Among, Between, Condition, Constant, Null, Some

_MOST = 2_000  # keys that are tried one by one
_STEPS = 500_000  # comparisons of a condition with keys or bounds: beyond, all partitions are read
_SAYS = {
    ColumnType.INT64: ("number",),
    ColumnType.DOUBLE: ("number",),
    ColumnType.STRING: ("string",),
    ColumnType.BOOL: ("boolean",),
    ColumnType.DATE: ("date", "string"),
    ColumnType.TIMESTAMP: ("timestamp", "string"),
}


@dataclass(frozen=True)
class _Domain:
    """The values that a column can have: all between two bounds, or those of a set; and NULL."""

    values: frozenset[Value] | None = None
    low: Value = None
    high: Value = None
    null: bool = True

    def has(self, value: Value) -> bool:
        if self.values is not None and value not in self.values:
            return False
        above = self.low is None or not value < self.low  # type: ignore[operator]
        return above and (self.high is None or not value > self.high)  # type: ignore[operator]

    def finite(self) -> list[Value] | None:
        """All values, if they are known."""
        if self.values is None:
            return None
        return [*filter(self.has, self.values), *([None] if self.null else [])]


def wanted(condition: Condition, placing: Placing, hidden: Iterable[str] = ()) -> frozenset[int]:
    """The partitions that must be read. Nothing is known of hidden columns: what a query sees of them is NULL.

    Takes up to a second where layout and condition are long: call it beside the event loop.
    """
    if _steps(condition, placing) > _STEPS:
        return frozenset(range(placing.count))
    names = [name.lower() for name in hidden]
    kinds = dict(zip(placing.layout.fields, placing.kinds, strict=True))
    return _wanted(condition, placing, {n: kind for n, kind in kinds.items() if n.lower() not in names}, {})


def _steps(condition: Condition, placing: Placing) -> int:
    """About how many comparisons it takes."""
    if isinstance(condition, All | Some):
        return sum(_steps(part, placing) for part in condition.parts)
    values = len(condition.values) if isinstance(condition, Among) else 1
    return len(placing.keys) + values * len(placing.bounds)


def _wanted(
    condition: Condition, placing: Placing, kinds: Mapping[str, ColumnType], known: Mapping[str, _Domain]
) -> frozenset[int]:
    domains, waiting, branches = dict(known), [condition], list[Some]()
    while waiting:
        match part := waiting.pop():
            case All():
                waiting += part.parts
            case Some():
                branches.append(part)
            case _ if part.column in kinds:
                domains[part.column] = _narrowed(domains.get(part.column, _Domain()), part, kinds[part.column])
    found = _reached(placing, [domains.get(name, _Domain()) for name in placing.layout.fields])
    for branch in branches:
        found &= frozenset().union(*(_wanted(part, placing, kinds, domains) for part in branch.parts))
    return found


def _narrowed(domain: _Domain, test: Among | Between | Null, kind: ColumnType) -> _Domain:
    match test:
        case Null(holds=True):
            return replace(domain, values=frozenset())
        case Null():
            return replace(domain, null=False)
        case Among():
            values = [_value(constant, kind) for constant in test.values]
            domain = replace(domain, null=False)
            if None in values:  # one whose value is not sure
                return domain
            there = frozenset(values)
            return replace(domain, values=there if domain.values is None else there & domain.values)
    low, high = _value(test.low, kind), _value(test.high, kind)
    lows = [value for value in (domain.low, low) if value is not None]
    highs = [value for value in (domain.high, high) if value is not None]
    return replace(domain, low=max(lows, default=None), high=min(highs, default=None), null=False)


def _value(constant: Constant | None, kind: ColumnType) -> Value:
    """As layouts compare it; None where the engine may compare otherwise."""
    if constant is None or constant.kind not in _SAYS[kind]:
        return None
    try:
        return typed(constant.text, kind)
    except (ValueError, KeyError):
        return None


def _reached(placing: Placing, domains: list[_Domain]) -> frozenset[int]:
    """The partitions in which there can be rows whose fields have values of these domains."""
    lists = [domain.finite() for domain in domains]
    sure = [each for each in lists if each is not None]
    if not all(sure):
        return frozenset()
    if len(sure) == len(lists) and prod(map(len, sure)) <= _MOST:
        return frozenset(placing.of(key) for key in product(*sure))
    last = placing.count - 1
    match placing.layout.strategy:
        case Strategy.KEY:
            listed = {n for key, n in placing.keys.items() if all(d.has(v) for d, v in zip(domains, key, strict=True))}
            return frozenset({*listed, last})
        case Strategy.RANGE:
            double = ColumnType.DOUBLE in placing.kinds  # NaN is in the last one, and larger than any number
            others = {last} if double or any(domain.null for domain in domains) else set[int]()
            return frozenset(others.union(*_ranges(placing, domains, lists)))
    return frozenset(range(placing.count))


def _ranges(placing: Placing, domains: list[_Domain], lists: list[list[Value] | None]) -> Iterable[range]:
    """The partitions from the least to the largest key, for each choice of values of the first fields."""
    fixed = list[list[Value]]()
    for each in lists:
        if each is None or prod(map(len, fixed)) * len(each) > _MOST:
            break
        fixed.append([value for value in each if value is not None])
    rest = domains[len(fixed)] if len(fixed) < len(domains) else _Domain()
    for prefix in product(*fixed):
        low: Key = prefix if rest.low is None else (*prefix, rest.low)
        high: Key = prefix if rest.high is None else (*prefix, rest.high)
        whole = len(low) == len(domains)
        first = sum(bound <= low if whole else bound[: len(low)] < low for bound in placing.bounds)
        yield range(first, sum(bound[: len(high)] <= high for bound in placing.bounds) + 1)
