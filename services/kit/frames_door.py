"""The door for calls of one method as frames."""

import asyncio
import contextlib
import logging
import struct
from collections.abc import Callable
from functools import lru_cache

import orjson

from services.kit.config import ConfigError
from services.kit.errors import Code, Failure, Internal, Unavailable
from services.kit.fields import read
from services.kit.frames import ANSWER, CALL, FAILURE, LEAVES, REPLY, SIZE, Frames
from services.kit.rpc import LARGE, Guarded
from services.kit.status import detail_of

log = logging.getLogger(__name__)
_MOST = 1_000  # calls under way on one connection


class FramesDoor:
    """Serves a guarded method by frames, behind the same guard as over gRPC."""

    def __init__(self, host: str, port: int, guarded: Callable[[], Guarded]) -> None:
        """`port` 0: any. `guarded` gives the method when the door opens."""
        self._host, self._wanted, self._guarded = host.strip("[]"), port, guarded
        self._server: asyncio.Server | None = None
        self._callers: set[_Caller] = set()
        # Where it is open; 0: nowhere.
        self.port = 0

    async def open(self) -> None:
        """Raises ConfigError when the address cannot be had."""
        loop, guarded = asyncio.get_running_loop(), self._guarded()
        try:
            self._server = await loop.create_server(
                lambda: _Caller(guarded, self._callers), self._host or None, self._wanted
            )
        except OSError:
            raise ConfigError(f"cannot listen on {self._host}:{self._wanted}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self, grace: float) -> None:
        """Tells callers to go elsewhere, answers the calls under way, and cuts them after `grace` seconds."""
        if self._server:
            self._server.close()
            self.port = 0
        for caller in self._callers:
            caller.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(caller.gone for caller in self._callers))
        for caller in list(self._callers):
            caller.end()


class _Caller(Frames):
    def __init__(self, guarded: Guarded, callers: "set[_Caller]") -> None:
        super().__init__()
        self._guarded, self._callers = guarded, callers
        self._calls: dict[int, asyncio.Task[None]] = {}
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._callers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._callers.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)
        for task in self._calls.values():
            task.cancel()

    def frame(self, content: bytes) -> None:
        number, milliseconds, size = struct.unpack_from("<IIH", content)
        metadata = _metadata(content[CALL.size - SIZE.size : CALL.size - SIZE.size + size]) if milliseconds else {}
        if not milliseconds:
            if task := self._calls.get(number):
                # It may have come with its call: a task that is cancelled before it has begun runs no cleanup.
                asyncio.get_running_loop().call_soon(task.cancel)
        elif number in self._calls or len(self._calls) >= _MOST:
            raise ValueError("its number is in use, or there are too many calls")
        else:
            message = content[CALL.size - SIZE.size + size :]
            run = self._run(number, message, metadata, milliseconds / 1000)
            self._calls[number] = asyncio.get_running_loop().create_task(run)

    async def _run(self, number: int, message: bytes, metadata: dict[str, str], seconds: float) -> None:
        kind = FAILURE
        try:
            request = read(self._guarded.request_class.FromString, message)
            reply, _ = await self._guarded.unary(request, metadata, seconds)
            body = reply.SerializeToString()
            if len(body) > LARGE - REPLY.size:
                raise Failure(Code.BODY_TOO_LARGE, "the message is larger than 16 MiB")
            kind = ANSWER
        except Failure as failure:
            body = detail_of(failure).SerializeToString()
        except asyncio.CancelledError:
            body = detail_of(Unavailable("the service is stopping", retry_after=0.5)).SerializeToString()
        except Exception:
            log.exception("unhandled error in %s", self._guarded.method.path)
            body = detail_of(Internal("internal error")).SerializeToString()
        del self._calls[number]
        self._write(number, kind, body)

    def _write(self, number: int, kind: int, body: bytes = b"") -> None:
        if not self.transport.is_closing():
            self.transport.write(REPLY.pack(REPLY.size - SIZE.size + len(body), number, kind) + body)

    def leave(self) -> None:
        """Asks for no more calls."""
        self._write(0, LEAVES)

    def end(self) -> None:
        """Cuts what is under way."""
        for task in self._calls.values():
            task.cancel()
        asyncio.get_running_loop().call_soon(self.transport.close)  # behind what they say now


@lru_cache(maxsize=1024)
def _metadata(text: bytes) -> dict[str, str]:
    """Metadata, parsed once for repeated calls. Raises ValueError."""
    found = orjson.loads(text)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("metadata are texts by name")
    return found
