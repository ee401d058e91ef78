"""What a feature set means: steps over columns, and the versions that fitting makes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.data.generations import changed
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition, InvalidValue, Violation

NUMBERS = (ColumnType.BOOL, ColumnType.INT64, ColumnType.DOUBLE)
MOST_CATEGORIES = 1000
LONGEST_PERIOD = 10_000
CATEGORIES = 64
RESERVED = ("features", "probability")  # names of the outputs of graphs and models


class Imputation(StrEnum):
    """How a missing number is filled."""

    NONE = "none"
    MEAN = "mean"
    MEDIAN = "median"
    CONSTANT = "constant"


class Transform(StrEnum):
    """What becomes of a column."""

    IDENTITY = "identity"
    STANDARDIZE = "standardize"
    MIN_MAX = "min_max"
    ONE_HOT = "one_hot"
    COUNT = "count"
    CYCLIC = "cyclic"


@dataclass(frozen=True)
class Step:
    """One step: a column, what fills it, what it becomes."""

    column: str
    transform: Transform
    imputation: Imputation = Imputation.NONE
    constant: float = 0.0
    period: int = 0
    offset: int = 0
    max_categories: int = CATEGORIES


@dataclass(frozen=True)
class RowRange:
    """The rows whose column lies between two numbers, both included; None: open."""

    column: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class FeatureSet:
    """Steps over the columns of a data set, and the column they are to predict."""

    feature_set: str
    description: str
    data_set: str
    label: str
    key: str
    steps: tuple[Step, ...]
    latest_version: int
    generation: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None


@dataclass(frozen=True)
class FeatureSetVersion:
    """What fitting made: immutable."""

    feature_set: str
    version: int
    data_set: str
    data_set_version: int
    train: RowRange | None
    rows: int
    digest: str
    inputs: tuple[Column, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    label: str
    key: str
    create_time: datetime


@dataclass(frozen=True)
class Fit:
    """A fitting under way, with everything that it needs: it goes on after a crash from this alone."""

    operation: str
    feature_set: str
    data_set: str
    data_set_version: int
    train: RowRange | None
    steps: tuple[Step, ...]
    label: str
    key: str
    inputs: tuple[Column, ...]
    create_time: datetime


@dataclass(frozen=True)
class Fitted:
    """What the child found: rows it read, the graph's outputs, digest and bytes."""

    rows: int
    outputs: tuple[str, ...]
    digest: str
    size: int


def check_steps(steps: Sequence[Step], label: str, key: str) -> None:
    """Raises invalid_value with every step that makes no sense whatever the columns hold."""
    found = [violation for index, step in enumerate(steps) for violation in _broken(step, f"/steps/{index}")]
    seen = set[tuple[str, Transform]]()
    for index, step in enumerate(steps):
        if step.column in (label, key):
            kind = "label" if step.column == label else "key"
            found.append(Violation(f"/steps/{index}/column", f"{step.column} is the {kind}, not a feature"))
        if (step.column, step.transform) in seen:
            found.append(Violation(f"/steps/{index}", f"{step.column} has this transform already"))
        seen.add((step.column, step.transform))
    _refuse(found)


def _broken(step: Step, at: str) -> Iterator[Violation]:
    if not math.isfinite(step.constant):
        yield Violation(f"{at}/constant", "must be finite")
    if not 1 <= step.max_categories <= MOST_CATEGORIES:
        yield Violation(f"{at}/max_categories", f"must lie between 1 and {MOST_CATEGORIES}")
    if step.transform is Transform.CYCLIC and not 2 <= step.period <= LONGEST_PERIOD:
        yield Violation(f"{at}/period", f"must lie between 2 and {LONGEST_PERIOD}")


def inputs_of(steps: Iterable[Step], label: str, key: str, columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns that the steps take, in the order of their first use.

    Raises invalid_value when the data set lacks a column or a step cannot take its type.
    """
    known = {column.name: column for column in columns}
    named = (("label", label), ("key", key))
    found = [Violation(f"/{what}", f"the data set has no column {name}") for what, name in named if name not in known]
    if label in known and known[label].type not in NUMBERS:
        found.append(Violation("/label", f"{label} must hold 0 and 1"))
    used: dict[str, Column] = {}
    for index, step in enumerate(steps):
        column = known.get(step.column)
        if column is None:
            found.append(Violation(f"/steps/{index}/column", f"the data set has no column {step.column}"))
        elif rule := _misfit(step, column):
            found.append(Violation(f"/steps/{index}", rule))
        else:
            used.setdefault(column.name, column)
    _refuse(found)
    return tuple(used.values())


def _misfit(step: Step, column: Column) -> str:
    if column.name in RESERVED:
        return f"the name {column.name} is reserved for the outputs of models"
    if column.type in NUMBERS:
        return ""
    if column.type is not ColumnType.STRING:
        return f"{column.name} is a {column.type}, which no step takes"
    if step.transform not in (Transform.ONE_HOT, Transform.COUNT):
        return f"{column.name} holds text, which {step.transform} does not take"
    if step.imputation is not Imputation.NONE:
        return f"{column.name} holds text: a missing one is the empty text and is not filled"
    return ""


def check_range(rows: RowRange, columns: Iterable[Column]) -> None:
    """Raises invalid_value when the range's column is missing or holds no numbers, or the range is empty or endless."""
    column = next((column for column in columns if column.name == rows.column), None)
    if column is None or column.type not in NUMBERS:
        _refuse([Violation("/train/column", f"must be a numeric column of the data set; {rows.column} is not")])
    if rows.start is not None and rows.end is not None and not rows.start <= rows.end:
        _refuse([Violation("/train", "from must not be greater than to")])
    # Infinity and NaN have no word in JSON, which a fitting is kept and handed on as; an open bound is left out.
    endless = [name for name, at in (("from", rows.start), ("to", rows.end)) if not math.isfinite(at or 0)]
    _refuse([Violation(f"/train/{name}", "must be finite") for name in endless])


def _refuse(found: Sequence[Violation]) -> None:
    if found:
        raise InvalidValue(f"{found[0].pointer[1:].replace('/', '.')}: {found[0].rule}", found)


def fitted(feature_set: FeatureSet, fit: Fit, what: Fitted, now: datetime) -> tuple[FeatureSet, FeatureSetVersion]:
    """The feature set with one more version, and that version. Raises failed_precondition for a deleted one."""
    if feature_set.delete_time:
        raise FailedPrecondition(f"the feature set {feature_set.feature_set} was deleted while it was fitted")
    after = changed(feature_set, now, latest_version=feature_set.latest_version + 1)
    version = FeatureSetVersion(
        feature_set=fit.feature_set,
        version=after.latest_version,
        data_set=fit.data_set,
        data_set_version=fit.data_set_version,
        train=fit.train,
        rows=what.rows,
        digest=what.digest,
        inputs=fit.inputs,
        outputs=what.outputs,
        steps=fit.steps,
        label=fit.label,
        key=fit.key,
        create_time=now,
    )
    return after, version
