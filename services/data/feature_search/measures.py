"""How much values say about a label or about what is left of it, always of rows that were not fitted on. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.data.features.constants import Array

FOLDS = 5
BINS = 12
_DRAWN = 20.0  # rows of the mean of all that a bin's mean is drawn to


class Gain(NamedTuple):
    """By how much the log loss of a row falls: the mean, its 95 % interval, and the chance of as much by accident."""

    mean: float
    low: float
    high: float
    p_value: float


def bins(values: Array, most: int = BINS) -> Array:
    """The quantile bin of each number; a missing one and one that fills bins by itself have bins of their own."""
    known = np.isfinite(values)
    codes = np.zeros(len(values), np.int64)
    if known.any():
        given = values[known]
        edges, times = np.unique(np.quantile(given, np.linspace(0, 1, most + 1)[1:-1]), return_counts=True)
        place = np.searchsorted(edges, given)
        often = (times > 1)[np.minimum(place, len(edges) - 1)] & (edges[np.minimum(place, len(edges) - 1)] == given)
        codes[known] = 1 + np.where(often, len(edges) + 1 + place, np.searchsorted(edges, given, side="right"))
    return codes


def categories(values: Array) -> Array:
    """A code for each different value."""
    return np.unique(values, return_inverse=True)[1]


def folds_of(rows: int, seed: int) -> Array:
    """The fold of each row: by chance, of equal sizes."""
    return np.random.default_rng(seed).permutation(np.arange(rows) % FOLDS)


def means(codes: Array, folds: Array, target: Array) -> Array:
    """For each row the mean of the target in its bin, over the rows of the other folds; drawn to the mean of all."""
    width = int(codes.max()) + 1 if len(codes) else 1
    place = codes * FOLDS + folds
    sums = np.bincount(place, target, width * FOLDS).reshape(width, FOLDS)
    counts = np.bincount(place, minlength=width * FOLDS).reshape(width, FOLDS)
    others, rows = sums.sum(1, keepdims=True) - sums, counts.sum(1, keepdims=True) - counts
    left = np.maximum(counts.sum() - counts.sum(0), 1)
    overall = (sums.sum() - sums.sum(0)) / left
    return np.asarray(((others + _DRAWN * overall) / (rows + _DRAWN)).ravel()[place])


def explained(codes: Array, folds: Array, residual: Array) -> float:
    """The share of the squares of a residual that the means of bins take away; negative where they add to them."""
    total = float(residual @ residual)
    left = residual - means(codes, folds, residual)
    return 1 - float(left @ left) / total if total else 0.0


def auc(scores: Array, labels: Array) -> float:
    """The area under the ROC curve; 0.5 where there is one label only."""
    positive = labels > 0
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return 0.5
    ranks = ranked(scores)
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def ranked(values: Array) -> Array:
    """The rank of each number, from 1; equal ones have their mean rank."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    return np.asarray(rankdata(values))


def log_loss(margins: Array, labels: Array) -> Array:
    """Of each row, from log odds."""
    return np.asarray(np.logaddexp(0, margins) - labels * margins)


def gain(before: Array, after: Array) -> Gain:
    """Of the losses of rows, out of fold, with and without something: Student's t, one-sided.

    Rows of a fold share what was fitted, so their mean varies more than that of as many independent ones: by the factor
    of Nadeau and Bengio (Inference for the generalization error, 2003).
    """
    from scipy.stats import t

    fell = before - after
    rows, mean = len(fell), float(np.mean(fell))
    error = float(np.std(fell, ddof=1)) * (1 / rows + FOLDS / (rows * (FOLDS - 1))) ** 0.5
    if not error:
        return Gain(mean, mean, mean, 1.0)
    wide = float(t.ppf(0.975, rows - 1)) * error
    return Gain(mean, mean - wide, mean + wide, float(t.sf(mean / error, rows - 1)))


def discoveries(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which hypotheses are refused, with at most this share of true ones among them (Benjamini, Hochberg 1995)."""
    order = np.argsort(p_values)
    passed = [place for place, index in enumerate(order, 1) if p_values[index] <= rate * place / len(p_values)]
    most = max(passed, default=0)
    chosen = {int(index) for index in order[:most]}
    return [index in chosen for index in range(len(p_values))]
