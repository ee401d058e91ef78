"""Statistics of ranges of rows that come out the same to the last bit, however the rows arrived.

A sum of floating point numbers depends on its order. Here the order depends on nothing but where the range begins and
ends, counted from the first row that the key ever had: the range is cut at multiples of powers of two of that count,
as a segment tree cuts it. So a table of a million rows, batches of it, and single rows all give the same bytes; and
nothing is ever subtracted, so a large number leaves no trace when it has left the window. Pure numpy.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from services.data.series.windows import Block

Array = np.ndarray[Any, Any]
Parts = tuple[Array, ...]
Merge = Callable[[Parts, Parts], Parts]


def add(left: Parts, right: Parts) -> Parts:
    """Sums."""
    return (left[0] + right[0],)


def least(left: Parts, right: Parts) -> Parts:
    """The smaller ones."""
    return (np.minimum(left[0], right[0]),)


def most(left: Parts, right: Parts) -> Parts:
    """The greater ones."""
    return (np.maximum(left[0], right[0]),)


def moments(left: Parts, right: Parts) -> Parts:
    """Counts, means, and sums of squared distances from them (Chan, Golub and LeVeque 1983)."""
    (n, mean, squares), (m, other, more) = left, right
    count = n + m
    share = np.divide(m, count, out=np.zeros_like(count), where=count > 0)
    apart = other - mean
    return (
        count,
        np.where(n == 0, other, np.where(m == 0, mean, mean + apart * share)),
        np.where(n == 0, more, np.where(m == 0, squares, squares + more + apart * apart * n * share)),
    )


class Ranges:
    """Ranges of rows of a block, as positions in a tree that is the same for a key wherever its rows stand."""

    def __init__(self, block: Block) -> None:
        counts = block.ends - block.starts
        # More than all rows of the key: no node of that size is ever whole, so larger ones need not be aligned.
        sizes = 2 ** np.frexp(counts)[1].astype(np.int64)
        order = np.argsort(-sizes, kind="stable")
        room = np.empty_like(sizes)
        room[order] = np.concatenate([[0], np.cumsum(2 * sizes[order])[:-1]]) if len(order) else 0
        self.size = int(2 * sizes.sum())
        shift = room + block.places[block.starts] % sizes - block.starts
        self._shift, self._segments = shift, block.segments
        self._at = np.arange(len(block.times)) + shift[block.segments] if len(block.times) else block.segments
        self._levels = int(np.frexp(counts.max())[1]) + 1 if len(counts) else 0

    def of(self, leaves: Sequence[Array], empty: Sequence[float], merge: Merge) -> "Tree":
        """A tree over one or more numbers for each row; `empty` changes nothing when it is merged."""
        parts = []
        for values, nothing in zip(leaves, empty, strict=True):
            spread = np.full(self.size, nothing)
            spread[self._at] = values
            parts.append(spread)
        return Tree(self, tuple(parts), tuple(empty), merge, self._levels)

    def places(self, rows: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Ranges of the keys that rows have, as ranges of the tree."""
        shift = self._shift[self._segments[rows]]
        return low + shift, high + shift


class Tree:
    """Merges of aligned ranges, level by level."""

    def __init__(self, ranges: Ranges, leaves: Parts, empty: Sequence[float], merge: Merge, levels: int) -> None:
        self._ranges, self._empty, self._merge, self._levels = ranges, empty, merge, [leaves]
        for _ in range(levels):
            pairs = zip(self._levels[-1], empty, strict=True)
            below = [np.append(part, [nothing] * (len(part) % 2)) for part, nothing in pairs]
            with np.errstate(all="ignore"):
                self._levels.append(merge(tuple(p[::2] for p in below), tuple(p[1::2] for p in below)))

    def over(self, rows: Array, low: Array, high: Array) -> Parts:
        """What the rows [low, high) come to, for each of `rows`."""
        low, high = self._ranges.places(rows, low, high)
        left = tuple(np.full(len(rows), nothing) for nothing in self._empty)
        right = tuple(np.full(len(rows), nothing) for nothing in self._empty)
        for level in self._levels:
            open_ = low < high
            if not open_.any():
                break
            self._take(left, level, open_ & (low % 2 == 1), low, False)
            low = low + low % 2
            self._take(right, level, open_ & (high % 2 == 1), high - 1, True)
            high = high - high % 2
            low, high = low // 2, high // 2
        with np.errstate(all="ignore"):
            return self._merge(left, right)

    def _take(self, into: Parts, level: Parts, which: Array, at: Array, before: bool) -> None:
        nodes = tuple(part[at[which]] for part in level)
        held = tuple(part[which] for part in into)
        with np.errstate(all="ignore"):
            merged = self._merge(nodes, held) if before else self._merge(held, nodes)
        for part, values in zip(into, merged, strict=True):
            part[which] = values
