"""Divides rows into files of one partition each. For children: imports numpy and pyarrow when it is used."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.data.arrow import fit
from services.data.datasets.domain import WrittenFile
from services.data.datasets.layouts import Placing
from services.data.datasets.parquet import Writer
from services.data.schema import Column, ColumnType

_ROWS = 65_536  # of a batch
PENDING = 64 * 2**20  # bytes of rows that wait to be written


def numbers(placing: Placing, table: Any) -> Any:
    """The partition of each row of a table that has the layout's fields, as numpy has it."""
    import numpy as np

    fields = list(zip(placing.layout.fields, placing.kinds, strict=True))
    columns = [encoded(table.column(name), kind) for name, kind in fields]
    mixed = np.zeros(table.num_rows, np.int64)
    for codes, values in columns:
        # Numbered anew for each field, so that no product is too large.
        mixed = np.unique(mixed * max(len(values), 1) + codes, return_inverse=True)[1]
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    found = [placing.of(tuple(values[codes[at]] for codes, values in columns)) for at in first]
    return np.asarray(found, np.int64)[inverse]


def encoded(column: Any, kind: ColumnType) -> tuple[Any, list[Any]]:
    """A code for each row, and the values by code, as layouts have them."""
    import pyarrow as pa

    if kind is ColumnType.DATE:
        column = column.cast(pa.int32()).cast(pa.int64())
    elif kind in (ColumnType.TIMESTAMP, ColumnType.BOOL):
        column = column.cast(pa.int64())
    found = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return found.indices.to_numpy(zero_copy_only=False).astype("int64"), found.dictionary.to_pylist()


def divide(
    files: Sequence[Path], columns: tuple[Column, ...], placing: Placing, folder: Path, name: str
) -> Iterator[int | tuple[WrittenFile, ...]]:
    """Writes the rows of files, in their order, as `<name>-<partition>-<number>.parquet`.

    Yields how many rows it has read now and then, and the files at last.
    """
    missing = [Column(field, kind) for field, kind in zip(placing.layout.fields, placing.kinds, strict=True)]
    missing = [field for field in missing if all(field.name != column.name for column in columns)]
    writers, waiting, rows = dict[int, Writer](), 0, 0
    for table in _batches(files, columns):
        found = numbers(placing, fit(table, (*columns, *missing)) if missing else table)
        for number, piece in _pieces(table, found):
            writer = writers.setdefault(number, Writer(folder, columns, f"{name}-{number:03d}"))
            writer.write(piece)
        waiting, rows = waiting + table.nbytes, rows + table.num_rows
        if waiting > PENDING:
            for writer in writers.values():
                writer.spill()
            waiting = 0
        yield rows
    made = [(number, file) for number in sorted(writers) for file in writers[number].close()]
    assert sum(file.rows for _, file in made) == rows
    yield tuple(replace(file, partition=number) for number, file in made)


def _pieces(table: Any, found: Any) -> Iterator[tuple[int, Any]]:
    """The rows of each partition, in their order."""
    import numpy as np

    order = np.argsort(found, kind="stable")
    table, found = table.take(order), found[order]
    starts: list[int] = np.flatnonzero(np.r_[True, found[1:] != found[:-1]]).tolist() if len(found) else []
    for start, end in zip(starts, [*starts[1:], len(found)], strict=True):
        yield int(found[start]), table.slice(start, end - start)


def _batches(files: Sequence[Path], columns: tuple[Column, ...]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = [column.name for column in columns if column.name in file.schema_arrow.names]
            # Without a column of its own a file still has rows: those are all NULL.
            for batch in file.iter_batches(_ROWS, columns=names or file.schema_arrow.names[:1], use_threads=False):
                yield fit(pa.table(batch), columns)
