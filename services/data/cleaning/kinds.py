"""Kinds of steps: what each says, which columns it takes, and which it leaves. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from services.data.reading.values import Misfit, parse
from services.data.schema import Column, ColumnType
from services.kit.errors import Violation

NUMBERS = (ColumnType.INT64, ColumnType.DOUBLE)
ORDERED = (*NUMBERS, ColumnType.TIMESTAMP, ColumnType.DATE)
TEXTS = (ColumnType.STRING,)
MISSING_TEXTS = ("", "-", "n/a", "na", "nan", "none", "null", "?")
TRUE_TEXTS, FALSE_TEXTS = ("true", "yes", "y", "t", "1"), ("false", "no", "n", "f", "0")
_ROWS = "row_outlier"
# Columns by name, in their order.
Columns = Mapping[str, Column]


class Method(StrEnum):
    """How a missing value is filled, and how outliers are told."""

    QUARANTINE = "quarantine"
    CONSTANT = "constant"
    MEAN = "mean"
    MEDIAN = "median"
    MODE = "mode"
    REGRESSION = "regression"
    NEAREST = "nearest"
    Z_SCORE = "z_score"
    IQR = "iqr"
    FOREST = "forest"


class Action(StrEnum):
    """What is done with an outlier."""

    MARK = "mark"
    CLIP = "clip"
    QUARANTINE = "quarantine"


@dataclass(frozen=True)
class Kind:
    """What a kind of step says."""

    def read(self, columns: Columns) -> tuple[str, ...]:
        """The columns that it is about."""
        return tuple(columns)

    def named(self) -> Iterator[tuple[str, str, tuple[ColumnType, ...]]]:
        """The columns that it names, each with its place and the types that it may have."""
        return iter(())

    def wrong(self) -> Iterator[Violation]:
        """Rules that it breaks by itself, with places below it."""
        return iter(())

    def unfit(self, columns: Columns) -> Iterator[Violation]:
        """Rules that it breaks for a table with these columns; those that it names are there and have their types."""
        return iter(())

    def after(self, columns: Columns) -> dict[str, Column]:
        """The columns of what it makes."""
        return dict(columns)


@dataclass(frozen=True)
class OfColumns(Kind):
    """A kind that does the same to some columns. `types` are those that they may have."""

    types: ClassVar[tuple[ColumnType, ...]] = tuple(ColumnType)
    columns: tuple[str, ...] = ()

    def read(self, columns: Columns) -> tuple[str, ...]:
        """All that it can take where it names none."""
        return self.columns or tuple(name for name, column in columns.items() if column.type in self.types)

    def named(self) -> Iterator[tuple[str, str, tuple[ColumnType, ...]]]:
        for index, name in enumerate(self.columns):
            yield f"columns/{index}", name, self.types

    def wrong(self) -> Iterator[Violation]:
        for index, name in enumerate(self.columns):
            if name in self.columns[:index]:
                yield Violation(f"columns/{index}", "is there twice")


@dataclass(frozen=True)
class FindMissing(OfColumns):
    """Texts that mean that a value is missing."""

    types = TEXTS
    texts: tuple[str, ...] = ()

    def after(self, columns: Columns) -> dict[str, Column]:
        return nullable(columns, self.read(columns))


@dataclass(frozen=True)
class FillMissing(OfColumns):
    """What stands for a missing value."""

    method: str = ""
    value: str = ""
    predictors: tuple[str, ...] = ()
    neighbors: int = 0

    @property
    def modelled(self) -> bool:
        """Whether a missing value is predicted from other columns."""
        return self.method in (Method.REGRESSION, Method.NEAREST)

    def named(self) -> Iterator[tuple[str, str, tuple[ColumnType, ...]]]:
        for index, name in enumerate(self.columns):
            yield f"columns/{index}", name, NUMBERS if self.modelled else self.types
        for index, name in enumerate(self.predictors):
            yield f"predictors/{index}", name, NUMBERS

    def wrong(self) -> Iterator[Violation]:
        yield from super().wrong()
        if self.value and self.method != Method.CONSTANT:
            yield Violation("value", "must not be set: it is of another method")
        if self.modelled != bool(self.predictors):
            yield Violation(
                "predictors", "must be set" if self.modelled else "must not be set: it is of another method"
            )
        if not 0 <= self.neighbors <= 100 or (self.neighbors and self.method != Method.NEAREST):
            yield Violation("neighbors", f"must lie between 0 and 100, and is for {Method.NEAREST} only")
        for index, name in enumerate(self.predictors):
            if name in (*self.columns, *self.predictors[:index]):
                yield Violation(f"predictors/{index}", "is there twice")

    def unfit(self, columns: Columns) -> Iterator[Violation]:
        if self.method in (Method.MEAN, Method.MEDIAN):
            for index, name in enumerate(self.columns):
                if columns[name].type not in ORDERED:
                    yield Violation(f"columns/{index}", f"must hold numbers, dates or timestamps for a {self.method}")
        if self.method == Method.CONSTANT:
            for name in self.columns:
                if not keeps_constant(self.value, columns[name].type):
                    yield Violation("value", f"must be a {columns[name].type}, as {name} holds")


@dataclass(frozen=True)
class Outliers(OfColumns):
    """Values that are far from the others."""

    types = NUMBERS
    method: str = ""
    action: str = ""
    threshold: float = 0.0
    fraction: float = 0.0

    @property
    def marks(self) -> dict[str, tuple[str, ...]]:
        """The columns that say which values are outliers, each with those that it is made of."""
        if self.action != Action.MARK:
            return {}
        return {_ROWS: self.columns} if self.method == Method.FOREST else {mark_of(n): (n,) for n in self.columns}

    def wrong(self) -> Iterator[Violation]:
        yield from super().wrong()
        forest = self.method == Method.FOREST
        if not 0 <= self.threshold <= 1e6 or (self.threshold and forest):
            yield Violation("threshold", f"must lie between 0 and 1,000,000, and is not for {Method.FOREST}")
        if not 0 <= self.fraction < 0.5 or (self.fraction and not forest):
            yield Violation("fraction", f"must be from 0 and below 0.5, and is for {Method.FOREST} only")
        if forest and self.action == Action.CLIP:
            yield Violation("action", f"must not be {Action.CLIP}: a row has no nearest one")

    def unfit(self, columns: Columns) -> Iterator[Violation]:
        there = {other.lower() for other in columns}
        for index, mark in enumerate(self.marks):
            if mark.lower() in there:
                yield Violation(f"columns/{index}", f"cannot be marked: there is a column {mark}")
            elif len(mark) > 128:
                yield Violation(f"columns/{index}", "cannot be marked: its mark's name has more than 128 characters")

    def after(self, columns: Columns) -> dict[str, Column]:
        return {**columns, **{mark: Column(mark, ColumnType.BOOL, False) for mark in self.marks}}


@dataclass(frozen=True)
class Duplicates(Kind):
    """Which rows are equal, and which of them is kept."""

    key: tuple[str, ...] = ()
    keep: str = ""
    order: str = ""

    def named(self) -> Iterator[tuple[str, str, tuple[ColumnType, ...]]]:
        for index, name in enumerate(self.key):
            yield f"key/{index}", name, tuple(ColumnType)
        if self.order:
            yield "order", self.order, ORDERED

    def read(self, columns: Columns) -> tuple[str, ...]:
        return self.key or tuple(columns)


@dataclass(frozen=True)
class Convert(OfColumns):
    """How texts are read as another type."""

    types = TEXTS
    type: ColumnType = ColumnType.STRING
    decimal_sign: str = ""
    thousands_sign: str = ""
    formats: tuple[str, ...] = ()
    zone: str = ""
    true_texts: tuple[str, ...] = ()
    false_texts: tuple[str, ...] = ()

    def wrong(self) -> Iterator[Violation]:
        yield from super().wrong()
        if self.type is ColumnType.STRING:
            yield Violation("type", "must not be COLUMN_TYPE_STRING")
        yield from self._misplaced()
        signs = (self.decimal_sign or ".", self.thousands_sign)
        for name, sign in zip(("decimal_sign", "thousands_sign"), signs, strict=True):
            if sign and (sign.isalnum() or sign in "+-"):
                yield Violation(name, "must not be a letter, a digit, + or -")
        if signs[0] == signs[1]:
            yield Violation("thousands_sign", "must not be the decimal sign")
        for index, text in enumerate(self.formats):
            if unknown := unknown_directive(text):
                yield Violation(f"formats/{index}", unknown)
        if both := {text.casefold() for text in self.true_texts} & {text.casefold() for text in self.false_texts}:
            yield Violation("false_texts", f"must not have {min(both)[:40]}, which is true")

    def _misplaced(self) -> Iterator[Violation]:
        """What is said of another type."""
        of = {
            "decimal_sign": (ColumnType.DOUBLE,),
            "thousands_sign": NUMBERS,
            "formats": (ColumnType.TIMESTAMP, ColumnType.DATE),
            "zone": (ColumnType.TIMESTAMP,),
            "true_texts": (ColumnType.BOOL,),
            "false_texts": (ColumnType.BOOL,),
        }
        for name, types in of.items():
            if getattr(self, name) and self.type not in types:
                yield Violation(name, f"must not be set for {self.type}")

    def after(self, columns: Columns) -> dict[str, Column]:
        return retyped(columns, self.columns, self.type)


def keeps_constant(text: str, kind: ColumnType) -> bool:
    """Whether a text is a value of a type."""
    try:
        parse(text, kind)
    except Misfit:
        return False
    return True


def mark_of(name: str) -> str:
    """The column that says whether a value is an outlier."""
    return f"{name}_outlier"


def nullable(columns: Columns, names: tuple[str, ...]) -> dict[str, Column]:
    """The columns, where these may be NULL."""
    return {**columns, **{name: replace(columns[name], nullable=True) for name in names if not columns[name].nullable}}


def retyped(columns: Columns, names: tuple[str, ...], type_: ColumnType) -> dict[str, Column]:
    """The columns, where these have another type."""
    return {**columns, **{name: replace(columns[name], type=type_) for name in names}}


_DIRECTIVES = "YymdHIMSfpzbBj%"


def unknown_directive(text: str) -> str:
    """Why a text is no format of times; empty if it is one."""
    if not text:
        return "must not be empty"
    pieces = text.split("%")
    index = 1
    while index < len(pieces):
        letter = pieces[index][:1]
        if letter == "" and index + 1 < len(pieces):  # %%
            index += 2
            continue
        if letter == "" or letter not in _DIRECTIVES:
            return f"must not have %{letter}: only %{' %'.join(_DIRECTIVES[:-1])} are known"
        index += 1
    return "" if "%" in text else "must have a part such as %Y"
