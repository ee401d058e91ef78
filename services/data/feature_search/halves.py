"""The two halves of a sample: the first chooses what may add something, the second says whether it does. Pure."""

from collections.abc import Iterator, Sequence

import numpy as np

from services.data.feature_search import measures, models
from services.data.feature_search.candidates import Sampled
from services.data.features.constants import Array

_DRAWN = 20.0  # rows of the mean of all that a category's mean is drawn to
_SEED = 1


class Half:
    """Some rows: labels, folds, the columns as models take them, and what these say by themselves."""

    def __init__(self, rows: Array, labels: Array, seed: int) -> None:
        self.rows, self.labels = rows, labels[rows]
        self.folds = measures.folds_of(len(rows), seed)
        self.columns: dict[str, Array] = {}
        self.margins: Array = np.zeros(len(rows))

    def fit(self) -> None:
        """Finds the log odds of each row as a sum of functions of single columns."""
        self.margins = models.single(list(self.columns.values()), self.labels, self.folds)

    @property
    def residual(self) -> Array:
        """What that leaves of the labels."""
        return self.labels - 1 / (1 + np.exp(-self.margins))

    def auc_without(self, name: str) -> float:
        """Of a sum of functions of the other columns."""
        others = [values for other, values in self.columns.items() if other != name]
        return measures.auc(models.single(others, self.labels, self.folds), self.labels) if others else 0.5


class Halves:
    """Both halves of a sample."""

    def __init__(self, labels: Array) -> None:
        order = np.random.default_rng(_SEED).permutation(len(labels))
        middle = len(labels) // 2
        self.first = Half(np.sort(order[:middle]), labels, _SEED + 1)
        self.second = Half(np.sort(order[middle:]), labels, _SEED + 2)

    def __iter__(self) -> Iterator[Half]:
        return iter((self.first, self.second))

    def take(self, columns: Sequence[Sampled]) -> None:
        """Gives columns to both: numbers as they are, categories as what the first half says of their labels."""
        for column in columns:
            if not column.text:
                for half in self:
                    half.columns[column.name] = column.values[half.rows]
            elif column.category:
                codes = measures.categories(column.values)
                self.first.columns[column.name], self.second.columns[column.name] = self.means(codes)

    def drop(self, name: str) -> None:
        """Takes a column from both."""
        for half in self:
            half.columns.pop(name, None)

    def means(self, codes: Array) -> tuple[Array, Array]:
        """For the rows of each half the mean of the label in their category, by other rows of the first half."""
        first, second = codes[self.first.rows], codes[self.second.rows]
        size, labels = int(codes.max()) + 1, self.first.labels
        sums, counts = np.bincount(first, labels, size), np.bincount(first, minlength=size)
        every = (sums + _DRAWN * labels.mean()) / (counts + _DRAWN)
        return measures.means(first, self.first.folds, labels), every[second]
