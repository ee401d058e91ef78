"""Reads a whole request body and writes a whole answer past the messages of ASGI."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

EXCHANGE_KEY = "aimass.exchange"  # where it lies in the ASGI scope


class Exchange:
    """One request and its answer on uvicorn's connection."""

    __slots__ = ("_cycle", "head")

    def __init__(self, cycle: Any, head: bytes = b"") -> None:
        """`cycle` is uvicorn's; `head` the request's head as it came, without its empty line, if it is known."""
        self._cycle, self.head = cycle, head

    @property
    def stays(self) -> bool:
        """Whether the connection goes on after the answer."""
        return bool(self._cycle.keep_alive)

    def certificate(self) -> bytes:
        """The certificate that the client proved to have, as DER; empty for none."""
        tls = self._cycle.transport.get_extra_info("ssl_object")
        return (tls.getpeercert(True) if tls else None) or b""

    def body(self) -> bytes | None:
        """The body if all of it has come, once; else `receive` has to be asked."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.response_started:
            return None
        found, cycle.body = bytes(cycle.body), bytearray()
        return found

    async def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], content: bytes) -> bool:
        """Sends an answer with its length. False, and nothing is sent, where ASGI's own way is needed."""
        cycle = self._cycle
        if cycle.response_started or not cycle.keep_alive or cycle.scope["method"] == "HEAD":
            return False
        head = b"".join([b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)])
        if head.count(b"\n") != len(cycle.default_headers) + len(headers) or b"\r\nconnection:" in head:
            return False  # ASGI's own way refuses a header with a line break, and closes what has to be closed
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            cycle.response_started, cycle.waiting_for_100_continue = True, False
            cycle.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n", content)))
            cycle.response_complete = True
            cycle.message_event.set()
            cycle.on_response()
        return True
