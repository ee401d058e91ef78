"""Columns that a model must not be given: ids, copies of the label, and what is known only later. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from services.data.feature_search.candidates import MOST_LEVELS, Sampled
from services.data.feature_search.domain import Refusal
from services.data.feature_search.measures import auc, bins, categories, means
from services.data.features.constants import Array

ALONE = 0.98  # area under the ROC curve of one column from which it is taken for the label itself
STRONG = 0.9  # the same, if all others together leave so many times more open
_BEYOND = 5.0
_BINS = 60
_EACH = 0.95  # share of different values from which text is an id
_LATER = 0.01  # share of rows in which a time is later than that of the prediction
_ALIKE = 0.9999  # correlation of a column with the mean of labels of a group


class Leak(StrEnum):
    """What kind of column it is."""

    ID = "id"
    TARGET = "target"
    FUTURE = "future"


def alone(column: Sampled, rows: Array, labels: Array, folds: Array) -> float:
    """The area under the ROC curve of what one column says of these rows, out of fold; missing values count as well."""
    values = column.values[rows]
    if column.category and not column.text:
        codes = categories(np.nan_to_num(values, nan=np.inf))
    else:
        codes = categories(values) if column.text else bins(values, _BINS)
    return auc(means(codes, folds, labels), labels)


def alone_values(values: Array, labels: Array, folds: Array) -> float:
    """The same of numbers."""
    return auc(means(bins(values), folds, labels), labels)


def ids(columns: Sequence[Sampled], rows: int) -> list[Refusal]:
    """Columns that name rows. `rows`: of the table that the sample was taken of."""
    found = []
    for column in columns:
        if column.text and column.levels > max(_EACH * int(np.sum(column.values != "")), MOST_LEVELS):
            found.append(Refusal(column.name, Leak.ID, "nearly every row has a text of its own"))
        elif not column.text and not column.time and _counts(column, rows):
            found.append(Refusal(column.name, Leak.ID, "its whole numbers count the rows"))
    return found


def _counts(column: Sampled, rows: int) -> bool:
    known = column.values[np.isfinite(column.values)]
    if len(known) < 100 or column.levels < len(known) or np.any(known % 1):
        return False
    return float(known.max() - known.min()) < 2 * rows


def later(columns: Sequence[Sampled], time: str) -> list[Refusal]:
    """Times that are later than the one at which a row is predicted."""
    at = next((column.values for column in columns if column.name == time), None)
    found = []
    for column in columns:
        if at is None or not column.time or column.name == time:
            continue
        share = float(np.mean(column.values > at))
        if share > _LATER:
            reason = f"in {share:.1%} of the rows it is later than {time}"
            found.append(Refusal(column.name, Leak.FUTURE, reason))
    return found


def copies(scores: Mapping[str, float]) -> list[Refusal]:
    """Columns that are the label in other words, by what each says alone."""
    return [
        Refusal(name, Leak.TARGET, f"it tells the label by itself (AUC {score:.3f})", score)
        for name, score in scores.items()
        if score >= ALONE
    ]


def lonely(scores: Mapping[str, float], others: Mapping[str, float]) -> list[Refusal]:
    """Columns that say very much, beside what all others together say."""
    return [
        Refusal(
            name,
            Leak.TARGET,
            f"alone it says far more (AUC {score:.3f}) than all others together ({others[name]:.3f})",
            score,
        )
        for name, score in scores.items()
        if (1 - score) * _BEYOND <= 1 - others[name]
    ]


def averages(columns: Sequence[Sampled], labels: Array) -> list[Refusal]:
    """Numbers that are the mean of the labels of a group, those of the row among them."""
    groups = [column for column in columns if column.category]
    found = []
    for column in columns:
        if not column.measure or column.levels > MOST_LEVELS:
            continue
        for group in groups:
            if group is not column and _follows(column, group, labels):
                reason = f"it is the mean of the label by {group.name}"
                found.append(Refusal(column.name, Leak.TARGET, reason))
                break
    return found


def _follows(column: Sampled, group: Sampled, labels: Array) -> bool:
    codes = categories(group.values) if group.text else categories(np.nan_to_num(group.values, nan=np.inf))
    counts = np.maximum(np.bincount(codes), 1)
    if len(counts) < 3 or not np.isfinite(column.values).all():
        return False
    own = np.bincount(codes, column.values) / counts
    if np.max(np.abs(column.values - own[codes])) > 1e-9 * (1 + np.max(np.abs(own))):
        return False
    shares = np.bincount(codes, labels) / counts
    if np.std(own) == 0 or np.std(shares) == 0:
        return False
    # Of a sample the means are not quite those of the table: noise of the size of their errors is taken off.
    noise = float(np.mean(shares * (1 - shares) / counts))
    alike = float(np.corrcoef(own, shares)[0, 1])
    most = float(np.sqrt(max(0.0, 1 - noise / float(np.var(shares)))))
    return alike > min(_ALIKE, 0.98 * most) and alike > 0.5 and abs(float(np.polyfit(shares, own, 1)[0]) - 1) < 0.5
