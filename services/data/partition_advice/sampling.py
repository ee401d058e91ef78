"""A sample of the rows of a version, in stored order. For children: imports numpy and pyarrow when it is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.data.arrow import fit
from services.data.datasets.dividing import encoded
from services.data.datasets.domain import WrittenFile
from services.data.datasets.layouts import Value
from services.data.schema import Column, ColumnType

MOST = 40_000  # rows of a sample
_READ = 2_000_000  # rows that are read for it, whole row groups


@dataclass(frozen=True)
class Coded:
    """A column of a sample as numbers that sort as its values do; -1 where there is none, or NaN."""

    column: Column
    codes: Any
    values: list[Value]  # by code


@dataclass(frozen=True)
class Sample:
    """Rows of a version, each of which stands for `scale` of them, with where they lie."""

    columns: dict[str, Coded]
    rows: int
    files: tuple[WrittenFile, ...]
    scale: float
    file: Any  # of each row, by number
    group: Any  # of each row: the row group, counted through all files
    group_rows: Any  # by row group
    group_file: Any
    # Bytes of a value in memory, by column, and of a row.
    widths: dict[str, float]
    row_bytes: float

    @property
    def size(self) -> int:
        """Rows of the sample."""
        return len(self.file)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


def sampled(folder: Path, files: Sequence[WrittenFile], columns: Sequence[Column], wanted: Sequence[str]) -> Sample:
    """Reads a bounded part of the wanted columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = tuple(column for column in columns if column.name in wanted)
    rows = sum(file.rows for file in files)
    apart, stride = max(1, -(-rows // _READ)), max(1, min(rows, _READ) // MOST)
    pieces, places, homes, group_rows, group_file = [], [], [], list[int](), list[int]()
    sizes, passed = dict.fromkeys((column.name for column in columns), 0), 0
    for number, file in enumerate(files):
        with pq.ParquetFile(folder / file.path, memory_map=True) as opened:
            names = [column.name for column in chosen if column.name in opened.schema_arrow.names]
            for group in range(opened.num_row_groups):
                meta = opened.metadata.row_group(group)
                for at in range(meta.num_columns):
                    sizes[meta.column(at).path_in_schema] += meta.column(at).total_uncompressed_size
                index = len(group_rows)
                group_rows.append(meta.num_rows)
                group_file.append(number)
                if index % apart:
                    continue
                table = opened.read_row_group(group, columns=names or opened.schema_arrow.names[:1])
                taken = np.arange((-passed) % stride, table.num_rows, stride)
                passed += table.num_rows
                pieces.append(fit(table.take(taken), chosen))
                places.append(np.full(len(taken), index))
                homes.append(np.full(len(taken), number))
    table = pa.concat_tables(pieces) if pieces else pa.table({})
    count = table.num_rows
    coded = {column.name: _coded(column, table.column(column.name)) for column in chosen} if count else {}
    empty = np.zeros(0, np.int64)
    return Sample(
        coded,
        rows,
        tuple(files),
        rows / count if count else 1.0,
        np.concatenate(homes) if homes else empty,
        np.concatenate(places) if places else empty,
        np.asarray(group_rows, np.int64),
        np.asarray(group_file, np.int64),
        {name: size / max(rows, 1) for name, size in sizes.items()},
        sum(sizes.values()) / max(rows, 1),
    )


def _coded(column: Column, found: Any) -> Coded:
    import numpy as np

    codes, values = encoded(found, column.type)
    known = [at for at, value in enumerate(values) if value is not None and value == value]
    known.sort(key=lambda at: values[at])
    ranks, kept = np.full(len(values) + 1, -1, np.int64), list[Value]()
    for at in known:
        if not kept or values[at] != kept[-1]:  # 0.0 and -0.0 are one
            kept.append(values[at])
        ranks[at] = len(kept) - 1
    return Coded(column, ranks[codes], kept)


def text_of(value: Value, kind: ColumnType) -> str:
    """A value as layouts have it, whose `typed` gives it back."""
    from datetime import UTC, date, datetime, timedelta

    match kind:
        case ColumnType.BOOL:
            return "true" if value else "false"
        case ColumnType.DATE:
            return (date(1970, 1, 1) + timedelta(days=int(value or 0))).isoformat()
        case ColumnType.TIMESTAMP:
            found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(value or 0))
            return found.replace(tzinfo=None).isoformat() + "Z"
        case ColumnType.DOUBLE:
            return repr(value)
    return str(value)
