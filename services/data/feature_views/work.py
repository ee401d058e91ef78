"""The child that materialises: reads rows in stored order, and writes what is to be kept of them into pages."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from services.data.datasets.rows import to_rows
from services.data.feature_views.computing import Computing, columns_read
from services.data.feature_views.domain import MOST_VALUE, Graph
from services.data.schema import Column
from services.kit.child import Child, Json
from services.kit.errors import FailedPrecondition

PAGE = 2_000  # rows of one transaction of the parent
_AHEAD = 4  # pages that wait for the parent
_COLUMNS, _GRAPH = TypeAdapter(tuple[Column, ...]), TypeAdapter(Graph | None)


def main(request: Json, child: Child) -> Json:
    """Pages of the rows behind the place `after` of the Parquet `files` (path, rows), each told with what became of it.

    A page is a file of the columns key, event_time, position and value in `folder`; the parent removes it.
    Raises failed_precondition for a row that is too large.
    """
    keys, features = (_COLUMNS.validate_python(request[part]) for part in ("keys", "features"))
    graph = _GRAPH.validate_python(request["graph"])
    computing = Computing(graph, request["graph_file"], keys, features) if graph else None
    position, folder = int(request["after"]), Path(request["folder"])
    columns = columns_read(keys, features, graph)
    for number, table in enumerate(tables(request["files"], columns, request["event_time"], position, PAGE)):
        page, counts = _page(computing(table) if computing else table, keys, features, position, request)
        position += table.num_rows
        _wait(folder)
        path = folder / f"{number:08d}.arrow"
        _write(path, page)
        newest = max(page["event_time"], default=None)
        child.progress({"page": path.name, "position": position, "newest": newest, "counts": counts})
    return {"position": position}


def tables(files: Sequence[Any], columns: Sequence[Column], event_time: str, start: int, size: int) -> Iterator[Any]:
    """The columns and `__time` (microseconds since 1970) of the rows from one on, `size` to twice as many at a time.

    However small the files are: the last table alone may have fewer.
    """
    import pyarrow as pa

    waiting, count = list[Any](), 0
    for piece in _pieces(files, columns, event_time, start, size):
        waiting.append(piece)
        count += piece.num_rows
        if count >= size:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, count = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _pieces(files: Sequence[Any], columns: Sequence[Column], event_time: str, start: int, size: int) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path, rows in files:
        if start >= rows:
            start -= rows
            continue
        with pq.ParquetFile(path, memory_map=True) as file:
            names = [name for name in {*(column.name for column in columns), event_time} if name in _names(file)]
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if start >= count:
                    start -= count
                    continue
                piece = file.read_row_group(group, columns=names or _names(file)[:1], use_threads=False)
                for begin in range(start, count, size):
                    yield timed(piece.slice(begin, size), columns, event_time)
                start = 0


def _names(file: Any) -> list[str]:
    return list(file.schema_arrow.names)


def timed(piece: Any, columns: Sequence[Column], event_time: str) -> Any:
    """A table with these columns, and the event time as `__time`; what it lacks is NULL."""
    import pyarrow as pa

    from services.data.arrow import fit

    found = fit(piece, columns)
    if event_time not in piece.column_names:
        return found.append_column("__time", pa.nulls(piece.num_rows, pa.int64()))
    times = piece.column(event_time)
    return found.append_column(
        "__time", times.cast(pa.timestamp("us", getattr(times.type, "tz", None))).cast(pa.int64())
    )


def key_texts(table: Any, keys: Sequence[Column]) -> list[bytes | None]:
    """What each row is known by: the JSON of its key's values; None where one is missing."""
    columns = [table.column(column.name).to_pylist() for column in keys]
    return [None if None in row else orjson.dumps(row) for row in zip(*columns, strict=True)]


def _page(
    table: Any, keys: Sequence[Column], features: Sequence[Column], position: int, request: Json
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    names, times = key_texts(table, keys), table.column("__time").to_pylist()
    start, until, now = request["start"], request["until"], request["now"]
    page: dict[str, list[Any]] = {"key": [], "event_time": [], "position": [], "value": []}
    counts = {"rows": 0, "rows_without_key": 0, "future_rows": 0, "rows_out_of_range": 0}
    for index, (name, moment, row) in enumerate(zip(names, times, to_rows(table, features), strict=True)):
        if name is None or moment is None:
            counts["rows_without_key"] += 1
        elif (start is not None and moment < start) or (until is not None and moment >= until):
            counts["rows_out_of_range"] += 1
        elif moment > now:
            counts["future_rows"] += 1
        else:
            counts["rows"] += 1
            value = orjson.dumps(list(row.values()))
            if len(value) > MOST_VALUE:
                text = f"the features of row {position + index + 1} take more than {MOST_VALUE} bytes"
                raise FailedPrecondition(text)
            for column, what in zip(page.values(), (name, moment, position + index, value), strict=True):
                column.append(what)
    return page, counts


def _wait(folder: Path) -> None:
    """Until the parent has taken up most of what was written: the disk holds a few pages at a time."""
    while sum(1 for _ in folder.iterdir()) >= _AHEAD:
        time.sleep(0.01)


def _write(path: Path, page: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    from pyarrow import ipc

    types = {"key": pa.binary(), "event_time": pa.int64(), "position": pa.int64(), "value": pa.binary()}
    table = pa.table({name: pa.array(page[name], kind) for name, kind in types.items()})
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def read_page(path: Path) -> Iterator[tuple[bytes, int, int, bytes]]:
    """The rows of a page: key, event time, position, value. For the parent."""
    from pyarrow import ipc

    with ipc.open_file(str(path)) as reader:
        table = reader.read_all()
    return zip(*(table.column(name).to_pylist() for name in ("key", "event_time", "position", "value")), strict=True)
