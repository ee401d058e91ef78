"""Counting records by time and value."""

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any

from services.kit.errors import Code, Failure
from services.logs.search.domain.matching import value_of
from services.logs.search.tabled import Part

_SUM = {"sum": {"field": "count"}}
_ASKED = (50.0, 99.0)  # percentiles of the answer
# For buckets that are merged with others: enough quantiles to compute the two above.
_MANY = [*(float(percent) for percent in range(99)), *(99 + tenth / 10 for tenth in range(10)), 99.99, 100.0]


@dataclass(frozen=True)
class Bucket:
    """The number of records in a step of time, and quantiles of their durations."""

    start: int  # seconds
    count: int
    value: str
    p50_ms: float
    p99_ms: float


def total(searcher: Any, asked: Any) -> int:
    """How many records a query finds, those in tables as well."""
    return int(searcher.aggregate(asked, {"records": _SUM})["records"]["value"] or 0)


def counted(searcher: Any, asked: Any, step: int, split: str, parts: Iterable[Part], most: int) -> list[Bucket]:
    """Buckets of a query and of parts of tables, by time, then value. Raises query_too_costly above `most`."""
    found: dict[tuple[int, str], _Counted] = defaultdict(_Counted)
    for part in parts:
        value = (value_of(part.like, split) or "") if split else ""
        found[part.second // step * step, value].add(part.durations)
        if len(found) > most:
            raise _costly(most)
    percents = _MANY if found else _ASKED
    inner = {
        "records": _SUM,
        "known": {"value_count": {"field": "duration_ms"}},
        "durations": {"percentiles": {"field": "duration_ms", "percents": percents, "keyed": False}},
    }
    # One more than allowed: else the values with the fewest documents would be left out silently.
    aggs = {"values": {"terms": {"field": split, "size": most + 1}, "aggs": inner}} if split else inner
    steps = {"histogram": {"field": "second", "interval": step, "min_doc_count": 1}, "aggs": aggs}
    try:
        answer = searcher.aggregate(asked, {"steps": steps})
    except ValueError:
        raise _costly(most) from None
    for bucket in answer["steps"]["buckets"]:
        for one in bucket["values"]["buckets"] if split else [bucket]:
            found[int(bucket["key"]), str(one["key"]) if split else ""].take(one)
    if len(found) > most:
        raise _costly(most)
    return [Bucket(start, one.count, value, *one.quantiles()) for (start, value), one in sorted(found.items())]


def _costly(most: int) -> Failure:
    return Failure(Code.QUERY_TOO_COSTLY, f"the answer has more than {most} buckets; take longer steps or less time")


class _Counted:
    """A bucket while it is counted: figures of the index, and durations of records in tables."""

    def __init__(self) -> None:
        self.count = 0
        self._known = 0
        self._quantiles: list[tuple[float, float]] = []
        self._own = array("d")  # compact, as there may be millions

    def take(self, found: dict[str, Any]) -> None:
        self.count += int(found["records"]["value"])
        self._known = int(found["known"]["value"])
        values = found["durations"]["values"]
        self._quantiles = [(one["key"], 0.0 if math.isnan(q := one["value"] or 0.0) else q) for one in values]

    def add(self, durations: Sequence[float]) -> None:
        self.count += len(durations)
        self._own.extend(durations)

    def quantiles(self) -> Iterator[float]:
        """The asked quantiles: of the index alone, or merged with the durations of tables."""
        if not self._own:
            known = dict(self._quantiles)
            return iter([known.get(percent, 0.0) for percent in _ASKED])
        own, shares, all_ = sorted(self._own), sorted(self._shares()), self._known + len(self._own)
        return iter([_at(merge(shares, ((value, 1.0) for value in own)), percent / 100 * all_) for percent in _ASKED])

    def _shares(self) -> Iterator[tuple[float, float]]:
        """The index's distribution: values, and how many durations are near each."""
        before = 0.0
        for percent, value in self._quantiles if self._known else ():
            yield value, (percent - before) / 100 * self._known
            before = percent


def _at(weighed: Iterable[tuple[float, float]], wanted: float) -> float:
    """The value at which the cumulated weight reaches `wanted`."""
    reached = 0.0
    for value, weight in weighed:
        if wanted <= 0:
            break
        reached, wanted = value, wanted - weight
    return reached
