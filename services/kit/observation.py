"""Metrics and health of a process for an operator's tools, on a listener of its own.

`/health/live`: the event loop runs. `/health/started`: the services have started. `/health/ready`: they can answer.
`/metrics`: metrics in the Prometheus text format. There is no authentication: listen where only operators are.
"""

import asyncio
import contextlib
import errno
from collections.abc import Callable

from services.kit.config import ConfigError
from services.kit.telemetry import exposition

_LARGEST = 4096  # bytes of a request's head
_PATIENCE = 5.0  # seconds for a request and its answer
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_FIGURES = "text/plain; version=0.0.4; charset=utf-8"


class ObservationDoor:
    """Answers GET and HEAD, one request a connection."""

    def __init__(self, address: str, started: Callable[[], bool], ready: Callable[[], bool]) -> None:
        """`address` is host:port or host:first-last."""
        self._host, _, port = address.rpartition(":")
        first, _, last = port.partition("-")
        self._ports, self._started, self._ready = range(int(first), int(last or first) + 1), started, ready
        self._server: asyncio.Server | None = None
        self.address = ""  # where it listens, once it is open

    async def open(self) -> None:
        """Listens on the first port that is free. Raises ConfigError when none is."""
        why = "no port is named"
        for port in self._ports:
            try:
                self._server = await asyncio.start_server(self._serve, self._host.strip("[]"), port, limit=_LARGEST)
            except (OSError, OverflowError) as error:
                why = (getattr(error, "strerror", "") or "no such address").lower()
                if getattr(error, "errno", 0) != errno.EADDRINUSE:
                    break
            else:
                self.address = f"{self._host}:{self._server.sockets[0].getsockname()[1]}"
                return
        raise ConfigError(f"AIMASS_OBSERVE_LISTEN: cannot listen on {self._host}:{self._named()}: {why}")

    def _named(self) -> str:
        return str(self._ports[0]) if len(self._ports) == 1 else f"{self._ports.start}-{self._ports.stop - 1}"

    async def close(self, grace: float) -> None:
        """Closes at once, whatever `grace`: it has answered all through the drain."""
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                writer.write(await self._answer(await _head(reader)))
                await writer.drain()
        except (TimeoutError, ConnectionError):
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> bytes:
        method, target, version = [*line.split(b" "), b"", b"", b""][:3]
        if not version.startswith(b"HTTP/1."):
            return _response(400, b"bad request")
        if method not in (b"GET", b"HEAD"):
            return _response(405, b"only GET and HEAD")
        path = target.partition(b"?")[0]
        return _response(*await self._look(path), bare=method == b"HEAD")

    async def _look(self, path: bytes) -> tuple[int, bytes, str]:
        if path == b"/metrics":
            return 200, await asyncio.to_thread(exposition), _FIGURES
        holds = {b"/health/live": lambda: True, b"/health/started": self._started, b"/health/ready": self._ready}
        if path not in holds:
            return 404, b"there is /metrics, /health/live, /health/started and /health/ready", "text/plain"
        name = path.rpartition(b"/")[2]
        return (200, name, "text/plain") if holds[path]() else (503, b"not " + name, "text/plain")


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The request line, once the head is complete; empty for a head that is too large or cut off."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""
    return head.partition(b"\r\n")[0]


def _response(status: int, body: bytes, kind: str = "text/plain", bare: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if bare else body)
