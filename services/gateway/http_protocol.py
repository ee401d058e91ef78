"""uvicorn's HTTP protocol, with bounds on headers and on slow and silent callers, and with problem documents."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.api import problem
from services.gateway.exchange import EXCHANGE_KEY, Exchange
from services.gateway.screening import HEADER_BYTES, TARGET
from services.kit.errors import Code, Failure
from services.kit.timestamps import uuid7

HEADER_SECONDS = 10.0
SILENT_SECONDS = 60.0
LINGER_SECONDS = 1.0
WORK_KEY = "aimass.work"  # where in the ASGI scope the task lies that ends with the connection
_MOST = 2 * (HEADER_BYTES + TARGET)  # bytes of a request line and headers, however they are split


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    most = 1000  # connections at a time

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._heading = 0  # bytes of the headers that are coming in
        self._reading_head = True
        self._refused = False
        self.spoke = False
        self._answered = 0.0  # when the last answer went out, by the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._wait(SILENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        super().connection_lost(exc)
        work: Any = self.scope.get(WORK_KEY) if self.scope else None
        if work:
            work.cancel()

    def _wait(self, seconds: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._too_slow) if seconds else None

    def _too_slow(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._heading:
            self._refuse(Failure(Code.REQUEST_TIMEOUT, "the headers came too slowly"))
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.spoke = True
        if self._refused:
            return
        if self._reading_head:
            begins = not self._heading
            self._heading += len(data)
            if self._heading > _MOST and not self._fits(data):
                return
            super().data_received(data)
            if begins and self._heading and not self._refused:  # mostly they come whole, and need no timer
                self._wait(HEADER_SECONDS)
        else:
            super().data_received(data)

    def _fits(self, data: bytes) -> bool:
        # A body may follow its headers in one packet, so only what comes before the empty line counts.
        end = data.find(b"\r\n\r\n")
        head = self._heading - len(data) + (end if end >= 0 else len(data))
        if head <= _MOST:
            return True
        self._refuse(Failure(Code.HEADERS_TOO_LARGE, "the headers are too large"))
        return False

    def on_headers_complete(self) -> None:
        self._reading_head, self._heading = False, 0
        if self._timer:
            self._wait(None)
        super().on_headers_complete()
        self.scope[EXCHANGE_KEY] = Exchange(self.cycle)  # type: ignore[literal-required]

    def on_message_complete(self) -> None:
        self._reading_head, self._heading = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        self._refuse(Failure(Code.BAD_FRAMING, "the request is not well-formed HTTP"))

    def _refuse(self, failure: Failure) -> None:
        request_id = uuid7()
        content = problem.dump(failure, "", request_id)
        lines = [
            STATUS_LINE[failure.code.http],
            b"content-type: " + problem.MEDIA_TYPE + b"\r\n",
            b"content-length: %d\r\n" % len(content),
            b"x-request-id: " + request_id.encode() + b"\r\n",
            b"connection: close\r\n\r\n",
            content,
        ]
        if not self.transport.is_closing():
            self.transport.write(b"".join(lines))
            # Closed at once, a caller who is still sending would see a reset and no answer.
            self._refused = True
            if self.transport.can_write_eof():  # TLS has no such thing
                self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        self._answered = self.loop.time()
        super().on_response_complete()

    def leave(self, patience: float) -> None:
        """Ends the connection as soon as what it asked for is answered.

        One that has said nothing may still ask, and so may one that was answered less than `patience` seconds ago: its
        caller may be writing the next request already, and would see a reset.
        """
        if not self.spoke or self._heading:
            return
        if self._answered and self.cycle.response_complete and self.loop.time() - self._answered < patience:
            return
        self.shutdown()
