"""Made-up tables with something planted in them: an interaction, a leak, or nothing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from services.data.feature_search.candidates import Sampled, sampled
from services.data.feature_search.domain import Found
from services.data.feature_search.search import Searcher, Settings
from services.data.schema import ColumnType

Array = np.ndarray[Any, np.dtype[Any]]
Columns = dict[str, tuple[ColumnType, Array]]
_DAY = 86_400


class Planted(NamedTuple):
    """Columns, labels, and the columns of what is planted; none for noise."""

    columns: list[Sampled]
    labels: Array
    planted: frozenset[str]


def search(of: Planted, time: str = "", spent: float = 0.0, **how: Any) -> Found:
    """What a search finds, of whose budget a share is spent when it begins; 1: it looks for leaks only."""
    settings = Settings(rate=0.05, table_rows=len(of.labels), time=time, **how)
    return Searcher(of.columns, of.labels, settings, lambda: spent, lambda progress, message: None).run()


def _table(random: np.random.Generator, rows: int) -> Columns:
    """Six numbers, of which two say something, three categories, and a time."""
    columns: Columns = {}
    for place in range(6):
        values = random.normal(size=rows) if place % 2 else random.lognormal(0, 0.6, rows)
        columns[f"x{place}"] = (ColumnType.DOUBLE, values)
    for place in range(3):
        levels = [f"v{level}" for level in random.integers(0, random.integers(4, 12), rows)]
        columns[f"g{place}"] = (ColumnType.STRING, np.array(levels, object))
    columns["sent"] = (ColumnType.TIMESTAMP, 1.7e9 + random.uniform(0, 365 * _DAY, rows))
    return columns


def _made(random: np.random.Generator, columns: Columns, odds: Array, *planted: str) -> Planted:
    labels = _labels(random, odds)
    return Planted([sampled(name, *column) for name, column in columns.items()], labels, frozenset(planted))


def _labels(random: np.random.Generator, odds: Array) -> Array:
    return np.asarray(random.random(len(odds)) < 1 / (1 + np.exp(np.mean(odds) - odds)), np.float64)


def _scaled(values: Array) -> Array:
    return np.asarray((values - values.mean()) / values.std())


def _single(columns: Columns) -> Array:
    return np.asarray(0.5 * columns["x0"][1] + 0.5 * columns["x1"][1])


def _pair(random: np.random.Generator) -> list[str]:
    return [f"x{place}" for place in random.choice(6, 2, replace=False)]


def noise(seed: int, rows: int) -> Planted:
    """Labels that nothing says anything of."""
    random = np.random.default_rng(seed)
    return _made(random, _table(random, rows), np.zeros(rows))


def separate(seed: int, rows: int) -> Planted:
    """Labels that two columns say something of, each by itself."""
    random = np.random.default_rng(seed)
    columns = _table(random, rows)
    return _made(random, columns, _single(columns))


def product(seed: int, rows: int) -> Planted:
    """Two numbers multiplied."""
    random = np.random.default_rng(seed)
    columns, (one, other) = _table(random, rows), _pair(random)
    return _made(random, columns, _single(columns) + 1.2 * _scaled(columns[one][1] * columns[other][1]), one, other)


def comparison(seed: int, rows: int) -> Planted:
    """Whether one number is greater than another."""
    random = np.random.default_rng(seed)
    columns, (one, other) = _table(random, rows), _pair(random)
    return _made(random, columns, _single(columns) + 2 * (columns[one][1] > columns[other][1]), one, other)


def ratio(seed: int, rows: int) -> Planted:
    """A number of any sign by a positive one."""
    random = np.random.default_rng(seed)
    columns = _table(random, rows)
    return _made(random, columns, _single(columns) + 1.2 * _scaled(columns["x3"][1] / columns["x2"][1]), "x3", "x2")


def cross(seed: int, rows: int) -> Planted:
    """A number for each pair of categories."""
    random = np.random.default_rng(seed)
    columns, effects = _table(random, rows), random.normal(0, 1.5, (12, 12))
    pairs = [
        effects[int(one[1:]), int(other[1:])] for one, other in zip(columns["g0"][1], columns["g2"][1], strict=True)
    ]
    return _made(random, columns, _single(columns) + np.array(pairs), "g0", "g2")


def cycle(seed: int, rows: int) -> Planted:
    """The hour of the day."""
    random = np.random.default_rng(seed)
    columns = _table(random, rows)
    return _made(random, columns, _single(columns) + np.sin(2 * np.pi * (columns["sent"][1] % _DAY) / _DAY), "sent")


def group(seed: int, rows: int) -> Planted:
    """The mean of a number over the rows of one of many groups."""
    random = np.random.default_rng(seed)
    columns, codes = _table(random, rows), random.integers(0, 400, rows)
    level = random.normal(0, 1, 400)[codes]
    columns["x1"] = (ColumnType.DOUBLE, level + random.normal(0, 1, rows))
    columns["who"] = (ColumnType.STRING, np.array([f"c{code}" for code in codes], object))
    return _made(random, columns, 1.5 * level, "x1", "who")


def _leaking(
    seed: int, rows: int, leak: Callable[[np.random.Generator, Array, Columns], Any], kind: ColumnType
) -> Planted:
    random = np.random.default_rng(seed)
    columns = _table(random, rows)
    labels = _labels(random, _single(columns) + _scaled(columns["x2"][1] * columns["x3"][1]))
    columns["leak"] = (kind, leak(random, labels, columns))
    return Planted([sampled(name, *column) for name, column in columns.items()], labels, frozenset({"leak"}))


def _flipped(random: np.random.Generator, labels: Array, share: float) -> Array:
    return np.where(random.random(len(labels)) < share, 1 - labels, labels)


def _mean_by_group(random: np.random.Generator, labels: Array, columns: Columns) -> Array:
    codes = np.unique(columns["g1"][1], return_inverse=True)[1]
    return np.asarray((np.bincount(codes, labels) / np.bincount(codes))[codes])


def _text(random: np.random.Generator, labels: Array, columns: Columns) -> Array:
    return np.array([f"s{label:.0f}{random.integers(5)}" for label in labels], object)


_D, _S, _T = ColumnType.DOUBLE, ColumnType.STRING, ColumnType.TIMESTAMP
_LEAKS: dict[str, tuple[Callable[[np.random.Generator, Array, Columns], Any], ColumnType]] = {
    "a copy": (lambda random, labels, columns: _flipped(random, labels, 0.005), _D),
    "a copy with 3 % of errors": (lambda random, labels, columns: _flipped(random, labels, 0.03), _D),
    "with noise": (lambda random, labels, columns: 10 + 3 * labels + random.normal(0, 0.4, len(labels)), _D),
    "turned around": (lambda random, labels, columns: -np.exp(labels + random.normal(0, 0.1, len(labels))), _D),
    "there for one label only": (
        lambda random, labels, columns: np.where(labels > 0, random.lognormal(size=len(labels)), np.nan),
        _D,
    ),
    "an amount of one label only": (
        lambda random, labels, columns: np.where(labels > 0, random.exponential(30, len(labels)), 0),
        _D,
    ),
    "as text": (_text, _S),
    "mean of a group": (_mean_by_group, _D),
    "a number of the row": (lambda random, labels, columns: np.arange(1000.0, 1000.0 + len(labels)), _D),
    "an id": (lambda random, labels, columns: np.array([f"u{row}" for row in range(len(labels))], object), _S),
    "later": (lambda random, labels, columns: columns["sent"][1] + random.exponential(3600, len(labels)), _T),
}
INTERACTIONS = {each.__name__: each for each in (product, comparison, ratio, cross, cycle, group)}
LEAKS = sorted(_LEAKS)


def leak(kind: str, seed: int, rows: int) -> Planted:
    """A table with a column of its own that a model must not have, called leak."""
    return _leaking(seed, rows, *_LEAKS[kind])
