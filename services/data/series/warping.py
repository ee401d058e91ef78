"""How far the last values of a series are from templates, by dynamic time warping (Sakoe and Chiba 1978). Pure numpy.

The distance is the square root of the least sum of squared differences over all warping paths. A band keeps matched
values at most so many places apart, beyond what the lengths differ by. Many series at once, and each gives the same
bytes alone: nothing is added over series.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from services.data.series.decomposition import filled
from services.data.series.feature import Feature, Statistic

Array = np.ndarray[Any, Any]
CELLS = 2**17  # numbers of a table's diagonal, or of series, that are held at a time: they fit into a cache
_KNOWN = 2  # such a part of the values must be known
_FLAT = 1e-12  # a smaller deviation, as a part of the largest value, is one of rounding


def distances(series: Array, template: Array, band: int) -> Array:
    """Of each row of `series` [count, n] from a template [m]; `band` 0: any places may be matched."""
    count, n = series.shape
    m = len(template)
    wide = band or n + m
    most = max(CELLS // (min(n, m) + 1), 1)
    found = np.empty(count)
    for start in range(0, count, most):
        some = np.ascontiguousarray(series[start : start + most].T)
        # How many places the other one may lie behind and before; the shorter one goes down the diagonals.
        behind, before = wide + max(n - m, 0), wide + max(m - n, 0)
        if n <= m:
            found[start : start + most] = _least(some, template[:, None], (behind, before))
        else:
            found[start : start + most] = _least(template[:, None], some, (before, behind))
    return np.sqrt(found)


def _least(short: Array, long: Array, reach: tuple[int, int]) -> Array:
    """The last cell of the table of `short` [places, series] and `long`, which is filled diagonal by diagonal.

    A diagonal holds its cells by their place in `short`, with one in front. What lies beside those that it has is
    infinite: three that are used in turns need no more, as the next one begins and ends at most one place later.
    """
    n, m, count = len(short), len(long), max(short.shape[1], long.shape[1])
    behind, before = reach
    lines = [np.full((n + 2, count), np.inf) for _ in range(3)]
    lines[0][0] = 0.0  # before both begin
    apart = np.empty((n, count))
    for diagonal in range(n + m - 1):
        two, one, line = (lines[(diagonal + back) % 3] for back in range(3))
        low = max(0, diagonal - m + 1, -((before - diagonal) // 2))
        high = min(n - 1, diagonal, (diagonal + behind) // 2) + 1
        cells = apart[: high - low]
        np.subtract(short[low:high], long[diagonal - high + 1 : diagonal - low + 1][::-1], out=cells)
        np.multiply(cells, cells, out=cells)
        to = line[low + 1 : high + 1]
        np.minimum(one[low:high], one[low + 1 : high + 1], out=to)
        np.minimum(to, two[low:high], out=to)
        np.add(to, cells, out=to)
        line[low] = line[high + 1] = np.inf
    return np.asarray(lines[(n + m) % 3][n])


def scaled(series: Array) -> Array:
    """Each row of [count, n] with mean 0 and deviation 1; a constant one is 0."""
    largest = np.abs(series).max(axis=1, keepdims=True)
    series = series / np.where(largest > 0, largest, 1.0)  # whose squares are numbers, whatever the values are
    away = series - (series.sum(axis=1) / series.shape[1])[:, None]
    width = np.sqrt((away * away).sum(axis=1) / series.shape[1])[:, None]
    return np.where(width > _FLAT, away / np.where(width > 0, width, 1.0), 0.0)


def features(feature: Feature, numbers: Array, low: Array, high: Array) -> Any:
    """Distance to the nearest template, or its name, of the values [low, high); NULL for too few of them."""
    nearest, least = np.full(len(low), -1), np.full(len(low), np.inf)
    shape: Callable[[Array], Array] = scaled if feature.scaled else lambda series: series
    templates = [shape(np.array([template.values]))[0] for template in feature.templates]
    for rows, series in _series(feature, numbers, low, high):
        with np.errstate(all="ignore"):
            shaped = shape(series)
            for place, template in enumerate(templates):
                far = distances(shaped, template, feature.band)
                closer = far < least[rows]
                least[rows[closer]], nearest[rows[closer]] = far[closer], place
    if feature.statistic is Statistic.DTW_DISTANCE:
        return pa.array(least, mask=~np.isfinite(least))
    names = pa.array([template.name for template in feature.templates])
    return names.take(pa.array(nearest, mask=nearest < 0))


def _series(feature: Feature, numbers: Array, low: Array, high: Array) -> Iterator[tuple[Array, Array]]:
    """Rows that have enough values, with them [rows, values]: missing ones stand on lines between their neighbours."""
    full = np.flatnonzero(high - low == feature.rows)
    size = max(CELLS // feature.rows, 1)
    for start in range(0, len(full), size):
        rows = full[start : start + size]
        series = numbers[low[rows][:, None] + np.arange(feature.rows)]
        gaps = np.isnan(series).sum(axis=1)
        known = gaps * _KNOWN <= feature.rows
        rows, series, gaps = rows[known], series[known], gaps[known]
        for index in np.flatnonzero(gaps).tolist():
            series[index] = filled(series[index])
        if len(rows):
            yield rows, series
