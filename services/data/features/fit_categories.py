"""Fits steps that look a category up in a table of the training rows."""

from collections import Counter
from typing import Any

import numpy as np

from services.data.features.constants import Array, Crossed, Fitting, Folded, Hashed, Lookup, circle, present
from services.data.features.steps import Step
from services.kit import folds
from services.kit.errors import FailedPrecondition

_Fit = tuple[Lookup, list[str]]


def _categories(step: Step, fitting: Fitting) -> tuple[Array, Array]:
    """Categories of the filled column and how often each occurs, in the order of the categories."""
    values = fitting.filled["column"]
    if values.dtype == object:
        # Counted one by one: an array of texts takes the room of its longest for each, and cuts zeros off their ends.
        found = sorted(Counter(values.tolist()).items())
        return np.array([text for text, _ in found], object), np.array([count for _, count in found], np.int64)
    # + 0.0: there is one zero.
    return np.unique(present(values, step.column) + 0.0, return_counts=True)


def one_hot(step: Step, fitting: Fitting) -> _Fit:
    """One output for each of the most frequent categories."""
    keys, counts = _categories(step, fitting)
    # The most frequent ones; of equals the first. Outputs are then in the order of the categories.
    kept = np.sort(np.argsort(-counts, kind="stable")[: step.max_categories])
    names = [f"one_hot({step.column})={spelt(key)}" for key in keys[kept]]
    return Lookup(tuple(keys[kept].tolist()), np.eye(len(kept), dtype=np.float32)), names


def count(step: Step, fitting: Fitting) -> _Fit:
    """How often the category occurs."""
    keys, counts = _categories(step, fitting)
    return Lookup(tuple(keys.tolist()), counts.astype(np.float32)[:, None]), [f"count({step.column})"]


def cross(step: Step, fitting: Fitting) -> tuple[Crossed, list[str]]:
    """One output for each of the most frequent pairs of categories."""
    (first, left), (second, right) = (
        places_of(fitting.filled[field], name) for field, name in (("column", step.column), ("other", step.other))
    )
    pairs, counts = np.unique((left * (len(second) + 1) + right)[(left >= 0) & (right >= 0)], return_counts=True)
    if not len(pairs):
        raise FailedPrecondition(f"no training row has both {step.column} and {step.other}")
    kept = pairs[np.sort(np.argsort(-counts, kind="stable")[: step.max_categories])]
    names = [(spelt(first[code // (len(second) + 1)]), spelt(second[code % (len(second) + 1)])) for code in kept]
    table = Lookup(tuple(map(float, kept)), np.eye(len(kept), dtype=np.float32))
    outputs = [f"cross({step.column},{step.other})={_escaped(a)}|{_escaped(b)}" for a, b in names]
    return Crossed(first, second, table), outputs


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|")


def ordinal(step: Step, fitting: Fitting) -> _Fit:
    """The place among the sorted categories; -1 for another one."""
    keys, _ = _categories(step, fitting)
    places = np.arange(len(keys), dtype=np.float32)[:, None]
    return Lookup(tuple(keys.tolist()), places, (-1.0,)), [f"ordinal({step.column})"]


def hashed(step: Step, fitting: Fitting) -> tuple[Hashed, list[str]]:
    """Nothing is fitted: the hash of a category says which output is 1."""
    return Hashed(step.buckets), [f"hash({step.column})={place}" for place in range(step.buckets)]


def target(step: Step, fitting: Fitting) -> tuple[Folded, list[str]]:
    """Means of the label: for the rows of each fold those of the other folds, and last those of all rows."""
    label = fitting.raw["label"]
    known = np.isfinite(label)
    if not known.any():
        raise FailedPrecondition("the label has no value in the training rows")
    keys, places = places_of(fitting.filled["column"], step.column)
    sums = _out_of_fold(places, fitting.raw["fold"], np.where(known, label, 0.0), len(keys))
    rows = _out_of_fold(places, fitting.raw["fold"], known.astype(float), len(keys))
    *_, everyone = mean = np.divide(sums[-1], rows[-1], where=rows[-1] > 0, out=np.zeros_like(rows[-1]))
    mean = np.where(rows[-1] > 0, mean, everyone)
    weight = rows[:-1] + step.smoothing
    drawn = sums[:-1] + step.smoothing * mean
    means = np.divide(drawn, weight, where=weight > 0, out=np.tile(mean, (len(keys), 1)))
    return Folded(Lookup(keys, means.astype(np.float32), tuple(mean.tolist()))), [f"target({step.column})"]


def places_of(values: Array, column: str) -> tuple[tuple[Any, ...], Array]:
    """The sorted categories of a filled column, and the place of each row among them; -1 for a missing number."""
    if values.dtype == object:
        keys = sorted(set(values.tolist()))
        place = {key: index for index, key in enumerate(keys)}
        return tuple(keys), np.fromiter(map(place.__getitem__, values), np.int64, len(values))
    found, inside = np.unique(present(values, column) + 0.0, return_inverse=True)
    places = np.full(len(values), -1)
    places[np.isfinite(values)] = inside
    return tuple(found.tolist()), places


def _out_of_fold(places: Array, fold: Array, weights: Array, keys: int) -> Array:
    """Sums [keys + 1, folds + 1] of weights, the last row over all keys: of a fold those of the others, last of all."""
    seen = places >= 0
    cell = places[seen] * folds.FOLDS + fold[seen]
    inside = np.bincount(cell, weights[seen], keys * folds.FOLDS).reshape(keys, folds.FOLDS)
    inside = np.vstack([inside, np.bincount(fold, weights, folds.FOLDS)])
    total = inside.sum(axis=1, keepdims=True)
    return np.hstack([total - inside, total])


def cyclic(step: Step, fitting: Fitting) -> _Fit:
    """Sine and cosine of whole numbers."""
    places = np.arange(step.period)
    rows = circle(step.period)
    names = [f"{part}({step.column})" for part in ("sine", "cosine")]
    return Lookup(tuple((places + step.offset).astype(float).tolist()), rows), names


def spelt(key: str | float) -> str:
    """A category in the name of an output: no two have the same."""
    if isinstance(key, str):
        return key
    return str(int(key)) if key.is_integer() and abs(key) < 2**53 else repr(float(key))
