"""The models that judge: what single columns say together, and what one more adds. Pure but for LightGBM."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.data.feature_search.measures import FOLDS
from services.data.features.constants import Array

_COMMON = {
    "objective": "binary",
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 1,
    "max_bin": 63,
    "min_data_in_leaf": 30,
}
# Each tree asks one column once: together they are a sum of functions of single columns.
_SINGLE = {**_COMMON, "num_leaves": 2, "learning_rate": 0.1}
_SINGLE_ROUNDS = 150
# Slowly: what noise adds to losses by being fitted is far below what a step adds.
_ADDED, _ADDED_ROUNDS = {**_SINGLE, "learning_rate": 0.05}, 40
_WHOLE = {**_COMMON, "num_leaves": 15, "learning_rate": 0.1}
_WHOLE_ROUNDS = 80


def single(columns: Sequence[Array], labels: Array, folds: Array) -> Array:
    """Log odds [rows] of a sum of functions of single columns, each row's from the other folds."""
    return _out_of_fold(columns, labels, folds, _SINGLE, _SINGLE_ROUNDS)


def added(columns: Sequence[Array], labels: Array, folds: Array, margins: Array) -> Array:
    """The log odds `margins`, bettered by functions of these columns."""
    return _out_of_fold(columns, labels, folds, _ADDED, _ADDED_ROUNDS, margins)


def whole(columns: Sequence[Array], labels: Array, folds: Array) -> Array:
    """Log odds of a model of trees, which finds what columns say together by itself."""
    return _out_of_fold(columns, labels, folds, _WHOLE, _WHOLE_ROUNDS)


def _out_of_fold(
    columns: Sequence[Array],
    labels: Array,
    folds: Array,
    parameters: dict[str, Any],
    rounds: int,
    margins: Array | None = None,
) -> Array:
    import lightgbm

    table = np.column_stack(columns)
    start = margins if margins is not None else np.zeros(len(labels))
    found = np.array(start, np.float64)
    for fold in range(FOLDS):
        held = folds == fold
        fitted = labels[~held]
        # Without a start of its own LightGBM begins at the mean; with one it does not.
        first = 0.0 if margins is not None else _log_odds(fitted)
        data = lightgbm.Dataset(table[~held], fitted, init_score=start[~held] + first, params={"verbosity": -1})
        model = lightgbm.train({**parameters, "boost_from_average": False}, data, rounds)
        found[held] += first + np.asarray(model.predict(table[held], raw_score=True))
    return found


def _log_odds(labels: Array) -> float:
    share = (float(labels.sum()) + 0.5) / (len(labels) + 1)
    return float(np.log(share / (1 - share)))
