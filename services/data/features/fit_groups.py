"""Fits steps that aggregate a number over groups of training rows."""

import numpy as np

from services.data.features.constants import Array, Fitting, Lookup, finite, present
from services.data.features.fit_categories import places_of
from services.data.features.steps import Aggregate, Step

# What a group without numbers has: nothing is counted and summed there, and nothing else is known of it.
_EMPTY = (Aggregate.COUNT, Aggregate.SUM)


def group(step: Step, fitting: Fitting) -> tuple[Lookup, list[str]]:
    """An aggregate of each group; another group has that of all rows, or nothing to count."""
    values = fitting.raw["column"]
    present(values, step.column)
    keys, places = places_of(fitting.raw["group"], step.group)
    known = np.isfinite(values)
    everyone = float(_aggregate(step.aggregate, values[known], np.zeros(known.sum(), np.int64), 1)[0])
    unseen = 0.0 if step.aggregate in _EMPTY else everyone
    inside = known & (places >= 0)
    found = _aggregate(step.aggregate, values[inside], places[inside], len(keys))
    rows = np.where(np.isnan(found), unseen, found)
    finite(step.column, everyone, float(np.max(np.abs(rows))))
    return Lookup(keys, rows.astype(np.float32)[:, None], (unseen,)), [
        f"{step.aggregate}({step.column} by {step.group})"
    ]


def _aggregate(aggregate: Aggregate, values: Array, places: Array, groups: int) -> Array:
    """Of the values at each place, FP64 [groups]; NaN where there is none."""
    order = np.lexsort((values, places))
    values, count = values[order], np.bincount(places, minlength=groups)
    empty, first = count == 0, np.cumsum(count) - count
    at = np.minimum(first, max(len(values) - 1, 0))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        match aggregate:
            case Aggregate.COUNT:
                return count.astype(np.float64)
            case Aggregate.MIN:
                found = values[at]
            case Aggregate.MAX:
                found = values[np.maximum(first + count - 1, 0)]
            case Aggregate.MEDIAN:
                low, high = first + np.maximum(count - 1, 0) // 2, first + count // 2
                found = values[np.minimum(low, len(values) - 1)] / 2 + values[np.minimum(high, len(values) - 1)] / 2
            case _:
                found = _moment(aggregate, values, np.repeat(np.arange(groups), count), count)
    return np.where(empty, np.nan, found)


def _moment(aggregate: Aggregate, values: Array, places: Array, count: Array) -> Array:
    total = np.bincount(places, values, len(count))
    if aggregate is Aggregate.SUM:
        return total
    mean = total / count
    if aggregate is Aggregate.MEAN:
        return mean
    return np.asarray(np.sqrt(np.bincount(places, (values - mean[places]) ** 2, len(count)) / count))
