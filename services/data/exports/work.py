"""The child that streams rows as Arrow."""

from collections.abc import Iterator
from typing import Any

from services.data.arrow import arrow_schema
from services.data.exports import reading
from services.kit.child import Child, Json
from services.kit.errors import Code, Failure

PIECE = 2**20  # bytes that go to the parent at once


def main(request: Json, child: Child) -> Json:
    """`{rows, max_rows, max_bytes}` to `{rows, bytes}`; the stream is poured. `rows` is as `reading` takes it.

    Raises query_invalid; limit_exceeded when the stream gets too large.
    """
    import pyarrow as pa

    columns, tables = reading.opened(request["rows"])
    sink, rows = Pieces(child, int(request["max_bytes"])), 0
    with pa.ipc.new_stream(sink, arrow_schema(columns)) as stream:
        for table in first(tables, int(request["max_rows"])):
            stream.write_table(table)
            rows += table.num_rows
    sink.end()
    return {"rows": rows, "bytes": sink.size}


def first(tables: Iterator[Any], most: int) -> Iterator[Any]:
    """The first rows of tables; all of them for 0."""
    left = most
    for table in tables:
        if most and table.num_rows >= left:
            yield table.slice(0, left)
            return
        left -= table.num_rows
        yield table


class Pieces:
    """A file that pours what is written to it, in pieces that a message may have."""

    closed = False

    def __init__(self, child: Child, most: int) -> None:
        """`most`: the bytes that it takes."""
        self._child, self._most, self.size = child, most, 0
        self._waiting = bytearray()

    def write(self, data: Any) -> int:
        """Raises limit_exceeded."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        if self.size > self._most:
            raise Failure(
                Code.LIMIT_EXCEEDED, f"the result is larger than {self._most // 2**20} MiB: select less of it"
            )
        while view:
            taken = PIECE - len(self._waiting)
            self._waiting += view[:taken]
            view = view[taken:]
            if len(self._waiting) == PIECE:
                self.end()
        return len(data)

    def end(self) -> None:
        """Pours what waits."""
        if self._waiting:
            self._child.pour(bytes(self._waiting))
            self._waiting.clear()

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Nothing before a piece is full."""

    def close(self) -> None:
        """Nothing is held."""
