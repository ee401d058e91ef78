"""Bytes of a child as an asynchronous stream: no faster than they are read, and no longer than somebody reads them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from services.kit.errors import DeadlineExceeded

_WAITING = 2  # pieces that are held for the reader
_PATIENCE = 60.0  # seconds in which the reader has to take one
Pour = Callable[[bytes], Awaitable[None]]


async def poured(work: Callable[[Pour], Awaitable[object]]) -> AsyncGenerator[bytes]:
    """What the work pours. It is cancelled when the stream is closed or nobody reads it. Raises what the work raises.

    The work is a task of its own, so that its limits hold whoever reads and however slowly.
    """
    pieces = asyncio.Queue[bytes | None](_WAITING)

    async def pour(piece: bytes) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await pieces.put(piece)
        except TimeoutError:
            raise DeadlineExceeded(f"nobody has read the stream for {_PATIENCE:g} s") from None

    async def run() -> None:
        try:
            await work(pour)
        finally:
            with contextlib.suppress(asyncio.QueueFull):  # a full queue is not waited for: the reader sees the end
                pieces.put_nowait(None)

    running = asyncio.ensure_future(run())
    try:
        while (piece := await _next(pieces, running)) is not None:
            yield piece
        await running
    finally:
        running.cancel()
        with contextlib.suppress(BaseException):
            await running


async def _next(pieces: asyncio.Queue[bytes | None], running: asyncio.Future[None]) -> bytes | None:
    """None: the work has ended, and all that it poured has been read."""
    if running.done() and pieces.empty():
        return None
    return await pieces.get()
