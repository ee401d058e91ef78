"""uvicorn's HTTP protocol with bounds on headers and on slow and idle clients, and with problem documents."""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.gateway.api import problem
from services.gateway.exchange import EXCHANGE_KEY, Exchange
from services.gateway.screening import HEADER_BYTES, TARGET
from services.kit.errors import Code, Failure
from services.kit.timestamps import uuid7

if TYPE_CHECKING:
    from services.gateway.repeats import Repeat, Repeats

HEADER_SECONDS = 10.0
SILENT_SECONDS = 60.0
LINGER_SECONDS = 1.0
UNREAD_SECONDS = 30.0  # that a client may take to read the 48 KiB between a full buffer and one with room
WORK_KEY = "aimass.work"  # where in the ASGI scope the task lies that ends with the connection
_MOST = 2 * (HEADER_BYTES + TARGET)  # bytes of a request line and headers, however they are split
_KNOWN = 2048  # bytes of a head that may be remembered
_BODY_SECONDS = 0.1  # that a known head waits for its body, until it is read as any other


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    most = 1000  # connections at a time

    def __init__(self, *args: Any, repeats: "Repeats", **options: Any) -> None:
        super().__init__(*args, **options)
        self._repeats = repeats
        self._repeat: Repeat | None = None  # the one that is being answered
        self._held = b""  # what came while that was so, or a known head without its body
        self.leaving = False  # the connection ends with the answer that is under way
        self._first = b""  # what the request under way began with
        self._between = True  # the parser has seen the end of a request and nothing of the next one
        self._timer: asyncio.TimerHandle | None = None
        self._heading = 0  # bytes of the headers that are coming in
        self._reading_head = True
        self._refused = False
        self._open: list[Any] = []  # uvicorn's cycles of the requests whose answer is not complete
        self._last: Failure | None = None  # sent behind their answers: what follows them cannot be parsed
        self._unread: asyncio.TimerHandle | None = None
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
        if self._unread:
            self._unread.cancel()
        if self._repeat:
            self._repeat.gone()
        super().connection_lost(exc)
        for cycle in self._open:  # uvicorn tells the last one only, and that one may not have begun
            cycle.disconnected = True
            cycle.message_event.set()
            if work := cycle.scope.get(WORK_KEY):
                work.cancel()

    def _wait(self, seconds: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._too_slow) if seconds else None

    def _too_slow(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._held:
            data, self._held = self._held, b""
            self._read(data)
        elif self._heading:
            self._refuse(Failure(Code.REQUEST_TIMEOUT, "the headers came too slowly"))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """A client that does not read its answers keeps them in memory: after a while its connection is cut."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread:
            self._unread.cancel()

    def data_received(self, data: bytes) -> None:
        self.spoke = True
        if self._refused or self._repeated(data):
            return
        if self._held:
            data, self._held = self._held + data, b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        if self._between:
            self._first = data
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

    def _repeated(self, data: bytes) -> bool:
        """Whether these bytes need no parser: a request whose head is known, or what comes behind one."""
        if self._repeat:
            self._held += data
            self.flow.pause_reading()
            return True
        if not self._between or self._busy or self.flow.write_paused:
            return False  # a client that does not read its answers waits for its turn
        if self._held:
            self._wait(None)
            data = self._held + data
        elif self._repeats.awaits(data):
            self._held = data
            self._wait(_BODY_SECONDS)
            return True
        self._repeat = self._repeats.take(self, data)
        if self._repeat is None:
            return False
        self._held = b""
        if self._timer:
            self._wait(None)
        return True

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def answer(self, repeat: "Repeat", content: bytes, last: bool) -> None:
        """The answer to the repeat under way; the connection ends with it if it is the `last`."""
        if self._repeat is not repeat or self.transport.is_closing():
            return
        self._repeat = None
        self.transport.write(content)
        self._answered = self.loop.time()
        self.server_state.total_requests += 1
        if last:
            self.transport.close()
            return
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self._held:
            data, self._held = self._held, b""
            self.flow.resume_reading()
            self.data_received(data)

    def timeout_keep_alive_handler(self) -> None:
        """Repeats do not reset the timer, so there may have been some since it was set."""
        silent = 0.0 if self._repeat else self.loop.time() - self._answered
        if silent < self.timeout_keep_alive:
            left = self.timeout_keep_alive - silent
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Ends the connection, after the answer that is under way."""
        self.leaving = True
        if not self._repeat:
            super().shutdown()

    def _fits(self, data: bytes) -> bool:
        # A body may follow its headers in one packet, so only what comes before the empty line counts.
        end = data.find(b"\r\n\r\n")
        head = self._heading - len(data) + (end if end >= 0 else len(data))
        if head <= _MOST:
            return True
        self._refuse(Failure(Code.HEADERS_TOO_LARGE, "the headers are too large"))
        return False

    def on_headers_complete(self) -> None:
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise Failure(Code.BAD_FRAMING, "HTTP/1.1 is spoken here")  # as all that its callbacks raise, bad framing
        super().on_headers_complete()
        self._reading_head, self._heading = False, 0
        self._open.append(self.cycle)
        if self._timer:
            self._wait(None)
        end = self._first.find(b"\r\n\r\n", 0, _KNOWN)
        head, self._first = self._first[: max(end, 0)], b""
        self.scope[EXCHANGE_KEY] = Exchange(self.cycle, head)  # type: ignore[literal-required]

    def on_message_begin(self) -> None:
        self._between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._reading_head, self._heading, self._between = True, 0, True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are not HTTP."""
        self._refuse(Failure(Code.BAD_FRAMING, "the request is not well-formed HTTP"))

    def _refuse(self, failure: Failure) -> None:
        """Reads nothing more from the connection, and sends the failure behind the answers under way."""
        self._refused = True
        if not self._reading_head and self._open:
            self._abandon(self.cycle)
        if self._open:
            self._last = failure
        elif self._reading_head or not self.cycle.response_complete:
            self._send_failure(failure)
        elif not self.transport.is_closing():
            self._end()  # the rest of a request that has its answer: another would be taken for that of the next

    def _abandon(self, cycle: Any) -> None:
        """Drops a request whose body cannot be parsed: its answer would wait for an end that never comes."""
        self._open.remove(cycle)
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        elif cycle.response_started:
            self.transport.close()
        else:
            cycle.disconnected, cycle.waiting_for_100_continue = True, False
            cycle.message_event.set()

    def _send_failure(self, failure: Failure) -> None:
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
            self._end()

    def _end(self) -> None:
        # If it closed at once, a client that is still sending would see a reset and no answer.
        if self.transport.can_write_eof():  # TLS has no such thing
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        self._answered = self.loop.time()
        self._open = [cycle for cycle in self._open if not cycle.response_complete]
        super().on_response_complete()
        if self._last and not self._open:
            self._send_failure(self._last)

    def leave(self, patience: float) -> None:
        """Closes the connection once its requests are answered.

        It stays open if it was idle from the start, or answered less than `patience` seconds ago: its client may be
        writing a request already, and would see a reset.
        """
        if not self.spoke or self._heading or self._held:
            return
        if self._answered and not (self._repeat or self._busy) and self.loop.time() - self._answered < patience:
            return
        self.shutdown()
