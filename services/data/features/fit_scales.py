"""Fits steps that scale a number: shift and width of the training rows. A constant column is divided by 1."""

from decimal import Decimal

import numpy as np

from services.data.features.constants import Array, Fitting, Scale, Trend, finite, present
from services.data.features.steps import Step
from services.kit.errors import FailedPrecondition

_Scaled = tuple[Scale, list[str]]


def _scale(step: Step, shift: float, width: float) -> _Scaled:
    finite(step.column, shift, width)
    return Scale(shift, width), [f"{step.transform}({step.column})"]


def _present(step: Step, fitting: Fitting) -> Array:
    return present(fitting.raw["column"], step.column)


def identity(step: Step, fitting: Fitting) -> _Scaled:
    """The number itself."""
    return Scale(0.0, 1.0), [step.column]


def standardize(step: Step, fitting: Fitting) -> _Scaled:
    """Mean and standard deviation."""
    found = _present(step, fitting)
    if np.min(found) == np.max(found):  # the mean of equal numbers may be beside them
        return _scale(step, float(found[0]), 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        return _scale(step, float(np.mean(found)), float(np.std(found)) or 1.0)


def standardize_trend(step: Step, fitting: Fitting) -> tuple[Trend, list[str]]:
    """The line of least squares over the order, and the standard deviation of what it leaves."""
    values, order = fitting.raw["column"], fitting.raw["order"]
    known = np.isfinite(values) & np.isfinite(order)
    if not known.any():
        raise FailedPrecondition(f"no training row has both {step.column} and {step.order}")
    x, t = values[known], order[known]
    with np.errstate(over="ignore", invalid="ignore"):
        shift, origin = float(np.mean(x)), float(np.mean(t))
        away = t - origin
        slope = float(away @ (x - shift) / (away @ away)) if np.min(t) < np.max(t) else 0.0
        left = float(np.std(x - shift - slope * away))
    # What lies on the line leaves the error of rounding, which is no deviation.
    width = left if left > 1e-12 * np.max(np.abs(x)) else 1.0
    finite(step.column, shift, origin, slope, left)
    return Trend(shift, width, slope, origin), [f"standardize_trend({step.column} by {step.order})"]


def min_max(step: Step, fitting: Fitting) -> _Scaled:
    """Smallest and largest value become 0 and 1."""
    low, high = _ends(step, fitting)
    return _scale(step, low, (high - low) or 1.0)


def min_max_signed(step: Step, fitting: Fitting) -> _Scaled:
    """Smallest and largest value become -1 and 1."""
    low, high = _ends(step, fitting)
    half = ((high - low) or 1.0) / 2
    return _scale(step, low + half, half or 1.0)


def _ends(step: Step, fitting: Fitting) -> tuple[float, float]:
    found = _present(step, fitting)
    return float(np.min(found)), float(np.max(found))


def max_abs(step: Step, fitting: Fitting) -> _Scaled:
    """The largest absolute value becomes 1."""
    return _scale(step, 0.0, max(map(abs, _ends(step, fitting))) or 1.0)


def robust(step: Step, fitting: Fitting) -> _Scaled:
    """Median and interquartile range."""
    found = _present(step, fitting)
    with np.errstate(over="ignore", invalid="ignore"):
        low, middle, high = map(float, np.percentile(found, (25, 50, 75)))
    # The largest value may lie so many ranges away that FP32 does not hold it: such a range is rounding.
    width = high - low if high - low > 10 * np.finfo(np.float64).eps * np.max(np.abs(found)) else 1.0
    return _scale(step, middle, width)


def decimal(step: Step, fitting: Fitting) -> _Scaled:
    """A power of ten: the largest absolute value comes to lie below 1, and is at least 0.1."""
    most = max(map(abs, _ends(step, fitting)))
    power = Decimal(most).adjusted() + 1 if most else 0
    return _scale(step, 0.0, float(f"1e{power}") or 1.0)
