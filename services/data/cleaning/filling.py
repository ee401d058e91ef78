"""Finds and fills missing values. For children."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from services.data.cleaning.kinds import MISSING_TEXTS, Columns, FillMissing, FindMissing, Method
from services.data.cleaning.operators import (
    Applied,
    Array,
    Operator,
    Rows,
    column_of,
    finite,
    in_words,
    mask,
    missing,
    of_state,
    replaced,
    to_state,
    whole_numbers,
)
from services.data.reading.values import parse
from services.data.schema import Column, ColumnType


class Finding(Operator[FindMissing]):
    """Texts that mean that a value is missing become NULL."""

    def apply(self, table: Any) -> Applied:
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pa.array([folded(text) for text in self.kind.texts or MISSING_TEXTS], pa.string())
        for name in self.names:
            values = table.column(name)
            plain = pc.utf8_lower(pc.utf8_trim_whitespace(values))
            empty = pc.is_in(plain, known)
            table = replaced(table, name, pc.if_else(empty, pa.scalar(None, values.type), values))
        return Applied(table)


def folded(text: str) -> str:
    """As Arrow folds it: by characters, not by words."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text.strip())


class Filling(Operator[FillMissing]):
    """Missing values are filled by one value for each column, or their rows quarantined."""

    def __init__(self, kind: FillMissing, columns: Columns) -> None:
        super().__init__(kind, columns)
        self.learns = kind.method not in (Method.QUARANTINE, Method.CONSTANT)
        if kind.method == Method.CONSTANT:
            self.state = {name: _constant(kind.value, columns[name]) for name in self.names}

    def learn(self, rows: Rows) -> None:
        for name in self.names:
            column = self.before[name]
            found = _LEARN[self.kind.method](column_of(rows, column), column.type)
            if found is None:
                self.notes.append(f"{name} has no value to learn from: what is missing stays so")
            self.state[name] = found

    def apply(self, table: Any) -> Applied:
        import pyarrow.compute as pc

        done = Applied(table)
        for name in self.names:
            values = table.column(name)
            empty = missing(values)
            if self.kind.method == Method.QUARANTINE:
                done.broken.append((f"{name} is missing", mask(empty)))
            elif self.state[name] is not None:
                value = of_state(self.state[name], self.before[name].type)
                done.table = replaced(done.table, name, pc.if_else(empty, value, values))
        return done

    def shown(self) -> list[dict[str, str]]:
        found = {name: value for name, value in self.state.items() if value is not None and self.learns}
        return [
            {"column": name, "name": str(self.kind.method), "value": in_words(value, self.before[name].type)}
            for name, value in found.items()
        ]


def _constant(text: str, column: Column) -> Any:
    """A text as a value of the column, which it is."""
    import pyarrow as pa

    from services.data.arrow import arrow_type

    return to_state(pa.array([parse(text, column.type)], arrow_type(column.type))[0], column.type)


def mean(values: Any, kind: ColumnType) -> Any:
    """Of what is there and finite; of whole numbers rounded. None of nothing."""
    import numpy as np

    if kind is ColumnType.DOUBLE:
        numbers = finite(values)
        with np.errstate(over="ignore"):
            found = float(np.mean(numbers)) if len(numbers) else None
        return found if found is None or np.isfinite(found) else None
    whole = whole_numbers(values, kind)
    if not len(whole):
        return None
    # In two halves, whose sums do not overflow.
    total = (int((whole >> 32).sum()) << 32) + int((whole & 0xFFFFFFFF).sum())
    return round(Fraction(total, len(whole)))


def median(values: Any, kind: ColumnType) -> Any:
    """Of what is there and finite; of whole numbers rounded. None of nothing."""
    import numpy as np

    if kind is ColumnType.DOUBLE:
        numbers = finite(values)
        with np.errstate(over="ignore"):
            middle = float(np.median(numbers)) if len(numbers) else None
        return middle if middle is None or np.isfinite(middle) else None
    whole: Array = whole_numbers(values, kind)
    if not len(whole):
        return None
    low, high = (len(whole) - 1) // 2, len(whole) // 2
    parted: Array = np.partition(whole, [low, high])
    return round(Fraction(int(parted[low]) + int(parted[high]), 2))


def mode(values: Any, kind: ColumnType) -> Any:
    """The most frequent value that is finite, of several the smallest; None of nothing."""
    import pyarrow.compute as pc

    there = values.filter(pc.is_finite(values) if kind is ColumnType.DOUBLE else pc.invert(missing(values)))
    if not len(there):
        return None
    counts = pc.value_counts(there)
    most = pc.max(counts.field("counts"))
    often = counts.field("values").filter(pc.equal(counts.field("counts"), most))
    return to_state(often.take(pc.sort_indices(often)[:1])[0], kind)


_LEARN: dict[str, Callable[[Any, ColumnType], Any]] = {Method.MEAN: mean, Method.MEDIAN: median, Method.MODE: mode}
