"""Reads pages of rows out of Parquet files: only the row groups and columns that a page needs."""

from collections.abc import Iterator, Sequence
from typing import Any

from services.data.datasets.statistics import timestamps
from services.data.schema import Column, ColumnType

MOST_BYTES = 3 * 2**20  # of a page as JSON; a message may have 4 MiB
_EXACT = 2**53  # integers beyond do not survive as JSON numbers


def read(files: Sequence[tuple[str, int]], columns: tuple[Column, ...], start: int, count: int) -> list[dict[str, Any]]:
    """Rows `start` to `start + count` of files given as (path, rows), as JSON; at least one, fewer when large."""
    found: list[dict[str, Any]] = []
    size = 0
    for table in _tables(files, columns, start, count):
        for row in to_rows(table, columns):
            size += size_of(row)
            if found and size > MOST_BYTES:
                return found
            found.append(row)
    return found


def size_of(row: dict[str, Any]) -> int:
    """Bytes that a row takes in an answer, at most."""
    return sum(_text(name) + (_text(value) if isinstance(value, str) else 9) + 24 for name, value in row.items())


def _text(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def _tables(files: Sequence[tuple[str, int]], columns: tuple[Column, ...], start: int, count: int) -> Iterator[Any]:
    for path, rows in files:
        if count <= 0:
            return
        if start >= rows:
            start -= rows
            continue
        taken = min(count, rows - start)
        yield from _pieces(path, columns, start, taken)
        start, count = 0, count - taken


def _pieces(path: str, columns: tuple[Column, ...], start: int, count: int) -> Iterator[Any]:
    import pyarrow.parquet as pq

    from services.data.arrow import fit

    with pq.ParquetFile(path, memory_map=True) as file:
        names = [column.name for column in columns if column.name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start >= rows:
                start -= rows
                continue
            taken = min(count, rows - start)
            # Without a column of its own a file still has rows: those are all NULL.
            piece = file.read_row_group(group, columns=names or file.schema_arrow.names[:1], use_threads=False)
            yield fit(piece.slice(start, taken), columns)
            start, count = 0, count - taken
            if not count:
                return


def to_rows(table: Any, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The rows of an Arrow table with these columns as JSON values."""
    names = [column.name for column in columns]
    values = [to_values(table.column(column.name), column.type) for column in columns]
    if not names:
        return [{} for _ in range(table.num_rows)]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def to_values(column: Any, kind: ColumnType) -> list[Any]:
    """An Arrow column as JSON values."""
    import pyarrow as pa

    match kind:
        case ColumnType.TIMESTAMP:
            return list(timestamps(column).to_pylist())
        case ColumnType.DATE:
            return list(column.cast(pa.string()).to_pylist())
        case ColumnType.INT64:
            return [str(v) if v is not None and abs(v) > _EXACT else v for v in column.to_pylist()]
        case ColumnType.DOUBLE:
            return [_number(value) for value in column.to_pylist()]
    return list(column.to_pylist())


def _number(value: float | None) -> float | str | None:
    """As protobuf's JSON writes numbers that JSON has no word for."""
    if value is None or -1.8e308 < value < 1.8e308:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
