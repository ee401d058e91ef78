"""Which earlier rows a window has, for many rows of many keys at once. Pure numpy, for children and online readers.

Rows of a key stand together by time. A window has rows [low, high) of its key, all of them earlier than the row that
asks: rows of the same time do not see each other. `low` and `high` never fall from a row to the next one of its key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from services.data.series.feature import Feature, Window

Array = np.ndarray[Any, Any]
_TICKS = 1_000_000  # microseconds


def ticks(seconds: float) -> int:
    """Microseconds, which times are counted in."""
    return round(seconds * _TICKS)


@dataclass(frozen=True)
class Block:
    """Rows of several keys: microseconds since 1970, and how many rows of the key came before, ever."""

    keys: Array
    times: Array
    places: Array

    @cached_property
    def starts(self) -> Array:
        """Where the rows of each key begin."""
        return np.flatnonzero(np.concatenate([[True], self.keys[1:] != self.keys[:-1]])[: len(self.keys)])

    @cached_property
    def ends(self) -> Array:
        """Where the rows of each key end."""
        return np.append(self.starts, len(self.keys))[1:]

    @cached_property
    def segments(self) -> Array:
        """For each row, which of the keys it has."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts)

    @cached_property
    def _ranked(self) -> tuple[Array, Array]:
        """The times that there are, and the rows as one sorted column: key, then rank of the time."""
        known, ranks = np.unique(self.times, return_inverse=True)
        return known, self.segments * (len(known) + 1) + ranks

    def first_at(self, rows: Array, times: Array) -> Array:
        """For rows of the block, the first row of the same key that is not earlier than a time."""
        known, ordered = self._ranked
        wanted = self.segments[rows] * (len(known) + 1) + np.searchsorted(known, times)
        return np.searchsorted(ordered, wanted)

    def earlier(self, rows: Array) -> Array:
        """For rows of the block, the first row of the same key that is not earlier than they are."""
        return self.first_at(rows, self.times[rows])


Bounds = tuple[Array, Array]


def bounds(feature: Feature, block: Block, rows: Array, high: Array) -> Bounds:
    """The window of a feature for some rows of a block; `high` is what `Block.earlier` says of them."""
    if not feature.window:
        return _last(feature, block, rows, high)
    return _WINDOWS[feature.window](feature, block, rows, high)


def _last(feature: Feature, block: Block, rows: Array, high: Array) -> Bounds:
    return np.maximum(high - feature.reach, block.starts[block.segments[rows]]), high


def _sliding(feature: Feature, block: Block, rows: Array, high: Array) -> Bounds:
    return block.first_at(rows, block.times[rows] - ticks(feature.seconds)), high


def _tumbling(feature: Feature, block: Block, rows: Array, high: Array) -> Bounds:
    """Windows are whole multiples of their length since 1970."""
    size = ticks(feature.seconds)
    begin = (block.times[rows] // size - feature.back) * size
    return block.first_at(rows, begin), np.minimum(high, block.first_at(rows, begin + size))


def _session(feature: Feature, block: Block, rows: Array, high: Array) -> Bounds:
    """From where the last pause before was longer than the gap; none of a session that begins with the row itself."""
    gap, starts = ticks(feature.gap_seconds), block.starts[block.segments[rows]]
    breaks = np.concatenate([[True], np.diff(block.times) > gap])[: len(block.times)]
    breaks[block.starts] = True
    begins = np.maximum.accumulate(np.where(breaks, np.arange(len(breaks)), 0))
    last = np.maximum(high - 1, starts)
    going = (high > starts) & (block.times[rows] - block.times[last] <= gap)
    longest = block.first_at(rows, block.times[rows] - ticks(feature.seconds))
    return np.where(going, np.minimum(np.maximum(begins[last], longest), high), high), high


_WINDOWS: dict[Window, Callable[[Feature, Block, Array, Array], Bounds]] = {
    Window.SLIDING: _sliding,
    Window.TUMBLING: _tumbling,
    Window.SESSION: _session,
    Window.ROWS: _last,
}
