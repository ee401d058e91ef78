"""Columns as Arrow has them. Imports pyarrow when called: only children and readers of rows need it."""

from collections.abc import Iterable, Sequence
from typing import Any

from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition


def arrow_type(kind: ColumnType) -> Any:
    """The pyarrow.DataType that a column type is stored as."""
    import pyarrow as pa

    return {
        ColumnType.BOOL: pa.bool_(),
        ColumnType.INT64: pa.int64(),
        ColumnType.DOUBLE: pa.float64(),
        ColumnType.STRING: pa.string(),
        ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
        ColumnType.DATE: pa.date32(),
    }[kind]


def arrow_schema(columns: Iterable[Column]) -> Any:
    """The pyarrow.Schema of a table."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, arrow_type(column.type), column.nullable) for column in columns])


def column_type(kind: Any) -> ColumnType | None:
    """The column type that holds every value of an Arrow type, or None when there is none: lists, structs, bytes."""
    import pyarrow.types as types

    fits = (
        (ColumnType.BOOL, types.is_boolean),
        (ColumnType.INT64, types.is_integer),
        (ColumnType.DOUBLE, lambda kind: types.is_floating(kind) or types.is_decimal(kind)),
        (
            ColumnType.STRING,
            lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
        ),
        (ColumnType.TIMESTAMP, types.is_timestamp),
        (ColumnType.DATE, types.is_date),
        (ColumnType.STRING, types.is_null),  # a column of nothing but NULL
    )
    return next((column for column, is_it in fits if is_it(kind)), None)


def columns_of(schema: Any) -> tuple[Column, ...]:
    """The columns of a pyarrow.Schema, all nullable. Raises failed_precondition for a type that no column can have."""
    found = []
    for field in schema:
        kind = column_type(field.type)
        if kind is None:
            raise FailedPrecondition(f"the column {field.name} has the type {field.type}, which no column can have")
        found.append(Column(field.name, kind))
    return tuple(found)


def fit(table: Any, columns: Sequence[Column]) -> Any:
    """A table with exactly these columns and their Arrow types; a column that it lacks is NULL.

    Raises failed_precondition when a value does not fit its column.
    """
    import pyarrow as pa

    schema, arrays = arrow_schema(columns), []
    for field in schema:
        if field.name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            arrays.append(table.column(field.name).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            text = str(error).splitlines()[0][:200]
            raise FailedPrecondition(f"the column {field.name} does not fit {field.type}: {text}") from None
    return pa.Table.from_arrays(arrays, schema=schema)
