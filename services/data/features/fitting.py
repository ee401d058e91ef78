"""Fits steps on columns: numpy in, constants out. Pure; runs in the child.

A number is missing when it is NaN; a text when it is empty. Infinite numbers are left out of what is fitted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.data.features import fit_categories, fit_groups, fit_numbers, fit_scales, fit_text
from services.data.features.constants import (
    Array,
    Bins,
    Crossed,
    Cycle,
    Date,
    Distance,
    Fitting,
    Folded,
    Hashed,
    HashedWords,
    Log,
    Lookup,
    Pair,
    Power,
    Scale,
    Trend,
    Words,
    finite,
    present,
)
from services.data.features.domain import Scaling
from services.data.features.steps import Imputation, Step, Transform

_Categories = Lookup | Folded | Hashed | Crossed | HashedWords | Words
Work = Scale | Trend | Cycle | Bins | Log | Power | Pair | Date | Distance | _Categories


@dataclass(frozen=True)
class Taken:
    """A column that a step takes. `fill` takes the place of a missing number; None: it stays missing."""

    column: str
    text: bool
    fill: float | None = None


@dataclass(frozen=True)
class FittedStep:
    """A step with its constants: the columns that its part of the graph takes, and the names of its outputs."""

    takes: tuple[Taken, ...]
    work: Work
    outputs: tuple[str, ...]

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """What its outputs can be turned back with."""
        match self.work:
            case Scale(shift, width) if self.outputs[0] != self.takes[0].column:
                return (Scaling(self.outputs[0], self.takes[0].column, shift, width),)
            case Trend(shift, width, slope, origin):
                names = (self.outputs[0], self.takes[0].column)
                return (Scaling(*names, shift, width, self.takes[1].column, slope, origin),)
        return ()


def fit(step: Step, values: Array, others: Mapping[str, Array] | None = None) -> FittedStep:
    """Fits a step on the values [rows] of its column: FP64 with NaN, or objects that are str.

    `others` are those of its other columns, by the fields that name them, and `label` and `fold` where the step needs
    them. Raises failed_precondition when a column has no value to fit on.
    """
    columns = {"column": values, **(others or {})}
    takes = {field: _taken(step, field, name, columns[field]) for field, name in step.served.items()}
    filled = {field: _filled(values, takes.get(field)) for field, values in columns.items()}
    work, outputs = _FITS[step.transform](step, Fitting(columns, filled))
    return FittedStep(tuple(takes.values()), work, tuple(outputs))


def _taken(step: Step, field: str, name: str, values: Array) -> Taken:
    text = values.dtype == object
    return Taken(name, text, None if text or field == "order" else _fill(step, name, values))


def _fill(step: Step, name: str, values: Array) -> float | None:
    match step.imputation:
        case Imputation.NONE:
            return None
        case Imputation.CONSTANT:
            return step.constant
        case Imputation.MEAN | Imputation.MEDIAN:
            middle = np.mean if step.imputation is Imputation.MEAN else np.median
            with np.errstate(over="ignore"):
                found = float(middle(present(values, name)))
            finite(name, found)
            return found


def _filled(values: Array, taken: Taken | None) -> Array:
    if taken is None or taken.fill is None:
        return values
    return np.where(np.isnan(values), taken.fill, values)


_Fit = Callable[[Step, Fitting], tuple[Any, list[str]]]
_FITS: dict[Transform, _Fit] = {
    Transform.IDENTITY: fit_scales.identity,
    Transform.STANDARDIZE: fit_scales.standardize,
    Transform.STANDARDIZE_TREND: fit_scales.standardize_trend,
    Transform.MIN_MAX: fit_scales.min_max,
    Transform.MIN_MAX_SIGNED: fit_scales.min_max_signed,
    Transform.MAX_ABS: fit_scales.max_abs,
    Transform.ROBUST: fit_scales.robust,
    Transform.DECIMAL: fit_scales.decimal,
    Transform.ONE_HOT: fit_categories.one_hot,
    Transform.COUNT: fit_categories.count,
    Transform.ORDINAL: fit_categories.ordinal,
    Transform.TARGET: fit_categories.target,
    Transform.HASH: fit_categories.hashed,
    Transform.CYCLIC: lambda step, fitting: (fit_categories if step.period else fit_numbers).cyclic(step, fitting),
    Transform.CROSS: fit_categories.cross,
    Transform.BIN_WIDTH: fit_numbers.bin_width,
    Transform.BIN_QUANTILE: fit_numbers.bin_quantile,
    Transform.BIN_EDGES: fit_numbers.bin_edges,
    Transform.LOG: fit_numbers.log,
    Transform.POWER: fit_numbers.power,
    Transform.DATE_PART: fit_numbers.date,
    Transform.DATE_CYCLIC: fit_numbers.date,
    Transform.GEO_DISTANCE: fit_numbers.distance,
    Transform.PRODUCT: fit_numbers.pair,
    Transform.RATIO: fit_numbers.pair,
    Transform.DIFFERENCE: fit_numbers.pair,
    Transform.GROUP: fit_groups.group,
    Transform.TEXT_HASH: fit_text.hashed,
    Transform.TEXT_TFIDF: fit_text.weighted,
}
