"""The steps of feature sets: what they are made of, and which columns they take. Pure."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue, Violation

NUMBERS = (ColumnType.BOOL, ColumnType.INT64, ColumnType.DOUBLE)
MOST_CATEGORIES = 1000
LONGEST_PERIOD = 10_000
MOST_BUCKETS = 1024
CATEGORIES = 64
BUCKETS = 64
SMOOTHING = 10.0
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
    STANDARDIZE_TREND = "standardize_trend"
    ROBUST = "robust"
    MAX_ABS = "max_abs"
    MIN_MAX_SIGNED = "min_max_signed"
    DECIMAL = "decimal"
    ORDINAL = "ordinal"
    TARGET = "target"
    HASH = "hash"


@dataclass(frozen=True)
class Step:
    """One step: a column, what fills it, what it becomes, and the other columns that it needs for that."""

    column: str
    transform: Transform
    imputation: Imputation = Imputation.NONE
    constant: float = 0.0
    period: int = 0
    offset: int = 0
    max_categories: int = CATEGORIES
    order: str = ""
    smoothing: float = SMOOTHING
    buckets: int = BUCKETS

    @property
    def others(self) -> dict[str, str]:
        """The names of its other columns, by the fields that name them."""
        return {field: getattr(self, field) for field in OTHERS.get(self.transform, {})}


_TIMES = (ColumnType.TIMESTAMP,)
_CATEGORIES = (*NUMBERS, ColumnType.STRING)
# Types that the first column may have where they are not those of numbers.
TAKES: Mapping[Transform, tuple[ColumnType, ...]] = {
    Transform.ONE_HOT: _CATEGORIES,
    Transform.COUNT: _CATEGORIES,
    Transform.ORDINAL: _CATEGORIES,
    Transform.TARGET: _CATEGORIES,
    Transform.HASH: _CATEGORIES,
}
# Fields that name other columns, and the types that these may have.
OTHERS: Mapping[Transform, Mapping[str, tuple[ColumnType, ...]]] = {
    Transform.STANDARDIZE_TREND: {"order": (*NUMBERS, *_TIMES)},
}
_NAMING = sorted({field for fields in OTHERS.values() for field in fields})


def check_steps(steps: Sequence[Step], label: str, key: str) -> None:
    """Raises invalid_value with every step that makes no sense whatever the columns hold."""
    found = [violation for index, step in enumerate(steps) for violation in _broken(step, f"/steps/{index}")]
    seen = set[tuple[object, ...]]()
    for index, step in enumerate(steps):
        found += _private(step, f"/steps/{index}", label, key)
        same = (step.column, step.transform, *step.others.values())
        if same in seen:
            found.append(Violation(f"/steps/{index}", f"{step.column} has this transform already"))
        seen.add(same)
    refuse(found)


def _private(step: Step, at: str, label: str, key: str) -> Iterator[Violation]:
    """Label and key are no features; the key may say in which order rows came."""
    for field, name in {"column": step.column, **step.others}.items():
        if name == label:
            yield Violation(f"{at}/{field}", f"{name} is the label, not a feature")
        elif name == key and field != "order":
            yield Violation(f"{at}/{field}", f"{name} is the key, not a feature")


def _broken(step: Step, at: str) -> Iterator[Violation]:
    if not math.isfinite(step.constant):
        yield Violation(f"{at}/constant", "must be finite")
    if not 1 <= step.max_categories <= MOST_CATEGORIES:
        yield Violation(f"{at}/max_categories", f"must lie between 1 and {MOST_CATEGORIES}")
    if step.transform is Transform.CYCLIC and not 2 <= step.period <= LONGEST_PERIOD:
        yield Violation(f"{at}/period", f"must lie between 2 and {LONGEST_PERIOD}")
    if not (math.isfinite(step.smoothing) and step.smoothing >= 0):
        yield Violation(f"{at}/smoothing", "must be finite and not negative")
    if not 2 <= step.buckets <= MOST_BUCKETS:
        yield Violation(f"{at}/buckets", f"must lie between 2 and {MOST_BUCKETS}")
    for field in _NAMING:
        if field in step.others and not getattr(step, field):
            yield Violation(f"{at}/{field}", f"must name a column: {step.transform} needs it")
        elif field not in step.others and getattr(step, field):
            yield Violation(f"{at}/{field}", f"is not for {step.transform}")


def inputs_of(steps: Iterable[Step], label: str, key: str, columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns that the graph of the steps takes, in the order of their first use.

    Raises invalid_value when the data set lacks a column or a step cannot take its type.
    """
    known = {column.name: column for column in columns}
    named = (("label", label), ("key", key))
    found = [Violation(f"/{what}", f"the data set has no column {name}") for what, name in named if name not in known]
    if label in known and known[label].type not in NUMBERS:
        found.append(Violation("/label", f"{label} must hold 0 and 1"))
    used: dict[str, Column] = {}
    for index, step in enumerate(steps):
        for field, name in {"column": step.column, **step.others}.items():
            at = f"/steps/{index}" if field == "column" and name in known else f"/steps/{index}/{field}"
            column = known.get(name)
            if column is None:
                found.append(Violation(at, f"the data set has no column {name}"))
            elif rule := _misfit(step, field, column):
                found.append(Violation(at, rule))
            else:
                used.setdefault(column.name, column)
    refuse(found)
    return tuple(used.values())


def _misfit(step: Step, field: str, column: Column) -> str:
    takes = TAKES.get(step.transform, NUMBERS) if field == "column" else step_takes(step, field)
    if column.name in RESERVED:
        return f"the name {column.name} is reserved for the outputs of models"
    if column.type is ColumnType.STRING:
        if column.type not in takes:
            return f"{column.name} holds text, which {step.transform} does not take"
        if step.imputation is not Imputation.NONE:
            return f"{column.name} holds text: a missing one is the empty text and is not filled"
    elif column.type not in takes:
        takers = any(column.type in types for types in TAKES.values())
        what = f"{step.transform} does not take as its {field}" if takers or field != "column" else "no step takes"
        return f"{column.name} is a {column.type}, which {what}"
    return ""


def step_takes(step: Step, field: str) -> tuple[ColumnType, ...]:
    """Types that the column named by a field may have."""
    return OTHERS[step.transform][field]


def refuse(found: Sequence[Violation]) -> None:
    """Raises invalid_value for the first of them, with all; nothing for none."""
    if found:
        raise InvalidValue(f"{found[0].pointer[1:].replace('/', '.')}: {found[0].rule}", found)
