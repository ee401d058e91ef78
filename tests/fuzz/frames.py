"""Damaged bytes of HTTP/2 at the gRPC door: frames with other lengths, kinds, flags and streams, headers torn apart."""

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, cast

from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target, Wrong

_AT_ONCE = 48
_SILENCE = 0.3  # seconds
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _AWAY, _WINDOW, _MORE = range(10)
_LAST = 99  # the stream of the one who is well-behaved
_WHO, _GET = "/aimass.v1.Access/WhoAmI", "/aimass.v1.Models/GetModel"
_WORDS = (0, 1, 2**14 - 1, 2**14, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)


class Frame(NamedTuple):
    """One frame of HTTP/2 (RFC 9113, 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    def whole(self) -> bytes:
        start = struct.pack(">I", len(self.payload))[1:] + bytes([self.kind & 255, self.flags & 255])
        return start + struct.pack(">I", self.stream & 0xFFFFFFFF) + self.payload


def literal(name: str, value: str) -> bytes:
    """A header that no table keeps (RFC 7541, 6.2.2), both parts shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def call(stream: int, path: str, key: str, content: bytes = b"", **more: str) -> list[Frame]:
    """A whole call."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    headers |= {"content-type": "application/grpc", "authorization": f"Bearer {key}"} | more
    head = b"".join(literal(name, value) for name, value in headers.items())
    return [
        Frame(_HEADERS, 4, stream, head),
        Frame(_DATA, 1, stream, b"\x00" + struct.pack(">I", len(content)) + content),
    ]


class Frames:
    """Fires them, each on a connection of its own."""

    def __init__(self, target: Target, seed: int, wrong: Wrong) -> None:
        self._target, self._seed, self._wrong = target, seed, wrong
        self.said: Counter[str] = Counter()

    def make(self, number: int) -> tuple[bytes, bytes]:
        """What is damaged, and what comes behind it."""
        chance = random.Random(self._seed << 40 | number)
        target = self._target
        key = target.key if chance.random() < 0.8 else target.stranger
        frames = [Frame(_SETTINGS, 0, 0, b"")]
        for stream in range(1, 2 * chance.choice((1, 1, 2, 4)), 2):
            path, content = chance.choice(
                ((_WHO, b""), (_GET, b"\x0a\x01m"), ("/inference.GRPCInferenceService/ServerLive", b""))
            )
            frames += call(stream, path, key, content, **{"grpc-timeout": "5S"} if chance.random() < 0.2 else {})
        if chance.random() < 0.7:
            for _ in range(chance.choice((1, 1, 2, 3))):
                at = chance.randrange(len(frames))
                frames[at : at + 1] = _changed(chance, frames[at])
            data = b"".join(frame.whole() for frame in frames)
        else:
            whole = b"".join(frame.whole() for frame in frames)
            data = mutated(chance, whole, whole)
        start = mutated(chance, _PREFACE, data) if chance.random() < 0.03 else _PREFACE
        return start + data, b"".join(frame.whole() for frame in call(_LAST, _WHO, target.key))

    async def fire(self, first: int, end: int) -> None:
        """The shots with these numbers."""
        numbers, loop = iter(range(first, end)), asyncio.get_running_loop()
        port = int(self._target.server.grpc.rpartition(":")[2])

        async def some() -> None:
            for number in numbers:
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
                self.said[await connection.fire(*self.make(number))] += 1

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    def close(self) -> None:
        """Nothing stays open between shots."""


class _Connection(asyncio.Protocol):
    """One connection, until the last stream is answered, the door closes it, or nothing comes."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        while len(self._came) >= 9:
            size = int.from_bytes(self._came[:3], "big")
            if len(self._came) < 9 + size:
                return
            kind, flags, stream = self._came[3], self._came[4], int.from_bytes(self._came[5:9], "big")
            del self._came[: 9 + size]
            if stream == _LAST and (kind == _RESET or (kind == _HEADERS and flags & 1)):
                self._end("answered")

    def connection_lost(self, error: Exception | None) -> None:
        self._end("closed")

    def _end(self, said: str) -> None:
        if not self._said.done():
            self._said.set_result(said)

    async def fire(self, damaged: bytes, behind: bytes) -> str:
        self._transport.write(damaged)
        self._transport.write(behind)
        done, _ = await asyncio.wait((self._said,), timeout=_SILENCE)
        self._transport.abort()
        return self._said.result() if done else "silence"


def _changed(chance: random.Random, frame: Frame) -> Sequence[Frame]:
    word = struct.pack(">I", chance.choice(_WORDS))
    match chance.randrange(12):
        case 0:
            return [frame._replace(kind=chance.choice((*range(12), 255)))]
        case 1:
            return [frame._replace(flags=frame.flags ^ 1 << chance.randrange(8))]
        case 2:
            return [frame._replace(stream=chance.choice((0, 1, 2, 3, 5, _LAST, 2**31 - 1, 2**31)))]
        case 3:
            return [frame._replace(payload=mutated(chance, frame.payload, frame.payload))]
        case 4:
            half = len(frame.payload) // 2
            first, rest = frame.payload[:half], frame.payload[half:]
            return [frame._replace(flags=0, payload=first), Frame(_MORE, chance.choice((0, 4)), frame.stream, rest)]
        case 5:
            return [frame, frame]
        case 6:
            return [frame, Frame(_RESET, 0, frame.stream, word)]
        case 7:
            return [Frame(_WINDOW, 0, chance.choice((0, frame.stream)), word), frame]
        case 8:
            return [
                Frame(_SETTINGS, 0, 0, chance.randbytes(2) + word + bytes([0, chance.randrange(1, 7)]) + word),
                frame,
            ]
        case 9:
            return [Frame(chance.choice((_PING, _AWAY, _PRIORITY, _PUSH)), 0, 0, chance.randbytes(8)), frame]
        case 10:
            return []
    return [frame._replace(payload=frame.payload + literal(chance.choice(("te", ":path", "x", "grpc-encoding")), "x"))]
