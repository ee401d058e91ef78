"""Kinds of steps about what single values mean: units, zones, encodings, spellings, noise. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.data.cleaning.kinds import NUMBERS, ORDERED, TEXTS, Columns, OfColumns, retyped
from services.data.cleaning.units import dimension_of
from services.data.schema import Column, ColumnType
from services.kit.errors import Violation

_WIDEST = 1_000  # rows of a window


@dataclass(frozen=True)
class Units(OfColumns):
    """Measures, and the unit that they are to have."""

    types = (*TEXTS, *NUMBERS)
    unit: str = ""
    assumed_unit: str = ""
    unit_column: str = ""
    decimal_sign: str = ""
    thousands_sign: str = ""

    def named(self) -> Iterator[tuple[str, str, tuple[ColumnType, ...]]]:
        for index, name in enumerate(self.columns):
            yield f"columns/{index}", name, NUMBERS if self.unit_column else self.types
        if self.unit_column:
            yield "unit_column", self.unit_column, TEXTS

    def wrong(self) -> Iterator[Violation]:
        yield from super().wrong()
        dimension = dimension_of(self.unit)
        if not dimension:
            yield Violation("unit", "must be a unit that is known")
        elif self.assumed_unit and dimension_of(self.assumed_unit) != dimension:
            yield Violation("assumed_unit", f"must be a unit of {dimension}")
        signs = (self.decimal_sign or ".", self.thousands_sign)
        if signs[0] == signs[1] or any(sign.isalnum() or sign in tuple("+-%") for sign in signs):
            yield Violation("decimal_sign", "must differ from the thousands sign, and be no letter, digit, +, - or %")

    def unfit(self, columns: Columns) -> Iterator[Violation]:
        for index, name in enumerate(self.columns):
            if columns[name].type in NUMBERS and not (self.unit_column or self.assumed_unit):
                yield Violation(f"columns/{index}", "holds numbers: assumed_unit or unit_column must be set")

    def after(self, columns: Columns) -> dict[str, Column]:
        return retyped(columns, self.columns, ColumnType.DOUBLE)


@dataclass(frozen=True)
class TimeZone(OfColumns):
    """Times that were written in a zone and taken for UTC."""

    types = (ColumnType.TIMESTAMP,)
    zone: str = ""


@dataclass(frozen=True)
class Encoding(OfColumns):
    """Texts that may have been read in the wrong encoding."""

    types = TEXTS


@dataclass(frozen=True)
class Spellings(OfColumns):
    """Categories, and what stands for which spelling."""

    types = TEXTS
    mapping: tuple[tuple[str, str], ...] = ()
    only_mapping: bool = False

    def wrong(self) -> Iterator[Violation]:
        yield from super().wrong()
        said, before = {one for one, _ in self.mapping}, set[str]()
        for index, (one, to) in enumerate(self.mapping):
            if one in before:
                yield Violation(f"mapping/{index}/from", "is there twice")
            before.add(one)
            if to in said and to != one:
                yield Violation(f"mapping/{index}/to", "must not be mapped itself")
        if self.only_mapping and not self.mapping:
            yield Violation("mapping", "must be set: nothing is learned")


@dataclass(frozen=True)
class Smooth(OfColumns):
    """Numbers in an order, and the rows around each."""

    types = NUMBERS
    window: int = 0
    order: str = ""
    key: tuple[str, ...] = ()
    centered: bool = False

    def named(self) -> Iterator[tuple[str, str, tuple[ColumnType, ...]]]:
        yield from super().named()
        yield "order", self.order, ORDERED
        for index, name in enumerate(self.key):
            yield f"key/{index}", name, tuple(ColumnType)

    def wrong(self) -> Iterator[Violation]:
        yield from super().wrong()
        if not 2 <= self.window <= _WIDEST:
            yield Violation("window", f"must lie between 2 and {_WIDEST}")
