"""Features of rows from the rows before them: one function for tables, batches and single rows. Pure.

A number is missing when it is NULL, NaN or infinite, a text when it is NULL. What has no finite result is NULL.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.data.series import warping
from services.data.series.components import Fits
from services.data.series.feature import MOST_WINDOW_ROWS, Feature, Statistic
from services.data.series.sums import Ranges, Tree, add, least, moments, most
from services.data.series.windows import Block, Bounds, bounds
from services.kit.errors import Code, Failure

Array = np.ndarray[Any, Any]


class Values:
    """A column of a block."""

    def __init__(self, column: Any, ranges: Ranges, block: Block) -> None:
        """As `keys.number_or_text` gives it."""
        self._block = block
        self.column, self._ranges = column, ranges
        self.present: Array = column.is_valid().to_numpy(zero_copy_only=False)

    @cached_property
    def _numbers(self) -> Array:
        return np.asarray(self.column.fill_null(0.0).to_numpy(zero_copy_only=False), float)

    @cached_property
    def counted(self) -> Array:
        """How many values there are before each row, and before the end."""
        return np.concatenate([[0], np.cumsum(self.present)])

    @cached_property
    def following(self) -> Array:
        """The next row with a value, from each row on."""
        at = np.where(self.present, np.arange(len(self.present)), len(self.present))
        return np.append(np.minimum.accumulate(at[::-1])[::-1], len(at))

    @cached_property
    def preceding(self) -> Array:
        """The last row with a value before each row; -1 for none."""
        at = np.where(self.present, np.arange(len(self.present)), -1)
        return np.concatenate([[-1], np.maximum.accumulate(at)])

    @cached_property
    def codes(self) -> Array:
        """The same number for the same value, and -1 for none."""
        # 0 and -0 are one value.
        column = self.column if pa.types.is_string(self.column.type) else pc.add(self.column, 0.0)
        return np.asarray(column.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False))

    def _filled(self, nothing: float) -> Array:
        return np.where(self.present, self._numbers, nothing)

    @cached_property
    def sums(self) -> Tree:
        """Of the values."""
        return self._ranges.of([self._filled(0.0)], [0.0], add)

    @cached_property
    def smallest(self) -> Tree:
        """Of the values."""
        return self._ranges.of([self._filled(np.inf)], [np.inf], least)

    @cached_property
    def greatest(self) -> Tree:
        """Of the values."""
        return self._ranges.of([self._filled(-np.inf)], [-np.inf], most)

    @cached_property
    def fits(self) -> Fits:
        """Of the components of the values."""
        return Fits(self._block, self._filled(np.nan))

    @cached_property
    def moments(self) -> Tree:
        """Counts, means, squared distances."""
        leaves = [self.present.astype(float), self._filled(0.0), np.zeros(len(self.present))]
        return self._ranges.of(leaves, [0.0, 0.0, 0.0], moments)


def features(
    wanted: Sequence[Feature], block: Block, columns: Mapping[str, Any], rows: Array
) -> tuple[dict[str, Any], Array]:
    """The columns of the features for some rows of a block, and for each row of it whether a later row may need it.

    `columns`: of all rows of the block, as `keys.number_or_text` gives them. Raises limit_exceeded for a window of too
    many rows.
    """
    ranges = Ranges(block)
    values = {name: Values(column, ranges, block) for name, column in columns.items()}
    high = block.earlier(rows)
    last = block.ends - 1  # what a row that is not there yet needs, the last one of its key does, or it is the last one
    after, needed = block.earlier(last), block.ends - 1
    found = {}
    for feature in wanted:
        within = bounds(feature, block, rows, high)
        found[feature.name] = _statistic(feature, values.get(feature.column), rows, within)
        low = bounds(feature, block, last, after)[0]
        if (block.ends - low > MOST_WINDOW_ROWS).any():
            text = f"the window of {feature.name} has more than {MOST_WINDOW_ROWS} rows of one key"
            raise Failure(Code.LIMIT_EXCEEDED, text)
        needed = np.minimum(needed, low)
    return found, np.arange(len(block.times)) >= needed[block.segments]


def _statistic(feature: Feature, values: Values | None, rows: Array, within: Bounds) -> Any:
    low, high = within
    if values is None:
        return pa.array((high - low).astype(float))
    return _STATISTICS[feature.statistic](values, rows, low, high, feature)


def _finite(numbers: Array, there: Array) -> Any:
    """An Arrow column: NULL where there is no number, or none that is finite."""
    return pa.array(numbers, mask=~(there & np.isfinite(numbers)))


def _counts(values: Values, low: Array, high: Array) -> Array:
    return np.asarray(values.counted[high] - values.counted[low], float)


def _count(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    return pa.array(_counts(values, low, high))


def _of(tree: Callable[[Values], Tree]) -> Callable[[Values, Array, Array, Array, Feature], Any]:
    def statistic(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
        return _finite(tree(values).over(rows, low, high)[0], _counts(values, low, high) > 0)

    return statistic


def _mean(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    count, mean, _ = values.moments.over(rows, low, high)
    return _finite(mean, count > 0)


def _deviation(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    """Divided by the number of values, as the aggregates of feature sets are."""
    count, _, squares = values.moments.over(rows, low, high)
    return _finite(np.sqrt(squares / np.maximum(count, 1.0)), count > 0)


def _taken(values: Values, at: Array, there: Array) -> Any:
    return values.column.take(pa.array(at, mask=~there))


def _first(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    at = values.following[low]
    return _taken(values, at, at < high)


def _last(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    at = values.preceding[high]
    return _taken(values, at, at >= low)


def _lag(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    """Of the row so many rows before, also where that has no value."""
    return _taken(values, low, high - low == feature.rows)


def _component(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    return values.fits.features(feature, rows, high)


def _warped(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    return warping.features(feature, values.fits.numbers, low, high)


def _distinct(values: Values, rows: Array, low: Array, high: Array, feature: Feature) -> Any:
    """Windows move forward only, so each row comes and goes once."""
    codes, held = values.codes.tolist(), dict[int, int]()
    begin = end = 0
    found = np.empty(len(rows))
    for index, (start, stop) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if start >= end:
            held, begin, end = {}, start, start
        for code in codes[end:stop]:
            if code >= 0:
                held[code] = held.get(code, 0) + 1
        for code in codes[begin:start]:
            if code >= 0:
                held[code] -= 1
                if not held[code]:
                    del held[code]
        begin, end = start, max(end, stop)
        found[index] = len(held)
    return pa.array(found)


_STATISTICS: dict[Statistic, Callable[[Values, Array, Array, Array, Feature], Any]] = {
    Statistic.COUNT: _count,
    Statistic.SUM: _of(lambda values: values.sums),
    Statistic.MIN: _of(lambda values: values.smallest),
    Statistic.MAX: _of(lambda values: values.greatest),
    Statistic.MEAN: _mean,
    Statistic.DEVIATION: _deviation,
    Statistic.FIRST: _first,
    Statistic.LAST: _last,
    Statistic.DISTINCT: _distinct,
    Statistic.LAG: _lag,
    Statistic.TREND: _component,
    Statistic.SEASON: _component,
    Statistic.REMAINDER: _component,
    Statistic.DTW_DISTANCE: _warped,
    Statistic.DTW_NEAREST: _warped,
}
