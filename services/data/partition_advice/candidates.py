"""Ways to divide the rows of a sample that may pay. For children: imports numpy when it is used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from services.data.datasets.layouts import MOST, Layout, Placing, Strategy
from services.data.partition_advice.history import Kind, Shape
from services.data.partition_advice.sampling import Coded, Sample, text_of
from services.data.schema import ColumnType

COUNTS = (4, 8, 16, 32, 64, 128, 254)
_COLUMNS, _PAIRS = 5, 4
_KEYS = 255
_LONGEST = 200  # characters of a value
_INFINITE = (float("inf"), -float("inf"))


@dataclass(frozen=True)
class Candidate:
    """A layout, and the partition of each row of the sample."""

    layout: Layout
    placing: Placing
    parts: Any


class Field:
    """One or several columns as one: a number for each row that sorts as their values do, -1 where one has none."""

    def __init__(self, columns: Sequence[Coded]) -> None:
        import numpy as np

        self.columns = columns
        mixed = np.zeros(len(columns[0].codes), np.int64)
        missing = np.zeros(len(mixed), bool)
        for one in columns:
            missing |= one.codes < 0
            mixed = np.unique(mixed * (len(one.values) + 1) + one.codes + 1, return_inverse=True)[1]
        # Of rows with a value in each column only.
        known, inverse = np.unique(mixed[~missing], return_inverse=True)
        self.codes = np.full(len(mixed), -1, np.int64)
        self.codes[~missing] = inverse
        # A row that has them, by code; how many have.
        self.rows = np.flatnonzero(~missing)[np.unique(inverse, return_index=True)[1]] if len(known) else known
        self.counts = np.bincount(inverse, minlength=len(known))
        self.whole, self.first, self.inverse = self._whole(mixed)
        self._hashes: Any = None

    @staticmethod
    def _whole(mixed: Any) -> tuple[int, Any, Any]:
        import numpy as np

        _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
        return len(first), first, inverse

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.column.name for one in self.columns)

    @property
    def kinds(self) -> dict[str, ColumnType]:
        return {one.column.name: one.column.type for one in self.columns}

    def key(self, row: int) -> tuple[Any, ...]:
        """The values of a row, as layouts compare them."""
        return tuple(one.values[one.codes[row]] if one.codes[row] >= 0 else None for one in self.columns)

    def texts(self, row: int) -> tuple[str, ...]:
        """The same as texts of a layout."""
        return tuple(text_of(value, one.column.type) for value, one in zip(self.key(row), self.columns, strict=True))

    def hashed(self, count: int) -> Any:
        """The partition of each row by a hash."""
        import numpy as np

        if self._hashes is None:
            large = Placing(Layout(Strategy.HASH, self.names, count=2**62), self.kinds)
            self._hashes = np.asarray([large.of(self.key(row)) for row in self.first], np.int64)
        return (self._hashes % count)[self.inverse]


def fields(sample: Sample, mixed: Sequence[tuple[Shape, float, float]]) -> list[tuple[str, ...]]:
    """The columns to divide by, and pairs and threes that are asked for together; those asked for most first."""
    weights: dict[tuple[str, ...], float] = {}
    for shape, weight, _ in mixed:
        names = [test.column for test in shape if test.column in sample.columns]
        for size in (1, 2, 3):
            for group in combinations(names, size):
                weights[group] = weights.get(group, 0.0) + weight
    exact = {test.column for shape, _, _ in mixed for test in shape if test.kind in (Kind.EQUAL, Kind.AMONG)}
    order = sorted(weights, key=lambda group: -weights[group])
    single = [group for group in order if len(group) == 1][:_COLUMNS]
    known = {frozenset(group) for group in weights}
    apart = [one + other for one, other in combinations(single[:3], 2) if {*one, *other} not in known]
    several = [group for group in order if len(group) > 1 and all((name,) in single for name in group)][:_PAIRS]

    # Bounds of several columns help where the first ones are equal to something.
    def first(name: str) -> tuple[bool, int]:
        return name not in exact, len(sample.columns[name].values)

    return [*single, *dict.fromkeys(tuple(sorted(group, key=first)) for group in (*several, *apart))]


def candidates(sample: Sample, groups: Sequence[tuple[str, ...]], most: int) -> Iterator[Candidate]:
    """Layouts with at most so many partitions, a field after the other."""
    for names in groups:
        field = Field([sample.columns[name] for name in names])
        if len(field.counts) < 2:
            continue
        yield from _by_keys(field, most)
        yield from _by_bounds(field, most)
        if ColumnType.DOUBLE not in field.kinds.values():
            for count in (*COUNTS[:-1], MOST):
                if count <= min(most, 2 * len(field.counts)):
                    layout = Layout(Strategy.HASH, names, count=count)
                    yield Candidate(layout, Placing(layout, field.kinds), field.hashed(count))


def _by_keys(field: Field, most: int) -> Iterator[Candidate]:
    """A partition for each of the most frequent keys."""
    import numpy as np

    if ColumnType.DOUBLE in field.kinds.values():
        return
    order = np.argsort(-field.counts, kind="stable")
    sizes = {min(size, len(order), _KEYS, most - 1) for size in (*COUNTS, _KEYS)}
    for size in sorted(sizes):
        codes = [int(code) for code in sorted(order[:size])]
        kept = [code for code in codes if all(len(text) <= _LONGEST for text in field.texts(field.rows[code]))]
        if not kept:
            continue
        numbers = np.full(len(field.counts) + 1, len(kept), np.int64)
        numbers[kept] = np.arange(len(kept))
        layout = Layout(Strategy.KEY, field.names, keys=tuple((field.texts(field.rows[code]),) for code in kept))
        yield Candidate(layout, Placing(layout, field.kinds), numbers[field.codes])


def _by_bounds(field: Field, most: int) -> Iterator[Candidate]:
    """Bounds between which there are as many rows."""
    import numpy as np

    ends, seen = np.cumsum(field.counts), set[tuple[int, ...]]()
    for count in COUNTS:
        if count > most - 1:
            break
        wanted = ends[-1] * np.arange(1, count) / count
        # The code at which a quantile lies begins a partition, or the one behind it: whichever is nearer.
        at = np.searchsorted(ends, wanted, "left")
        before = np.where(at > 0, ends[at - 1], 0)
        codes = np.unique(np.where(wanted - before <= ends[at] - wanted, at, at + 1))
        # A key with many rows has a partition of its own.
        heavy = np.flatnonzero(field.counts * count > ends[-1])
        codes = np.unique(np.concatenate([codes, heavy, heavy + 1]))
        codes = codes[(codes > 0) & (codes < len(ends))][: most - 2]
        if not len(codes) or tuple(codes) in seen:
            continue
        seen.add(tuple(codes))
        bounds = _bounds(field, [int(code) for code in codes])
        # A bound that cannot be said is left out: one that is too long, and an infinite one.
        endless = [any(value in _INFINITE for value in field.key(field.rows[code])) for code in codes]
        said = [all(len(text) <= _LONGEST for text in bound) for bound in bounds]
        said = [short and not large for short, large in zip(said, endless, strict=True)]
        codes, bounds = codes[said], tuple(bound for bound, short in zip(bounds, said, strict=True) if short)
        if not bounds:
            continue
        layout = Layout(Strategy.RANGE, field.names, bounds=bounds)
        placing = Placing(layout, field.kinds)
        parts = np.searchsorted(codes, field.codes, "right")
        yield Candidate(layout, placing, np.where(field.codes < 0, placing.count - 1, parts))


def _bounds(field: Field, codes: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """The keys at these codes; a text as short as it can be behind the key before it."""
    if len(field.columns) > 1 or field.columns[0].column.type is not ColumnType.STRING:
        return tuple(field.texts(field.rows[code]) for code in codes)
    found = []
    for code in codes:
        (before,), (here,) = field.key(field.rows[code - 1]), field.key(field.rows[code])
        size = next((at + 1 for at, (a, b) in enumerate(zip(before, here, strict=False)) if a != b), len(before) + 1)
        found.append((here[:size],))
    return tuple(found)
