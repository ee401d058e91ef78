"""Trend, seasons and remainder of equally spaced values: STL (Cleveland et al. 1990), MSTL (Bandara et al. 2021).

Defaults are those of the literature: the seasons of one period are smoothed over 7 cycles, those of several over 11,
15, ..., the trend over the smallest odd number above 1.5 p / (1 - 1.5 / cycles). Pure numpy; same values, same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_INNER, _ROUNDS = 5, 2
_LARGE = 1e100
_LIKELY, _SURE = 0.35, 3.5  # the autocorrelation that a period must have, also in its standard errors for noise
_ABOUT = 0.1  # autocorrelations that differ by less say the same
_KEPT, KEPT_BYTES = 256, 512 * 2**20  # weights that are kept, and their bytes: those of the longest fit take 200 MB

kept: dict[tuple[int, int, int, int], tuple[Array, Array]] = {}  # the one that was used last is the last


@dataclass(frozen=True)
class Parts:
    """They add up to the values; one season for each period."""

    trend: Array
    seasons: tuple[Array, ...]
    remainder: Array
    periods: tuple[int, ...]

    def ahead(self, steps: int) -> tuple[float, tuple[float, ...]]:
        """Trend and seasons `steps` behind the last value: the trend goes on as over a period, seasons repeat."""
        back = min(max(self.periods, default=len(self.trend) - 1), len(self.trend) - 1)
        slope = (self.trend[-1] - self.trend[-1 - back]) / back
        seasons = zip(self.seasons, self.periods, strict=True)
        trend = float(self.trend[-1] + slope * steps)
        return trend, tuple(float(season[len(season) - p + (steps - 1) % p]) for season, p in seasons)


def decompose(values: Array, periods: Sequence[int]) -> Parts:
    """Of finite values, at least two cycles of the longest period; without a period the trend is a line."""
    if not periods:
        trend = _line(values)
        return Parts(trend, (), values - trend, ())
    ordered = tuple(sorted(periods))
    if len(ordered) == 1:
        trend, season = stl(values, ordered[0], 7)
        return Parts(trend, (season,), values - trend - season, ordered)
    seasons = [np.zeros(len(values)) for _ in ordered]
    left = values
    for _ in range(_ROUNDS):
        for index, period in enumerate(ordered):
            trend, season = stl(left + seasons[index], period, 11 + 4 * index)
            left, seasons[index] = left + seasons[index] - season, season
    return Parts(trend, tuple(seasons), left - trend, ordered)


def stl(values: Array, period: int, cycles: int) -> tuple[Array, Array]:
    """Trend and season; what they leave is the remainder. `cycles`: how many the season is smoothed over, odd."""
    count = len(values)
    width = _odd(int(np.ceil(1.5 * period / (1 - 1.5 / cycles))))
    trend = np.zeros(count)
    for _ in range(_INNER):
        cyclic = _seasonal(values - trend, period, cycles)
        low = _average(_average(_average(cyclic, period), period), 3)
        season = cyclic[period : period + count] - _smooth(low, _odd(period + 1), 1, count)
        trend = _smooth(values - season, width, 1, count)
    return trend, season


def proposed(values: Array, most: int) -> int:
    """A period up to `most`, by the autocorrelation, which comes from the periodogram; 0 for none that is clear."""
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest > _LARGE:  # whose squares are beyond the numbers
        values = values / largest
    flat = values - _line(values)
    power, count = float((flat * flat).sum()), len(flat)
    if count < 6 or not power > 1e-18 * max(float((values * values).sum()), 1e-300):
        return 0
    periodogram = np.abs(np.fft.rfft(flat, 2 * count)) ** 2
    # Of each lag, as a part of what the values that have a partner could have.
    lags = np.arange(1, most + 2)
    found = np.fft.irfft(periodogram)[lags] / power * count / np.maximum(count - lags, 1)
    hills = (found[1:-1] >= found[:-2]) & (found[1:-1] >= found[2:])
    high = np.where(hills & (found[1:-1] > np.maximum(_LIKELY, _SURE / np.sqrt(count - lags[1:-1]))), found[1:-1], 0.0)
    if not high.any():
        return 0
    # A multiple of a period is about as good as the period itself: the first that is.
    return int(np.flatnonzero(high > high.max() - _ABOUT)[0]) + 2


def filled(values: Array) -> Array:
    """Values with NaN for a missing one, on lines between their neighbours; at the ends as the nearest."""
    known = ~np.isnan(values)
    at = np.arange(len(values))
    return values if known.all() else np.asarray(np.interp(at, at[known], values[known]))


def _line(values: Array) -> Array:
    """The least squares line."""
    at = np.arange(len(values)) - (len(values) - 1) / 2
    mean = values.sum() / len(values)
    return np.asarray(mean + at * ((at * (values - mean)).sum() / max(float((at * at).sum()), 1.0)))


def _odd(number: int) -> int:
    return max(number + (number % 2 == 0), 3)


def _average(values: Array, width: int) -> Array:
    """Moving averages; nothing leaves a running sum, each is added up by itself."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(values, width).sum(axis=1) / width)


def _seasonal(values: Array, period: int, cycles: int) -> Array:
    """Each phase of the period smoothed over the cycles, with one cycle more at each end."""
    count = len(values)
    found = np.empty(count + 2 * period)
    for phase in range(period):
        own = values[phase::period]
        found[phase::period][: len(own) + 2] = _smooth(own, cycles, 0, len(own) + 2)
    return found


def _smooth(values: Array, width: int, first: int, count: int) -> Array:
    """Local lines (loess of degree 1) at `count` places from `first` on; the values stand at 1, 2, ..."""
    starts, weights = _loess(len(values), width, first, count)
    near = values[starts[:, None] + np.arange(weights.shape[1])]
    return np.asarray((near * weights).sum(axis=1))


def _loess(count: int, width: int, first: int, places: int) -> tuple[Array, Array]:
    """What `_weights` says, kept for the next fit: those that were used last, up to `KEPT_BYTES`. In one thread."""
    asked = count, width, first, places
    if found := kept.pop(asked, None):
        kept[asked] = found
        return found
    kept[asked] = made = _weights(*asked)
    while len(kept) > _KEPT or (len(kept) > 1 and sum(weights.nbytes for _, weights in kept.values()) > KEPT_BYTES):
        del kept[next(iter(kept))]
    return made


def _weights(count: int, width: int, first: int, places: int) -> tuple[Array, Array]:
    """For each place the first of the nearest values, and their weights (Cleveland et al. 1990, section 2)."""
    span = min(width, count)
    at = np.arange(first, first + places, dtype=float)
    starts = np.clip(np.arange(first, first + places) - (span + 1) // 2, 0, count - span)
    near = starts[:, None] + 1.0 + np.arange(span)
    far = np.maximum(at - near[:, 0], near[:, -1] - at) + max((width - count) // 2, 0)
    away = np.abs(near - at[:, None])
    weights = np.where(away <= 0.999 * far[:, None], (1 - (away / far[:, None]) ** 3) ** 3, 0.0)
    weights = np.where(away <= 0.001 * far[:, None], 1.0, weights)
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (weights * near).sum(axis=1, keepdims=True)
    spread = (weights * (near - mean) ** 2).sum(axis=1, keepdims=True)
    slope = np.divide(at[:, None] - mean, spread, out=np.zeros_like(mean), where=np.sqrt(spread) > 0.001 * (count - 1))
    return starts, weights * (slope * (near - mean) + 1)
