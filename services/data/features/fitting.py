"""Fits steps on columns: numpy in, constants out. Pure; runs in the child.

A number is missing when it is NaN; a text when it is empty. Infinite numbers are left out of what is fitted.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.data.features.domain import Imputation, Step, Transform
from services.kit.errors import FailedPrecondition

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scale:
    """x -> (x - shift) / width, one number."""

    shift: float
    width: float


@dataclass(frozen=True)
class Lookup:
    """x -> the row of a table that belongs to a key; zeros for any other x."""

    keys: tuple[str, ...] | tuple[float, ...]
    rows: Array  # [keys, outputs], FP32


@dataclass(frozen=True)
class FittedStep:
    """A step with its constants. `fill` takes the place of a missing number; None: it stays missing."""

    column: str
    text: bool
    fill: float | None
    work: Scale | Lookup
    outputs: tuple[str, ...]


def fit(step: Step, values: Array, text: bool) -> FittedStep:
    """Fits a step on the values [rows] of its column: FP64 with NaN, or objects that are str.

    Raises failed_precondition when the column has no value to fit on.
    """
    fill = _fill(step, values) if not text else None
    work, names = _FITS[step.transform](step, values, fill)
    return FittedStep(step.column, text, fill, work, tuple(names))


def _present(values: Array, column: str) -> Array:
    found = values[np.isfinite(values)]
    if not len(found):
        raise FailedPrecondition(f"{column} has no value in the training rows")
    return found


def _fill(step: Step, values: Array) -> float | None:
    match step.imputation:
        case Imputation.NONE:
            return None
        case Imputation.CONSTANT:
            return step.constant
        case Imputation.MEAN | Imputation.MEDIAN:
            middle = np.mean if step.imputation is Imputation.MEAN else np.median
            with np.errstate(over="ignore"):
                found = float(middle(_present(values, step.column)))
            return _finite(Scale(found, 1.0), step.column).shift


_Fit = tuple[Scale | Lookup, list[str]]


def _identity(step: Step, values: Array, fill: float | None) -> _Fit:
    return Scale(0.0, 1.0), [step.column]


def _standardize(step: Step, values: Array, fill: float | None) -> _Fit:
    found = _present(values, step.column)
    if np.min(found) == np.max(found):  # the mean of equal numbers may be beside them
        return Scale(float(found[0]), 1.0), [f"standardize({step.column})"]
    with np.errstate(over="ignore", invalid="ignore"):
        scale = Scale(float(np.mean(found)), float(np.std(found)) or 1.0)
    return _finite(scale, step.column), [f"standardize({step.column})"]


def _min_max(step: Step, values: Array, fill: float | None) -> _Fit:
    found = _present(values, step.column)
    low, high = float(np.min(found)), float(np.max(found))
    return _finite(Scale(low, (high - low) or 1.0), step.column), [f"min_max({step.column})"]


def _finite(scale: Scale, column: str) -> Scale:
    if not (np.isfinite(scale.shift) and np.isfinite(scale.width)):
        raise FailedPrecondition(f"{column} holds numbers that are too large to be scaled")
    return scale


def _categories(step: Step, values: Array, fill: float | None) -> tuple[Array, Array]:
    """Categories of the filled column and how often each occurs, in the order of the categories."""
    if values.dtype == object:
        # Counted one by one: an array of texts takes the room of its longest for each, and cuts zeros off their ends.
        found = sorted(Counter(values.tolist()).items())
        return np.array([text for text, _ in found], object), np.array([count for _, count in found], np.int64)
    filled = np.where(np.isnan(values), np.nan if fill is None else fill, values)
    # + 0.0: there is one zero.
    return np.unique(_present(filled, step.column) + 0.0, return_counts=True)


def _one_hot(step: Step, values: Array, fill: float | None) -> _Fit:
    keys, counts = _categories(step, values, fill)
    # The most frequent ones; of equals the first. Outputs are then in the order of the categories.
    kept = np.sort(np.argsort(-counts, kind="stable")[: step.max_categories])
    names = [f"one_hot({step.column})={_spelt(key)}" for key in keys[kept]]
    return Lookup(tuple(keys[kept].tolist()), np.eye(len(kept), dtype=np.float32)), names


def _count(step: Step, values: Array, fill: float | None) -> _Fit:
    keys, counts = _categories(step, values, fill)
    return Lookup(tuple(keys.tolist()), counts.astype(np.float32)[:, None]), [f"count({step.column})"]


def _cyclic(step: Step, values: Array, fill: float | None) -> _Fit:
    places = np.arange(step.period)
    angle = 2 * np.pi * places / step.period
    rows = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    names = [f"{part}({step.column})" for part in ("sine", "cosine")]
    return Lookup(tuple((places + step.offset).astype(float).tolist()), rows), names


def _spelt(key: Any) -> str:
    if isinstance(key, str):
        return key
    return str(int(key)) if key.is_integer() and abs(key) < 2**53 else repr(float(key))


_FITS: dict[Transform, Callable[[Step, Array, float | None], _Fit]] = {
    Transform.IDENTITY: _identity,
    Transform.STANDARDIZE: _standardize,
    Transform.MIN_MAX: _min_max,
    Transform.ONE_HOT: _one_hot,
    Transform.COUNT: _count,
    Transform.CYCLIC: _cyclic,
}
