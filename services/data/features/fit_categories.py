"""Fits steps that look a category up in a table of the training rows."""

from collections import Counter
from typing import Any

import numpy as np

from services.data.features.constants import Array, Fitting, Lookup, present
from services.data.features.steps import Step

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
    names = [f"one_hot({step.column})={_spelt(key)}" for key in keys[kept]]
    return Lookup(tuple(keys[kept].tolist()), np.eye(len(kept), dtype=np.float32)), names


def count(step: Step, fitting: Fitting) -> _Fit:
    """How often the category occurs."""
    keys, counts = _categories(step, fitting)
    return Lookup(tuple(keys.tolist()), counts.astype(np.float32)[:, None]), [f"count({step.column})"]


def cyclic(step: Step, fitting: Fitting) -> _Fit:
    """Sine and cosine of whole numbers."""
    places = np.arange(step.period)
    angle = 2 * np.pi * places / step.period
    rows = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    names = [f"{part}({step.column})" for part in ("sine", "cosine")]
    return Lookup(tuple((places + step.offset).astype(float).tolist()), rows), names


def _spelt(key: Any) -> str:
    if isinstance(key, str):
        return key
    return str(int(key)) if key.is_integer() and abs(key) < 2**53 else repr(float(key))
