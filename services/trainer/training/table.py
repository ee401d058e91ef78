"""Rows of Parquet files as a feature graph takes them: NaN for a missing number, an empty text for a missing text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from services.kit.errors import FailedPrecondition
from services.trainer.jobs.domain import RowRange

Array = np.ndarray[Any, np.dtype[Any]]


def read(files: Sequence[str], columns: Iterable[str], ranges: Sequence[RowRange]) -> list[pa.Table]:
    """Some columns of files, in stored order: one table for each range. A column that a file lacks is NULL there."""
    wanted = list(dict.fromkeys(columns))
    parts: list[list[pa.Table]] = [[] for _ in ranges]
    for path in files:
        with parquet.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            needed = dict.fromkeys([*wanted, *(rows.column for rows in ranges)])
            table = file.read([name for name in needed if name in there])
        for part, rows in zip(parts, ranges, strict=True):
            part.append(table.filter(_inside(table, rows)).select([name for name in wanted if name in there]))
    tables = [pa.concat_tables(part, promote_options="default") for part in parts]
    for table in tables:
        if lacking := [name for name in wanted if name not in table.column_names]:
            raise FailedPrecondition(f"the data set has no column {lacking[0]}")
    return [table.select(wanted).combine_chunks() for table in tables]


def _inside(table: pa.Table, rows: RowRange) -> Any:
    if rows.column not in table.column_names:
        return pa.array(np.zeros(table.num_rows, bool))
    values = numbers(table.column(rows.column))
    low, high = (-np.inf if rows.start is None else rows.start), (np.inf if rows.end is None else rows.end)
    return pa.array((values >= low) & (values <= high))


def numbers(column: Any) -> Array:
    """FP64 [rows], NaN for NULL; a time or a date in seconds since 1970."""
    if pa.types.is_temporal(column.type):
        times = pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
        microseconds = pc.cast(times, pa.int64())
        seconds: Array = pc.fill_null(pc.cast(microseconds, pa.float64(), safe=False), float("nan")).to_numpy() / 1e6
        return seconds
    whole = pc.cast(column, pa.int8()) if pa.types.is_boolean(column.type) else column
    found: Array = pc.fill_null(pc.cast(whole, pa.float64(), safe=False), float("nan")).to_numpy()
    return found


def texts(column: Any) -> Array:
    """Objects that are str [rows], empty for NULL."""
    found: Array = pc.fill_null(column, "").to_numpy(zero_copy_only=False)
    return found


def feeds(table: pa.Table, inputs: Mapping[str, str]) -> dict[str, Array]:
    """The tensors [rows, 1] of a graph's inputs, by name; `inputs` are their datatypes, FP64 or BYTES."""
    return {
        name: (texts if datatype == "BYTES" else numbers)(table.column(name))[:, None]
        for name, datatype in inputs.items()
    }


def labels(table: pa.Table, column: str) -> Array:
    """The labels [rows], 0.0 or 1.0. Raises failed_precondition for any other value or a missing one."""
    found = numbers(table.column(column))
    if not np.isin(found, (0.0, 1.0)).all():
        raise FailedPrecondition(f"the label {column} must be 0 or 1 in every row")
    return found


def binary(table: pa.Table, column: str, what: str) -> Array:
    """The labels of rows to train or evaluate on. Raises failed_precondition unless both values occur."""
    found = labels(table, column)
    if not len(found):
        raise FailedPrecondition(f"there are no rows to {what}")
    if found.min() == found.max():
        raise FailedPrecondition(f"all rows to {what} have the same {column}")
    return found
