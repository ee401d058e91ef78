"""Rows as data frames: the result of a query, or a version of a data set, as an Arrow stream that is read as it comes.

pyarrow, pandas and polars are imported when they are used: `pip install "aimass[arrow]"`, `[pandas]`, `[polars]`.
"""

import asyncio
import contextlib
import importlib
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from aimass.failures import Failure

T = TypeVar("T")
Tables = str | Sequence[str] | Mapping[str, Any]
FORMATS = ("parquet", "arrow", "csv")


def query_of(sql: str, tables: Tables, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `exports.stream_query`. Tables are names, or by their names in the query: a data set, a number
    with it (`("flights", 3)`), or the fields of a table in the contract.
    """
    if isinstance(tables, str):
        tables = [tables]
    named = tables if isinstance(tables, Mapping) else {name: name for name in tables}
    return {"sql": sql, "tables": [_table(alias, table) for alias, table in named.items()], **given}


def _table(alias: str, table: Any) -> dict[str, Any]:
    if isinstance(table, str):
        return {"alias": alias, "data_set": table}
    if isinstance(table, tuple):
        return {"alias": alias, "data_set": table[0], "version": table[1]}
    return {"alias": alias, **table}


def wanted(module: str) -> Any:
    """A package that the client does not need otherwise. Raises Failure `missing_package`, with what installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        first = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != first:
            raise
        extra = "arrow" if first == "pyarrow" else first
        raise Failure("missing_package", f'{first} is not installed: pip install "aimass[{extra}]"') from None


class Frame:
    """Rows that are on their way. Each method sends the request, so that a frame may be read again.

    Raises Failure: also in the middle, when the stream breaks off; a part of the rows is never taken for all of them.
    """

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        """`pieces` asks for the stream."""
        self._pieces = pieces

    def batches(self) -> Iterator[Any]:
        """pyarrow.RecordBatch after pyarrow.RecordBatch, without holding more than one."""
        with self._reader() as reader:
            yield from reader

    def to_arrow(self) -> Any:
        """A pyarrow.Table."""
        with self._reader() as reader:
            return reader.read_all()

    def to_pandas(self) -> Any:
        """A pandas.DataFrame."""
        wanted("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """A polars.DataFrame."""
        return wanted("polars").from_arrow(self.to_arrow())

    def save(self, path: str | Path, format: str = "") -> int:  # noqa: A002 - the word for it
        """Writes a file as the rows come, and returns their number; the file is there when all of them are.

        `format`: parquet, arrow (an Arrow IPC file) or csv; by the end of the name if unset. Raises Failure
        `invalid_value` for another one.
        """
        path = Path(path)
        format = format or path.suffix.removeprefix(".").lower()  # noqa: A001
        if format not in FORMATS:
            raise Failure("invalid_value", f"{path.name} must end in one of .{', .'.join(FORMATS)}, or name its format")
        rows, part = 0, path.with_name(f".{path.name}.part-{os.getpid()}")
        try:
            with self._reader() as reader, _writer(format, part, reader.schema) as write:
                for batch in reader:
                    write(batch)
                    rows += batch.num_rows
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return rows

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Any]:
        arrow, pieces = wanted("pyarrow"), self._pieces()
        try:
            with arrow.ipc.open_stream(Bytes(pieces)) as reader:
                yield reader
                for _ in reader:  # to its end, so that a stream that broke off there is not missed
                    pass
            for _ in pieces:
                pass
        finally:
            if close := getattr(pieces, "close", None):
                close()


class AsyncFrame:
    """`Frame` for asyncio. What is read is made into a frame in a thread."""

    def __init__(self, pieces: Callable[[], AsyncIterator[bytes]]) -> None:
        self._pieces = pieces

    async def batches(self) -> AsyncIterator[Any]:
        """pyarrow.RecordBatch after pyarrow.RecordBatch."""
        async with bridged(self._pieces()) as bridge:
            found = Frame(lambda: bridge).batches()
            while (batch := await asyncio.to_thread(next, found, None)) is not None:
                yield batch

    async def to_arrow(self) -> Any:
        """A pyarrow.Table."""
        return await self._made(Frame.to_arrow)

    async def to_pandas(self) -> Any:
        """A pandas.DataFrame."""
        return await self._made(Frame.to_pandas)

    async def to_polars(self) -> Any:
        """A polars.DataFrame."""
        return await self._made(Frame.to_polars)

    async def save(self, path: str | Path, format: str = "") -> int:  # noqa: A002
        """As `Frame.save`."""
        return await self._made(lambda frame: frame.save(path, format))

    async def _made(self, make: Callable[[Frame], T]) -> T:
        async with bridged(self._pieces()) as bridge:
            return await asyncio.to_thread(make, Frame(lambda: bridge))


@contextlib.asynccontextmanager
async def bridged(pieces: AsyncIterator[bytes]) -> AsyncIterator["Bridge"]:
    """Pieces for a thread, while the context lasts."""
    bridge = Bridge(pieces, asyncio.get_running_loop())
    try:
        yield bridge
    finally:
        await bridge.aclose()


class Bridge:
    """Pieces of an event loop, for a thread."""

    def __init__(self, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._pieces, self._loop = pieces, loop
        self._step: Future[bytes | None] | None = None
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        self._step = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        if (piece := self._step.result()) is None:
            raise StopIteration
        return piece

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)

    async def aclose(self) -> None:
        """Lets the thread go, and ends the pieces."""
        self._ended = True
        if self._step:
            self._step.cancel()
        with contextlib.suppress(RuntimeError):  # it still stops what it was doing
            await self._pieces.aclose()  # type: ignore[attr-defined]


class Bytes(io.RawIOBase):
    """Pieces as a file that can be read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as there is something."""
        room, filled = memoryview(buffer).cast("B"), 0
        while filled < len(room):
            if not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._left = memoryview(piece)
                continue
            taken = min(len(room) - filled, len(self._left))
            room[filled : filled + taken] = self._left[:taken]
            self._left, filled = self._left[taken:], filled + taken
        return filled


@contextlib.contextmanager
def _writer(form: str, path: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    """What writes a batch to a file of a format."""
    if form == "parquet":
        with wanted("pyarrow.parquet").ParquetWriter(path, schema, compression="zstd") as writer:
            yield writer.write_batch
    elif form == "csv":
        with wanted("pyarrow.csv").CSVWriter(path, schema) as writer:
            yield writer.write_batch
    else:
        with wanted("pyarrow").OSFile(str(path), "wb") as file, wanted("pyarrow").ipc.new_file(file, schema) as writer:
            yield writer.write_batch
