"""The steps of feature sets: what they are made of, and which columns they take. Pure."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue, Violation

NUMBERS = (ColumnType.BOOL, ColumnType.INT64, ColumnType.DOUBLE)
MOST_CATEGORIES = 1000
LONGEST_PERIOD = 10_000
MOST_BUCKETS = 1024
CATEGORIES = 64
BUCKETS = 64
SMOOTHING = 10.0
BINS = 10
MOST_BINS = 1000
LARGEST_EXPONENT = 64
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
    BIN_WIDTH = "bin_width"
    BIN_QUANTILE = "bin_quantile"
    BIN_EDGES = "bin_edges"
    LOG = "log"
    POWER = "power"
    DATE_PART = "date_part"
    DATE_CYCLIC = "date_cyclic"
    GEO_DISTANCE = "geo_distance"
    PRODUCT = "product"
    RATIO = "ratio"
    DIFFERENCE = "difference"
    CROSS = "cross"
    GROUP = "group"
    TEXT_HASH = "text_hash"
    TEXT_TFIDF = "text_tfidf"


class DatePart(StrEnum):
    """A part of a time, in UTC."""

    UNSPECIFIED = ""
    HOUR = "hour"
    WEEKDAY = "weekday"
    MONTH = "month"
    DAY_OF_YEAR = "day_of_year"


class Aggregate(StrEnum):
    """What of the numbers of a group."""

    UNSPECIFIED = ""
    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MEDIAN = "median"
    MIN = "min"
    MAX = "max"
    DEVIATION = "deviation"


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
    other: str = ""
    longitude: str = ""
    to_latitude: str = ""
    to_longitude: str = ""
    bins: int = BINS
    edges: tuple[float, ...] = ()
    cycle: float = 0.0
    exponent: float = 0.0
    part: DatePart = DatePart.UNSPECIFIED
    shift: float = 0.0
    group: str = ""
    aggregate: Aggregate = Aggregate.UNSPECIFIED

    @property
    def others(self) -> dict[str, str]:
        """The names of its other columns, by the fields that name them."""
        return {field: getattr(self, field) for field in OTHERS.get(self.transform, {})}

    @property
    def columns(self) -> dict[str, str]:
        """The names of all columns that it is fitted on, by the fields that name them."""
        return {"column": self.column, **self.others}

    @property
    def served(self) -> dict[str, str]:
        """The names of the columns that its part of the graph takes: a number that was aggregated is in the table."""
        return self.others if self.transform is Transform.GROUP else self.columns


TIMES = (ColumnType.TIMESTAMP, ColumnType.DATE)
_CATEGORIES = (*NUMBERS, ColumnType.STRING)
# Types that the first column may have where they are not those of numbers.
TAKES: Mapping[Transform, tuple[ColumnType, ...]] = {
    Transform.ONE_HOT: _CATEGORIES,
    Transform.COUNT: _CATEGORIES,
    Transform.ORDINAL: _CATEGORIES,
    Transform.TARGET: _CATEGORIES,
    Transform.HASH: _CATEGORIES,
    Transform.CROSS: _CATEGORIES,
    Transform.TEXT_HASH: (ColumnType.STRING,),
    Transform.TEXT_TFIDF: (ColumnType.STRING,),
    Transform.DATE_PART: TIMES,
    Transform.DATE_CYCLIC: TIMES,
}
# Fields that name other columns, and the types that these may have.
OTHERS: Mapping[Transform, Mapping[str, tuple[ColumnType, ...]]] = {
    Transform.STANDARDIZE_TREND: {"order": (*NUMBERS, *TIMES)},
    Transform.GEO_DISTANCE: dict.fromkeys(("longitude", "to_latitude", "to_longitude"), NUMBERS),
    Transform.PRODUCT: {"other": NUMBERS},
    Transform.RATIO: {"other": NUMBERS},
    Transform.DIFFERENCE: {"other": NUMBERS},
    Transform.CROSS: {"other": _CATEGORIES},
    Transform.GROUP: {"group": _CATEGORIES},
}
_NAMING = sorted({field for fields in OTHERS.values() for field in fields})
# Fields that are for some transforms only, and are nothing where they are not said.
_FOR: Mapping[str, tuple[Transform, ...]] = {
    "aggregate": (Transform.GROUP,),
    "cycle": (Transform.CYCLIC,),
    "edges": (Transform.BIN_EDGES,),
    "exponent": (Transform.POWER,),
    "part": (Transform.DATE_PART, Transform.DATE_CYCLIC),
    "shift": (Transform.LOG,),
    **{field: tuple(kind for kind, fields in OTHERS.items() if field in fields) for field in _NAMING},
}


def check_steps(steps: Sequence[Step], label: str, key: str) -> None:
    """Raises invalid_value with every step that makes no sense whatever the columns hold."""
    found = [violation for index, step in enumerate(steps) for violation in _broken(step, f"/steps/{index}")]
    seen = set[tuple[object, ...]]()
    for index, step in enumerate(steps):
        found += _private(step, f"/steps/{index}", label, key)
        same = (step.transform, step.part, step.aggregate, step.cycle, step.exponent, *step.columns.values())
        if same in seen:
            found.append(Violation(f"/steps/{index}", f"{step.column} has this transform already"))
        seen.add(same)
    refuse(found)


def _private(step: Step, at: str, label: str, key: str) -> Iterator[Violation]:
    """Label and key are no features; the key may say in which order rows came."""
    for field, name in step.columns.items():
        if name == label:
            yield Violation(f"{at}/{field}", f"{name} is the label, not a feature")
        elif name == key and field != "order":
            yield Violation(f"{at}/{field}", f"{name} is the key, not a feature")


def _broken(step: Step, at: str) -> Iterator[Violation]:
    broken: dict[str, str] = {}
    for field, holds, rule in _rules(step):
        if not holds:
            broken.setdefault(field, rule)
    yield from (Violation(f"{at}/{field}", rule) for field, rule in broken.items())


def _rules(step: Step) -> Iterator[tuple[str, bool, str]]:
    """Fields, whether they keep their rule, and the rule."""
    kind = step.transform
    # Also where they are not for the transform: steps are kept as JSON, which has no word for other numbers.
    for field in ("constant", "shift", "cycle", "exponent"):
        yield field, math.isfinite(getattr(step, field)), "must be finite"
    yield "edges", all(map(math.isfinite, step.edges)), "must be finite"
    for field, least, most in (
        ("max_categories", 1, MOST_CATEGORIES),
        ("buckets", 2, MOST_BUCKETS),
        ("bins", 2, MOST_BINS),
    ):
        yield field, least <= getattr(step, field) <= most, f"must lie between {least} and {most}"
    for field, name in step.others.items():
        yield field, bool(name), f"must name a column: {kind} needs it"
    for field, transforms in _FOR.items():
        yield field, kind in transforms or not getattr(step, field), f"is not for {kind}"
    yield "smoothing", 0 <= step.smoothing < math.inf, "must be finite and not negative"
    if kind is Transform.CYCLIC:
        yield "cycle", step.cycle >= 0, "must not be negative"
        whole = 2 <= step.period <= LONGEST_PERIOD or (not step.period and step.cycle > 0)
        yield "period", whole, f"must lie between 2 and {LONGEST_PERIOD}, or be left out for a cycle"
        yield "cycle", not (step.period and step.cycle), "must be left out where there is a period"
    if kind is Transform.POWER:
        able = step.exponent != 0 and abs(step.exponent) <= LARGEST_EXPONENT
        yield "exponent", able, f"must lie between -{LARGEST_EXPONENT} and {LARGEST_EXPONENT}, and not be 0"
    if kind is Transform.BIN_EDGES:
        ascending = all(low < high for low, high in pairwise(step.edges))
        yield "edges", 0 < len(step.edges) <= MOST_BINS and ascending, f"must be 1 to {MOST_BINS} numbers that ascend"
    if kind in (Transform.DATE_PART, Transform.DATE_CYCLIC):
        yield "part", bool(step.part), "must be hour, weekday, month or day_of_year"
    if kind is Transform.GROUP:
        yield "aggregate", bool(step.aggregate), "must be count, sum, mean, median, min, max or deviation"
        yield "imputation", step.imputation is Imputation.NONE, "is not for group: a missing number is not aggregated"


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
        for field, name in step.columns.items():
            at = f"/steps/{index}" if field == "column" and name in known else f"/steps/{index}/{field}"
            column = known.get(name)
            if column is None:
                found.append(Violation(at, f"the data set has no column {name}"))
            elif rule := _misfit(step, field, column):
                found.append(Violation(at, rule))
            elif field in step.served:
                used.setdefault(column.name, column)
    refuse(found)
    return tuple(used.values())


def _misfit(step: Step, field: str, column: Column) -> str:
    takes = TAKES.get(step.transform, NUMBERS) if field == "column" else OTHERS[step.transform][field]
    text, filled = column.type is ColumnType.STRING, step.imputation is not Imputation.NONE
    if column.name in RESERVED:
        return f"the name {column.name} is reserved for the outputs of models"
    if column.type not in takes:
        what = "holds text" if text else f"is of the type {column.type}"
        return (
            f"{column.name} {what}, which {step.transform} does not take{'' if field == 'column' else f' as {field}'}"
        )
    if text and filled:
        return f"{column.name} holds text: a missing one is the empty text and is not filled"
    if column.type in TIMES and field == "column" and filled:
        return f"{column.name} holds times: a missing one is not filled"
    return ""


def refuse(found: Sequence[Violation]) -> None:
    """Raises invalid_value for the first of them, with all; nothing for none."""
    if found:
        raise InvalidValue(f"{found[0].pointer[1:].replace('/', '.')}: {found[0].rule}", found)
