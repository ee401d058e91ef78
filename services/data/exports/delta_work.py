"""The child that streams rows as a Delta table in a tar archive: Parquet files, and a log of one commit at the end.

No file is on a disk here: one at a time is in memory. Nothing asks the clock, so the same rows give the same bytes.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from services.data import archive
from services.data.arrow import arrow_schema
from services.data.datasets.delta import schema_text
from services.data.exports import reading
from services.data.exports.work import Pieces, first
from services.data.schema import Column
from services.kit.child import Child, Json

_GROUP = 131_072  # rows of a row group, at most
_HELD = 32 * 2**20  # bytes of rows that wait for one, at most, and of a Parquet file, about
_FORMAT = {"provider": "parquet", "options": {}}


def main(request: Json, child: Child) -> Json:
    """`{rows, max_rows, max_bytes}` to `{rows, bytes}`; the archive is poured. Raises limit_exceeded."""
    columns, tables = reading.opened(request["rows"])
    said, files = request["rows"], Archive(child, int(request["max_bytes"]), int(request["rows"]["time"]))
    adds, count = list[Json](), 0
    for number, (content, rows) in enumerate(_files(first(tables, int(request["max_rows"])), columns)):
        path = f"part-{number:05d}.parquet"
        files.add(path, content)
        adds.append(_add(path, len(content), rows, int(said["time"] * 1000)))
        count += rows
    files.add("_delta_log/00000000000000000000.json", _log(said, columns, adds))
    return {"rows": count, "bytes": files.end()}


class Archive:
    """A tar archive that is poured as it grows."""

    def __init__(self, child: Child, most: int, time: int) -> None:
        """`time` is when its files were changed, in seconds since 1970."""
        self._sink, self._time = Pieces(child, most), time

    def add(self, name: str, content: Any) -> None:
        """Raises limit_exceeded."""
        self._sink.write(archive.begin(name, len(content), self._time))
        self._sink.write(content)
        self._sink.write(archive.fill(len(content)))

    def end(self) -> int:
        """Its bytes."""
        self._sink.write(archive.END)
        self._sink.end()
        return self._sink.size


def _files(tables: Iterator[Any], columns: tuple[Column, ...]) -> Iterator[tuple[Any, int]]:
    """Parquet files with all rows, and how many each has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink, writer, rows = pa.BufferOutputStream(), None, 0
    for table in _gathered(tables):
        if writer is None:
            sink, rows = pa.BufferOutputStream(), 0
            writer = pq.ParquetWriter(sink, arrow_schema(columns), compression="snappy")
        writer.write_table(table, row_group_size=_GROUP)
        rows += table.num_rows
        if sink.tell() >= _HELD:
            writer.close()
            yield memoryview(sink.getvalue()), rows
            writer = None
    if writer is not None:
        writer.close()
        yield memoryview(sink.getvalue()), rows


def _gathered(tables: Iterator[Any]) -> Iterator[Any]:
    """Tables of about as many rows as a row group may have."""
    import pyarrow as pa

    waiting, rows, size = list[Any](), 0, 0
    for table in tables:
        if not table.num_rows:
            continue
        waiting.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= _GROUP or size >= _HELD:
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)


def _add(path: str, size: int, rows: int, time: int) -> Json:
    stats = orjson.dumps({"numRecords": rows}).decode()
    return {
        "add": {
            "path": path,
            "partitionValues": {},
            "size": size,
            "modificationTime": time,
            "dataChange": True,
            "stats": stats,
        }
    }


def _log(said: Json, columns: tuple[Column, ...], adds: list[Json]) -> bytes:
    """The first commit of the table."""
    time, name = int(said["time"] * 1000), f"{said['data_set']}/{said['version']}"
    meta = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "name": said["data_set"],
        "description": f"version {said['version']}",
        "format": _FORMAT,
        "schemaString": schema_text(columns),
        "partitionColumns": [],
        "configuration": {},
        "createdTime": time,
    }
    actions = [
        {"commitInfo": {"timestamp": time, "operation": "WRITE", "engineInfo": "aimass"}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": meta},
        *adds,
    ]
    return b"".join(orjson.dumps(action) + b"\n" for action in actions)
