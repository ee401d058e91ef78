"""Rows of a query or of a version as Arrow tables, a few at a time. For children."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from services.data.arrow import fit
from services.data.engine import Engine
from services.data.schema import Column, ColumnType
from services.kit.child import Json

_ROWS = 8_192  # of one table, at least, where there are so many


def opened(said: Json) -> tuple[tuple[Column, ...], Iterator[Any]]:
    """The columns, and their rows in order: of `{sql, tables}` or `{files, columns, hidden}`.

    `files` are paths in their order, `columns` are `(name, type, nullable)`, `hidden` those whose values are NULL.
    Raises query_invalid, also while rows are read.
    """
    if "sql" in said:
        result = Engine(said["tables"]).run(said["sql"])
        columns = result.columns()
        return columns, (fit(table, columns) for table in result.batches(_ROWS))
    hidden = frozenset(said["hidden"])
    columns = tuple(
        Column(name, ColumnType(kind), nullable or name in hidden) for name, kind, nullable in said["columns"]
    )
    return columns, _stored(said["files"], columns, hidden)


def _stored(files: Sequence[str], columns: tuple[Column, ...], hidden: Collection[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path, memory_map=True) as file:
            there = file.schema_arrow.names
            names = [column.name for column in columns if column.name in there and column.name not in hidden]
            for group in range(file.num_row_groups):
                # Without a column of its own a file still has rows, whose number one column tells.
                table = file.read_row_group(group, columns=names or there[:1], use_threads=False)
                yield fit(table if names else table.rename_columns([""]), columns)
