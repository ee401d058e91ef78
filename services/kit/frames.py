"""Calls of one method as frames on one connection: the cheapest way for many small calls between two neighbours.

A call over gRPC costs both sides together most of a millisecond of a processor, a frame a tenth of that. It carries the
same: metadata, timeout, message, cancellation. Instances without a door for frames are called over gRPC. Numbers are
little endian; each frame begins with the number of bytes that follow (4).

* to the door: the call's number (4), milliseconds (4; 0: cancelled), bytes of the metadata (2), the metadata as JSON,
  the message
* from the door: the call's number (4), a kind (1), the message, or the failure as FailureDetail
"""

import asyncio
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from aimass.v1.failure_pb2 import FailureDetail
from services.kit.deadlines import Deadlines
from services.kit.errors import DeadlineExceeded, Disconnected
from services.kit.rpc import LARGE
from services.kit.status import failure_from

SIZE, CALL, REPLY = struct.Struct("<I"), struct.Struct("<IIIH"), struct.Struct("<IIB")
ANSWER, FAILURE, LEAVES = 0, 1, 2
_LOOK = 0.5  # seconds between looks at whether the other side is still there
_PAUSE = 1.0  # seconds for which an unreachable door is not tried
_CONNECT = 1.0


class Frames(asyncio.Protocol, ABC):
    """A connection that splits its bytes into frames."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= SIZE.size:
            (size,) = SIZE.unpack_from(buffer, at)
            if size > LARGE:
                self.transport.abort()
                return
            end = at + SIZE.size + size
            if len(buffer) < end:
                break
            try:
                self.frame(bytes(buffer[at + SIZE.size : end]))
            except (struct.error, ValueError, DecodeError):
                self.transport.abort()
                return
            at = end
        if at:
            del buffer[:at]

    @abstractmethod
    def frame(self, content: bytes) -> None:
        """Takes a frame without its length. Raises struct.error, ValueError or DecodeError for one that is broken."""


class Line(Frames):
    """The caller's end."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service, self._number = service, 0
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._deadlines = Deadlines[asyncio.Future[bytes]](self._expire)
        self._watch: asyncio.TimerHandle | None = None
        # Whether the other side is known to be there; checked while calls wait.
        self.alive: Callable[[], bool] = lambda: True
        # Whether new calls may go here.
        self.open = True

    async def call(self, metadata: bytes, message: bytes, seconds: float) -> bytes:
        """The reply. Raises its failure, deadline_exceeded, or Disconnected."""
        loop = asyncio.get_running_loop()
        number = self._number = self._number + 1 & 0xFFFFFFFF
        answer: asyncio.Future[bytes] = loop.create_future()
        self._calls[number] = answer
        size = CALL.size - SIZE.size + len(metadata) + len(message)
        head = CALL.pack(size, number, max(int(seconds * 1000), 1), len(metadata))
        self.transport.write(b"".join((head, metadata, message)))
        moment = self._deadlines.add(answer, time.monotonic() + seconds)
        if self._watch is None:
            self._watch = loop.call_later(_LOOK, self._look)
        try:
            return await answer
        finally:
            self._deadlines.drop(answer, moment)
            if self._calls.pop(number, None) and not self.transport.is_closing():
                self.transport.write(CALL.pack(CALL.size - SIZE.size, number, 0, 0))
            self._leave()

    def _expire(self, answer: "asyncio.Future[bytes]") -> None:
        if not answer.done():
            answer.set_exception(DeadlineExceeded(f"{self._service} took too long"))

    def frame(self, content: bytes) -> None:
        number, kind = struct.unpack_from("<IB", content)
        if kind == LEAVES:
            self.open = False
            self._leave()
            return
        failure = None if kind == ANSWER else failure_from(FailureDetail.FromString(content[5:]), "")
        answer = self._calls.pop(number, None)
        if answer is None or answer.done():
            return
        if failure:
            answer.set_exception(failure)
        else:
            answer.set_result(content[5:])

    def _leave(self) -> None:
        if not self.open and not self._calls:
            self.transport.close()

    def _look(self) -> None:
        self._watch = None
        if self._calls and not self.alive():
            self.abort()
        elif self._calls:
            self._watch = asyncio.get_running_loop().call_later(_LOOK, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        calls, self._calls = self._calls, {}
        for answer in calls.values():
            if not answer.done():
                answer.set_exception(Disconnected(f"{self._service} is unavailable", retry_after=1))

    def abort(self) -> None:
        """Ends it now; waiting calls fail."""
        self.open = False
        self.transport.abort()


class Lines:
    """A line to each door, as they are needed."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._lines: dict[tuple[str, int], Line] = {}
        self._opening: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._away: dict[tuple[str, int], float] = {}

    def to(self, host: str, port: int) -> Line | None:
        """The line to a door; None, and one is opened for later calls, if there is none."""
        where = (host, port)
        line = self._lines.get(where)
        if line and line.open:
            return line
        loop = asyncio.get_running_loop()
        if where not in self._opening and self._away.get(where, 0.0) <= loop.time():
            self._opening[where] = loop.create_task(self._open(where))
        return None

    async def _open(self, where: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT):
                _, made = await loop.create_connection(lambda: Line(self._service), *where)
            self._lines[where] = made
            self._away.pop(where, None)
        except OSError:
            self._lines.pop(where, None)
            self._away[where] = loop.time() + _PAUSE
        finally:
            del self._opening[where]

    async def close(self) -> None:
        """Ends all of them."""
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for line in self._lines.values():
            line.abort()
        self._lines.clear()
