"""Calls of versions over a Triton server's HTTP port: a tenth of the cost of gRPC here, half of it there.

Only successful answers count here. Everything else (another status, a lost connection, a closed port) is repeated over
gRPC, which names the failure; a prediction has no effect.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import orjson

from services.inference.domain.tensors import Values, decode, encode
from services.kit.errors import DeadlineExceeded

_END = b"\r\n\r\n"
_PAUSE = 1.0  # seconds for which a door that could not be reached is left alone
_CONNECT = 1.0  # seconds that a connection may take
_LARGEST = 64 * 2**20  # bytes of an answer
_Shapes = tuple[tuple[str, str, tuple[int, ...], int], ...]


class _Odd(Exception):
    """An answer that has to be asked for over gRPC."""


class _Connection(asyncio.Protocol):
    """One call at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._buffer = b""
        self._body, self._wanted = 0, 0  # where the answer's body begins, and how long the answer is

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()

    def ask(self, content: bytes) -> "asyncio.Future[tuple[bytes, bytes]]":
        """Head and body of the answer; Odd when the connection ends before it is whole."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._wanted:
            end = self._buffer.find(_END)
            if end < 0:
                return
            length = _header(self._buffer[: end + 2], b"content-length")
            if not 0 <= length <= _LARGEST:
                self.abort()  # chunks are never sent for tensors
                return
            self._body, self._wanted = end + len(_END), end + len(_END) + length
        if len(self._buffer) >= self._wanted and self._answer and not self._answer.done():
            found, body, self._buffer, self._wanted = self._buffer, self._body, b"", 0
            self._answer.set_result((found[:body], found[body:]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(_Odd())

    def abort(self) -> None:
        """Ends it now."""
        self._transport.abort()


class HttpDoor:
    """The door of one server, with as many connections as there are calls at a time."""

    def __init__(self, address: str) -> None:
        """`address`: host:port. Opens nothing."""
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._name = address
        self._free: list[_Connection] = []
        self._closed = False
        self._away = 0.0  # until when the door is not tried

    async def infer(
        self, name: str, inputs: Sequence[tuple[str, Values]], outputs: Sequence[str], seconds: float
    ) -> dict[str, Values] | None:
        """The outputs by name; None for what has to be asked over gRPC. Raises deadline_exceeded."""
        if time.monotonic() < self._away:
            return None
        raws = [v.data if isinstance(v.data, bytes) else encode(v.data) for _, v in inputs]
        shapes = tuple((n, v.datatype, v.shape, len(raw)) for (n, v), raw in zip(inputs, raws, strict=True))
        asked = _asked(shapes, tuple(outputs))
        size = sum([len(raw) for raw in raws], len(asked))
        content = b"".join(
            (_head(name, self._name), b"%d\r\nContent-Length: %d\r\n\r\n" % (len(asked), size), asked, *raws)
        )
        try:
            async with asyncio.timeout(seconds):
                head, body = await self._exchange(content)
            return _values(head, body, outputs)
        except TimeoutError:
            raise DeadlineExceeded("the model took too long") from None
        except (_Odd, OSError, ValueError, KeyError, TypeError):
            return None

    async def _exchange(self, content: bytes) -> tuple[bytes, bytes]:
        connection = await self._connection()
        try:
            found = await connection.ask(content)
        except BaseException:
            connection.abort()
            raise
        if self._closed:
            connection.abort()
        else:
            self._free.append(connection)
        return found

    async def _connection(self) -> _Connection:
        while self._free:
            if (free := self._free.pop()).open:
                return free
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CONNECT):
                    _, made = await loop.create_connection(_Connection, self._host, self._port)
                    return made
            raise _Odd
        except (OSError, _Odd):
            self._away = time.monotonic() + _PAUSE
            raise

    def close(self) -> None:
        """Ends what is open."""
        self._closed = True
        while self._free:
            self._free.pop().abort()


@lru_cache(maxsize=1024)
def _head(name: str, host: str) -> bytes:
    """The beginning of a request; the length of its JSON part follows."""
    path = f"/v2/models/{quote(name, safe='')}/infer"
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\nInference-Header-Content-Length: ".encode()


@lru_cache(maxsize=1024)
def _asked(shapes: _Shapes, outputs: tuple[str, ...]) -> bytes:
    """The JSON part: the same for all calls with tensors of the same sizes."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in shapes
    ]
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    return orjson.dumps({"inputs": inputs, "outputs": wanted})


def _values(head: bytes, body: bytes, outputs: Sequence[str]) -> dict[str, Values]:
    """The outputs of an answer. Raises Odd, ValueError, KeyError or TypeError for one that is not as it should be."""
    at = _header(head, b"inference-header-content-length")
    if not head.startswith(b"HTTP/1.1 200 ") or not 0 < at <= len(body):
        raise _Odd
    found: dict[str, Values] = {}
    for output in orjson.loads(body[:at])["outputs"]:
        size, shape = output["parameters"]["binary_data_size"], tuple(output["shape"])
        raw, at = body[at : at + size], at + size
        data: Any = raw
        if output["datatype"] == "BYTES":
            count = 1
            for extent in shape:
                count *= extent
            data = decode(raw, count)
        found[output["name"]] = Values(output["datatype"], shape, data)
    if at != len(body) or not all(name in found for name in outputs):
        raise _Odd
    return found


def _header(head: bytes, name: bytes) -> int:
    """A number among headers; -1 when it is not there."""
    lower = head.lower()
    at = lower.find(b"\r\n" + name + b":")
    if at < 0:
        return -1
    start = at + len(name) + 3
    text = lower[start : lower.index(b"\r\n", start)].strip()
    return int(text) if text.isdigit() else -1
