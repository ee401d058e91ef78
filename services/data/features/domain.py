"""What a feature set means: steps over columns, and the versions that fitting makes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.data.features.steps import NUMBERS, Step, refuse
from services.data.schema import Column
from services.kit.errors import FailedPrecondition, Violation
from services.kit.resources import changed


@dataclass(frozen=True)
class RowRange:
    """The rows whose column lies between two numbers, both included; None: open."""

    column: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Scaling:
    """How an output of a graph was scaled: (column - shift - slope * (order - origin)) / width."""

    output: str
    column: str
    shift: float
    width: float
    order: str = ""
    slope: float = 0.0
    origin: float = 0.0


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
    scalings: tuple[Scaling, ...] = ()


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
    """What the child found: rows it read, the graph's outputs, digest, bytes and scalings."""

    rows: int
    outputs: tuple[str, ...]
    digest: str
    size: int
    scalings: tuple[Scaling, ...] = ()


def check_range(rows: RowRange, columns: Iterable[Column]) -> None:
    """Raises invalid_value when the range's column is missing or holds no numbers, or the range is empty or endless."""
    column = next((column for column in columns if column.name == rows.column), None)
    if column is None or column.type not in NUMBERS:
        refuse([Violation("/train/column", f"must be a numeric column of the data set; {rows.column} is not")])
    if rows.start is not None and rows.end is not None and not rows.start <= rows.end:
        refuse([Violation("/train", "from must not be greater than to")])
    # Infinity and NaN have no word in JSON, which a fitting is kept and handed on as; an open bound is left out.
    endless = [name for name, at in (("from", rows.start), ("to", rows.end)) if not math.isfinite(at or 0)]
    refuse([Violation(f"/train/{name}", "must be finite") for name in endless])


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
        scalings=what.scalings,
    )
    return after, version
