"""Fits steps that compute with numbers and times: bins have edges, the others nothing to be found."""

import numpy as np

from services.data.features.constants import Array, Bins, Cycle, Date, Distance, Fitting, Log, Pair, Power, present
from services.data.features.fit_categories import spelt
from services.data.features.steps import Step, Transform

OPERATORS = {Transform.PRODUCT: "Mul", Transform.RATIO: "Div", Transform.DIFFERENCE: "Sub"}


def bin_width(step: Step, fitting: Fitting) -> tuple[Bins, list[str]]:
    """Edges at equal distances."""
    found = present(fitting.filled["column"], step.column)
    return _binned(step, np.linspace(np.min(found), np.max(found), step.bins + 1))


def bin_quantile(step: Step, fitting: Fitting) -> tuple[Bins, list[str]]:
    """Edges at quantiles, by linear interpolation."""
    found = present(fitting.filled["column"], step.column)
    return _binned(step, np.percentile(found, np.linspace(0, 100, step.bins + 1)))


def _binned(step: Step, ends: Array) -> tuple[Bins, list[str]]:
    """Edges that are equal are one; the outer ones are no edges, the bins there are open."""
    return _bins(step, tuple(np.unique(ends[np.isfinite(ends)])[1:-1].tolist()))


def bin_edges(step: Step, fitting: Fitting) -> tuple[Bins, list[str]]:
    """Edges that the step says."""
    return _bins(step, step.edges)


def _bins(step: Step, edges: tuple[float, ...]) -> tuple[Bins, list[str]]:
    names = [f"<{spelt(edges[0])}", *map(spelt, edges)] if edges else ["any"]
    return Bins(edges), [f"{step.transform}({step.column})={name}" for name in names]


def cyclic(step: Step, fitting: Fitting) -> tuple[Cycle, list[str]]:
    """Sine and cosine of any number."""
    name = f"{step.column},{spelt(step.cycle)}"
    return Cycle(step.offset, step.cycle), [f"sine({name})", f"cosine({name})"]


def log(step: Step, fitting: Fitting) -> tuple[Log, list[str]]:
    """The natural logarithm."""
    return Log(step.shift), [f"log({step.column})"]


def power(step: Step, fitting: Fitting) -> tuple[Power, list[str]]:
    """A power."""
    return Power(step.exponent), [f"power({step.column},{spelt(step.exponent)})"]


def pair(step: Step, fitting: Fitting) -> tuple[Pair, list[str]]:
    """Two columns by an operator."""
    return Pair(OPERATORS[step.transform]), [f"{step.transform}({step.column},{step.other})"]


def date(step: Step, fitting: Fitting) -> tuple[Date, list[str]]:
    """A part of a time."""
    name = f"{step.part}({step.column})"
    if step.transform is Transform.DATE_PART:
        return Date(step.part, False), [name]
    return Date(step.part, True), [f"sine({name})", f"cosine({name})"]


def distance(step: Step, fitting: Fitting) -> tuple[Distance, list[str]]:
    """Kilometres between two points."""
    return Distance(), [f"distance({','.join([step.column, *step.others.values()])})"]
