"""Measures in one unit, and times of one zone. For children."""

import re
from functools import cache
from typing import Any

from services.data.cleaning.converting import alike, numbers, read_texts
from services.data.cleaning.kinds_values import TimeZone, Units
from services.data.cleaning.operators import Applied, Operator, mask, replaced
from services.data.cleaning.units import dimension_of, factors, known_as
from services.data.reading.values import Misfit
from services.data.schema import ColumnType

_MOST_PARTS = 4


class Measuring(Operator[Units]):
    """Texts, or numbers whose unit is known or in another column."""

    def apply(self, table: Any) -> Applied:
        import pyarrow as pa
        import pyarrow.compute as pc

        done = Applied(table)
        for name in self.names:
            values = table.column(name)
            if self.before[name].type is ColumnType.STRING:
                found = read_texts(values, lambda text: measure(text, self.kind), pa.float64())
            else:
                found = self._of_numbers(values.cast(pa.float64(), safe=False), table)
            wrong = mask(pc.and_(pc.is_valid(values), pc.is_null(found)))
            done.broken.append((f"{name} is no {dimension_of(self.kind.unit)}", wrong))
            done.table = replaced(done.table, name, found)
        return done

    def _of_numbers(self, values: Any, table: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.kind.unit_column:
            scale, more = factors(self.kind.assumed_unit, self.kind.unit)
            return pc.add(pc.multiply(values, scale), more)
        units = pc.fill_null(table.column(self.kind.unit_column), "")
        scale = read_texts(units, lambda text: self._factors(text)[0], pa.float64(), empty=True)
        more = read_texts(units, lambda text: self._factors(text)[1], pa.float64(), empty=True)
        return pc.add(pc.multiply(values, scale), more)

    def _factors(self, text: str) -> tuple[float, float]:
        unit = known_as(text, dimension_of(self.kind.unit)) if text else self.kind.assumed_unit
        if not unit:
            raise Misfit
        return factors(unit, self.kind.unit)


def measure(text: str, kind: Units) -> float:
    """A measure in the unit that is asked for: `5 ft 3 in` is a sum. Raises Misfit."""
    read, dimension = _reader(kind.decimal_sign, kind.thousands_sign), dimension_of(kind.unit)
    part, at, total, parts, sign, bare = _part(kind.thousands_sign), 0, 0.0, 0, 1.0, False
    while at < len(text):
        found = part.match(text, at)
        if found is None or bare or parts == _MOST_PARTS:
            raise Misfit
        word = found[2] or ""
        bare = not word  # a number without a unit is no part of a sum
        unit = known_as(word, dimension) if word else kind.assumed_unit
        if not unit or (parts and (bare or found[1][0] in "+-")):
            raise Misfit
        number, (scale, more) = float(read(found[1])), factors(unit, kind.unit)
        sign = -1.0 if not parts and found[1].startswith("-") else sign
        if parts and more:  # temperatures have no sums
            raise Misfit
        total += number * scale + more if not parts else sign * number * scale
        at, parts = found.end(), parts + 1
    return total


@cache
def _part(thousands_sign: str) -> re.Pattern[str]:
    """A number, then a unit; both are looked at again."""
    same = alike(thousands_sign)
    feet = "" if "'" in same else "'"
    between = rf"|{same}(?=[0-9]{{3}}(?![0-9]))" if same else ""
    number = rf"[+-]?[0-9](?:[^\sA-Za-z%‰°µμ\"²³{feet}]{between})*|[+-]?\.[0-9]+"
    return re.compile(rf"\s*({number})\s*([^\s0-9]+3?)?\s*")


@cache
def _reader(decimal_sign: str, thousands_sign: str) -> Any:
    return numbers(ColumnType.DOUBLE, decimal_sign, thousands_sign)


class Zoning(Operator[TimeZone]):
    """Local times that were taken for UTC."""

    def apply(self, table: Any) -> Applied:
        import pyarrow as pa
        import pyarrow.compute as pc

        done = Applied(table)
        for name in self.names:
            values = table.column(name)
            local = values.cast(pa.timestamp("us"))
            found = pc.assume_timezone(local, self.kind.zone, ambiguous="earliest", nonexistent="earliest")
            never = pc.not_equal(pc.local_timestamp(found), local)
            done.broken.append((f"{name} was never there in {self.kind.zone}", mask(never)))
            done.table = replaced(done.table, name, found.cast(values.type))
        return done
