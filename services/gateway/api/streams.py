"""Streams of messages over HTTP: server-sent events, JSON lines, and downloads."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from google.protobuf.message import Message
from starlette.responses import Response, StreamingResponse

from services.gateway.api import problem
from services.gateway.api.encoding import encode
from services.kit.errors import Failure, Internal, Unavailable

log = logging.getLogger(__name__)
EVENTS, LINES = "text/event-stream", "application/x-ndjson"
_FIRST = 1.0  # seconds that the first message may take before the answer begins without it
_ALIVE = 15.0  # seconds of silence after which a comment says that the stream lives
_QUIET = 1.0  # seconds of silence that end a stream when the gateway is leaving
_AGAIN = 0.5  # seconds after which its reader may come again
_END, _LEFT = object(), object()
Fail = Callable[[Failure], bytes]


async def respond(
    items: AsyncIterator[Message], kind: str, path: str, request_id: str, leaving: asyncio.Event
) -> Response:
    """A stream as events or lines. A failure before the first message is raised; a later one is the last message.

    Once `leaving` is set, a stream that only waits ends: events with a time after which to come again, lines with a
    failure that says so.
    """

    def failed(failure: Failure) -> bytes:
        return problem.dump(failure, path, request_id)

    pending = asyncio.ensure_future(anext(items, _END))
    await asyncio.wait({pending}, timeout=_FIRST)
    if pending.done() and (error := pending.exception()):
        raise error
    found = _each(items, pending, failed, leaving)
    content = _events(found) if kind == EVENTS else _lines(found, failed)
    return StreamingResponse(content, media_type=kind, headers={"cache-control": "no-store"})


async def _events(items: AsyncGenerator[Any, None]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(items) as found:
        async for item in found:
            if item is None:
                yield b": alive\n\n"
            elif item is _LEFT:
                yield b"retry: %d\n\n" % (_AGAIN * 1000)
            elif isinstance(item, bytes):
                yield b"event: error\ndata: " + item + b"\n\n"
            else:
                token = getattr(item, "resume_token", "")
                named = f"id: {token}\n".encode() if token else b""
                yield named + b"data: " + encode(item) + b"\n\n"


async def _lines(items: AsyncGenerator[Any, None], failed: Fail) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(items) as found:
        async for item in found:
            if item is _LEFT:
                stopping = Unavailable("the gateway is stopping; the stream goes on elsewhere", retry_after=_AGAIN)
                yield b'{"error":' + failed(stopping) + b"}\n"
            elif isinstance(item, bytes):
                yield b'{"error":' + item + b"}\n"
            elif item is not None:
                yield encode(item) + b"\n"


async def _each(
    items: AsyncIterator[Message], pending: Any, failed: Fail, leaving: asyncio.Event
) -> AsyncGenerator[Any, None]:
    """The messages; None after a while of silence; at the end a problem document, or _LEFT when the gateway stops."""
    left = asyncio.ensure_future(leaving.wait())
    try:
        while True:
            await asyncio.wait({pending, left}, timeout=_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                await asyncio.wait({pending}, timeout=_QUIET)
                if not pending.done():
                    yield _LEFT
                    return
            if not pending.done():
                yield None
                continue
            item = await pending
            if item is _END:
                return
            yield item
            pending = asyncio.ensure_future(anext(items, _END))
    except Failure as failure:
        yield failed(failure)
    except Exception:
        log.exception("unhandled error in a stream")
        yield failed(Internal("internal error"))
    finally:
        left.cancel()
        pending.cancel()
        with contextlib.suppress(BaseException):
            await pending
        await close(items)


async def download(chunks: AsyncIterator[Any]) -> Response:
    """Chunks of bytes as one body, with the content type of the first. A later failure breaks the connection."""
    first = await anext(chunks, None)
    kind = first.content_type if first is not None else ""

    async def content() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield first.data
            async for chunk in chunks:
                yield chunk.data
        finally:
            await close(chunks)

    return StreamingResponse(content(), headers={"content-type": kind or "application/octet-stream"})


async def close(items: AsyncIterator[Any]) -> None:
    """Ends a stream that is not read to its end."""
    if finish := getattr(items, "aclose", None):
        await finish()
