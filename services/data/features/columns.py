"""Columns of Parquet files as steps take them. Pure but for reading."""

from collections.abc import Callable, Sequence
from typing import Any

from services.data.features.domain import RowRange


def read(path: str, column: str) -> Any:
    """One column of one file; the number of rows where the file is older than the column."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        return file.read([column]).column(0) if column in file.schema_arrow.names else file.metadata.num_rows


def numbers(path: str, column: str) -> Any:
    """FP64 with NaN for NULL; a time in seconds since 1970, as graphs take it."""
    import numpy as np

    found = read(path, column)
    return np.full(found, np.nan) if isinstance(found, int) else as_numbers(found)


def as_numbers(found: Any) -> Any:
    """The same of a column of Arrow."""
    import pyarrow as pa

    if pa.types.is_temporal(found.type):
        microseconds = found.cast(pa.timestamp("us", getattr(found.type, "tz", None)), safe=False).cast(pa.int64())
        return microseconds.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy() / 1e6
    whole = found.cast(pa.int8()) if pa.types.is_boolean(found.type) else found
    return whole.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()


def texts(path: str, column: str) -> Any:
    """Objects that are str, "" for NULL."""
    import numpy as np

    found = read(path, column)
    return np.full(found, "", object) if isinstance(found, int) else as_texts(found)


def as_texts(found: Any) -> Any:
    """The same of a column of Arrow."""
    return found.fill_null("").to_numpy(zero_copy_only=False)


def mask(path: str, train: RowRange | None) -> Any:
    """Which rows of a file lie in a range; all for none."""
    import numpy as np
    import pyarrow.parquet as parquet

    if train is None:
        return np.ones(parquet.read_metadata(path).num_rows, bool)
    values = numbers(path, train.column)
    low = values >= (train.start if train.start is not None else -np.inf)
    return low & (values <= (train.end if train.end is not None else np.inf))


def joined(read: Callable[[str, str], Any], files: Sequence[str], kept: Sequence[Any], column: str) -> Any:
    """A column of some files, of the rows that are kept of each; a data set without rows has no files."""
    import numpy as np

    found = [read(path, column)[rows] for path, rows in zip(files, kept, strict=True)]
    return np.concatenate(found) if found else np.zeros(0)
