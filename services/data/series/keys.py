"""The key of rows as one text, the same for a table and for a single row. Imports pyarrow when it is used."""

from collections.abc import Sequence
from typing import Any

from services.data.schema import Column, ColumnType

_BETWEEN = "\x1f"


def texts(columns: Sequence[Any], rows: int) -> Any:
    """One text for each row: different for different values, also where one is NULL; equal rows are one series."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not columns:
        return pa.array([""] * rows, pa.string())
    parts = [_part(column) for column in columns]
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, _BETWEEN)


def _part(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    text = pc.replace_substring(column.cast(pa.string()), "\\", "\\\\")
    text = pc.binary_join_element_wise("=", pc.replace_substring(text, _BETWEEN, "\\s"), "")
    return pc.fill_null(text, "~")


def text_of(keys: Sequence[Column], values: Sequence[Any]) -> str:
    """The same for one row. Raises what pyarrow raises for a value that is not of its column's type."""
    import pyarrow as pa

    from services.data.arrow import arrow_type

    arrays = [pa.array([value], arrow_type(key.type)) for key, value in zip(keys, values, strict=True)]
    return str(texts(arrays, 1)[0].as_py())


def ticks_of(column: Any) -> Any:
    """A column of times as microseconds since 1970; NULL where there is none, or one outside of the years 1 to 9999."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_date32(column.type):
        found = pc.multiply(column.cast(pa.int32()).cast(pa.int64()), 86_400_000_000)
    else:
        found = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    fits = pc.and_(pc.greater_equal(found, FIRST), pc.less(found, LAST))
    return pc.if_else(fits, found, pa.scalar(None, pa.int64()))


FIRST, LAST = -62_135_596_800_000_000, 253_402_300_800_000_000  # the years 1 to 9999, in microseconds since 1970


def number_or_text(column: Any) -> Any:
    """A column as windows take it: texts, or FP64 with NULL for what is missing, NaN or infinite."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type):
        return column
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    numbers = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def value_type(kind: ColumnType) -> ColumnType:
    """The type of what `number_or_text` gives."""
    return ColumnType.STRING if kind is ColumnType.STRING else ColumnType.DOUBLE
