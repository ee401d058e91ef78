"""Reads a request's body, with bounds on its size and on its time."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.kit.errors import Code, Failure

Receive = Callable[[], Awaitable[dict[str, Any]]]
_SECONDS = 30.0
_PACE = 64 * 2**10  # bytes a second that a body must keep up after that
_DRAIN = 64 * 2**20
_DRAIN_SECONDS = 2.0


class Gone(Exception):
    """The client disconnected."""


def declared(headers: Mapping[bytes, bytes]) -> int:
    """The length that the headers state; 0 for none, -1 for a chunked body."""
    if b"transfer-encoding" in headers:
        return -1
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 15:
        raise Failure(Code.BAD_FRAMING, "the content length is not a number")
    return int(length)


async def read(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The whole body. Raises body_too_large before more than `limit` bytes are held, request_timeout, Gone."""
    length = declared(headers)
    if length == 0:
        return b""
    if length > limit:
        await _refuse(receive, headers, limit)
    chunks, size, begun = [], 0, time.monotonic()
    while True:
        left = begun + _SECONDS + size / _PACE - time.monotonic()
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            raise Failure(Code.REQUEST_TIMEOUT, "the body came too slowly") from None
        if message["type"] != "http.request":
            raise Gone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            chunks.clear()
            await _refuse(receive, headers, limit)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _refuse(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> None:
    await drain(receive, headers)
    raise too_large(limit)


async def drain(receive: Receive, headers: Mapping[bytes, bytes]) -> None:
    """Reads some of a body that is refused: a client that is still sending would not read the answer."""
    if b"expect" in headers:
        return
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while taken < _DRAIN:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


def too_large(limit: int) -> Failure:
    """The failure for a body of more than `limit` bytes."""
    return Failure(Code.BODY_TOO_LARGE, f"the body is larger than {limit // 2**20} MiB")
