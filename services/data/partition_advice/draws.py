"""Queries such as those that were asked, with values of the sample. For children: imports numpy when it is used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.data.datasets.layouts import Value
from services.data.partition_advice.history import Asked, Counts, Kind, Selector, Shape
from services.data.partition_advice.sampling import Coded, Sample, text_of
from services.data.schema import ColumnType
from services.data.sql.known import ANYTHING, All, Among, Between, Condition, Constant
from services.data.sql.known import Kind as Says

DRAWS = 72  # of all shapes together
_LEAST = 4  # of one shape
_SHAPES = 12
_GUESSES = 1.0  # queries that what is supposed counts as
_LISTED = 20  # values of an IN by which row groups are left out
_SAYS: dict[ColumnType, Says] = {
    ColumnType.INT64: "number",
    ColumnType.DOUBLE: "number",
    ColumnType.STRING: "string",
    ColumnType.BOOL: "boolean",
    ColumnType.DATE: "date",
    ColumnType.TIMESTAMP: "timestamp",
}
_TIMES = (ColumnType.DATE, ColumnType.TIMESTAMP)


@dataclass(frozen=True)
class Chosen:
    """What a drawn query wants of a column: codes, or all from one to another."""

    column: str
    codes: tuple[int, ...] = ()
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class Draw:
    """A query: the condition as pruning takes it, and which rows of the sample fulfil it."""

    weight: float
    condition: Condition
    chosen: tuple[Chosen, ...]
    rows: Any
    columns: float  # that it names, by all


def supposed(sample: Sample) -> list[tuple[Shape, float, float]]:
    """What is asked of a data set of which nothing is known: shapes with weights, and the share of columns."""
    times = [name for name, one in sample.columns.items() if one.column.type in _TIMES and len(one.values) > 1]
    keys = [
        name
        for name, one in sample.columns.items()
        if one.column.type not in (*_TIMES, ColumnType.DOUBLE) and 2 <= len(one.values) <= 1_000
    ]
    found: list[tuple[Shape, float, float]] = [((), 2.0, 0.5)]
    for name in times[:3]:
        found += [((Selector(name, kind, 4),), 1.0 / len(times[:3]), 0.5) for kind in (Kind.ABOVE, Kind.RANGE)]
    found += [((Selector(name, Kind.EQUAL),), 2.0 / len(keys[:4]), 0.5) for name in keys[:4]]
    return found


def mix(sample: Sample, history: Sequence[Asked]) -> list[tuple[Shape, float, float]]:
    """What is asked: what was, and as long as that is little, also what is supposed. Weights add up to 1."""
    known = [_known(asked, sample) for asked in sorted(history, key=lambda asked: -asked.weight)[:_SHAPES]]
    guesses = supposed(sample)
    total, guessed = sum(weight for _, weight, _ in known), sum(weight for _, weight, _ in guesses)
    share = _GUESSES / (total + _GUESSES)
    if share < 0.05:
        guesses, share = [], 0.0
    found = [(shape, weight / total * (1 - share), columns) for shape, weight, columns in known]
    return found + [(shape, weight / guessed * share, columns) for shape, weight, columns in guesses]


def _known(asked: Asked, sample: Sample) -> tuple[Shape, float, float]:
    shape = tuple(test for test in asked.shape if test.column in sample.columns)
    counts: Counts = asked.counts
    return shape, asked.weight, counts.columns / max(counts.queries, 1)


def drawn(sample: Sample, mixed: Sequence[tuple[Shape, float, float]], seed: int = 0) -> list[Draw]:
    """Queries of these shapes. Half of the values are those of rows, half are any: who asks may want either."""
    import numpy as np

    rng, found = np.random.default_rng(seed), list[Draw]()
    for shape, weight, columns in mixed:
        if not shape:
            found.append(Draw(weight, ANYTHING, (), np.ones(sample.size, bool), columns))
            continue
        count = max(_LEAST, round(DRAWS * weight))
        first = sample.columns[shape[0].column]
        order = np.argsort(first.codes, kind="stable")
        order = order[first.codes[order] >= 0]
        if not len(order):
            continue
        at = (np.arange(count) + rng.random(count)) / count
        rows = order[(at * len(order)).astype(int)]
        # Any value of the first column, with the others as a row with it has them.
        starts = np.flatnonzero(np.diff(first.codes[order], prepend=-1))
        rows[1::2] = order[starts[(at[1::2] * len(starts)).astype(int)]]
        for row in rows:
            parts = [_chosen(test, sample.columns[test.column], int(row), rng) for test in shape]
            found.append(replace(_draw(sample, [part for part in parts if part], columns), weight=weight / count))
    return found


def _chosen(test: Selector, one: Coded, row: int, rng: Any) -> Chosen | None:
    import numpy as np

    code, most = int(one.codes[row]), len(one.values) - 1
    if code < 0:
        return None
    if test.kind is Kind.EQUAL:
        return Chosen(test.column, (code,), code, code)
    if test.kind is Kind.AMONG:
        codes = {code, *(int(each) for each in rng.integers(0, most + 1, test.values - 1))}
        return Chosen(test.column, tuple(sorted(codes)), min(codes), max(codes))
    numbers = np.asarray([0.0 if isinstance(value, str) else float(value or 0) for value in one.values])
    if isinstance(one.values[0], str):
        numbers = np.arange(most + 1, dtype=float)
    span = (numbers[-1] - numbers[0]) or 1.0
    low, high = {
        Kind.ABOVE: (numbers[-1] - test.share * span, numbers[-1]),
        Kind.BELOW: (numbers[0], numbers[0] + test.share * span),
    }.get(test.kind, (0.0, 0.0))
    if test.kind is Kind.RANGE:
        low = numbers[code] - rng.random() * test.share * span
        high = low + test.share * span
    first = int(np.searchsorted(numbers, low, "left"))
    last = int(np.searchsorted(numbers, high, "right")) - 1
    return Chosen(test.column, (), min(first, most), max(last, min(first, most)))


def _draw(sample: Sample, chosen: Sequence[Chosen], columns: float) -> Draw:
    import numpy as np

    rows, parts = np.ones(sample.size, bool), list[Condition]()
    for part in chosen:
        one = sample.columns[part.column]
        if part.codes:
            rows &= np.isin(one.codes, part.codes)
            parts.append(Among(part.column, tuple(_constant(one.values[code], one) for code in part.codes)))
        else:
            rows &= (one.codes >= part.low) & (one.codes <= part.high)
            low = _constant(one.values[part.low], one) if part.low else None
            high = _constant(one.values[part.high], one) if part.high < len(one.values) - 1 else None
            parts.append(Between(part.column, low, high))
    return Draw(0.0, All(tuple(parts)), tuple(chosen), rows, columns)


def _constant(value: Value, one: Coded) -> Constant:
    return Constant(_SAYS[one.column.type], text_of(value, one.column.type))


def overlapping(draw: Draw, least: dict[str, Any], most: dict[str, Any]) -> Any:
    """Which row groups a reader cannot leave out, by the smallest and largest code of each; None: all."""
    found: Any = None
    for part in draw.chosen:
        low, high = least[part.column], most[part.column]
        if part.codes and len(part.codes) <= _LISTED:
            here = sum(((low <= code) & (high >= code) for code in part.codes), start=low < -1)
        elif part.codes:
            continue
        else:
            here = (low <= part.high) & (high >= part.low)
        found = here if found is None else found & here
    return found
