"""Damaged HTTP requests, one after the other on many connections, and what their answers say."""

import asyncio
import base64
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, cast

from tests.fuzz import wire
from tests.fuzz.judging import judged
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import Pairs, Seed, dressed, seeds
from tests.fuzz.target import Target, Wrong

_AT_ONCE = 96
_SILENCE = 0.25  # seconds without a byte; what is incomplete has no answer
_SLOW = 4  # times what answers take lately; so long no answer is silence
_PAUSES = (0.0, 0.0, 0.002)
_PUBLIC = ("/health/live", "/health/ready", "/v1/login")
_PAGES = (b"/", b"/docs", b"/docs/start.js")


class Shot(NamedTuple):
    """Bytes for one connection, in some writes; behind them asks one who is well-behaved."""

    pieces: Sequence[bytes]
    damaged: bytes
    credential: bytes  # what of it proves who asks; empty: nobody does


class Shots:
    """Shots by number: the same number makes the same damage."""

    def __init__(self, target: Target, seed: int) -> None:
        self._target, self._seed = target, seed
        self._seeds = seeds(target.upload)
        self._weights = [one.weight for one in self._seeds]
        self._signed = [one for one in self._seeds if one.target.startswith((b"/v1/models", b"/v2"))]

    def make(self, number: int) -> Shot:
        chance = random.Random(self._seed << 40 | number)
        seed, other = chance.choices(self._seeds, self._weights, k=2)
        kind = chance.random()
        if kind < 0.05:
            seed = chance.choice(self._signed)
        credential, proof = self._credential(kind, seed)
        start, body = dressed(seed, credential, chance)
        strange, rest = dressed(other, self._credential(1.0 if not proof else 0.5, other)[0], chance)
        damaged = _damaged(chance, start, body, strange + rest)
        behind = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: z%d\r\n\r\n" % number
        return Shot(_cut(chance, damaged + behind), damaged, proof)

    def _credential(self, kind: float, seed: Seed) -> tuple[Pairs, bytes]:
        target = self._target
        if kind < 0.05:
            path, _, query = seed.target.decode().partition("?")
            headers = {name.decode().lower(): value.decode() for name, value in seed.headers}
            made = target.signer.headers(seed.method.decode(), "localhost", path, query, headers, seed.body)
            pairs = tuple((name.encode(), value.encode()) for name, value in made.items())
            return pairs, made["signature"].encode()
        if kind < 0.3 and seed.target in _PAGES:
            basic = base64.b64encode(f":{target.key}".encode())
            return ((b"Authorization", b"Basic " + basic),), basic
        if kind < 0.8:
            return ((b"Authorization", b"Bearer " + target.key.encode()),), target.key.encode()
        if kind < 0.95:
            return ((b"Authorization", b"Bearer " + target.stranger.encode()),), b""
        return (), b""


def _damaged(chance: random.Random, start: bytes, body: bytes, other: bytes) -> bytes:
    """Mostly anywhere; else in the body alone, whose length is then right, or in the target alone."""
    where = chance.random()
    if where < 0.3 and body and b"Content-Length: %d" % len(body) in start:
        new = mutated(chance, body, other)
        return start.replace(b"Content-Length: %d" % len(body), b"Content-Length: %d" % len(new)) + new
    if where < 0.4:
        method, target, rest = start.split(b" ", 2)
        return b" ".join((method, re.sub(rb"[\x00-\x20\x7f]", b"", mutated(chance, target, other)), rest)) + body
    if where < 0.6:
        return mutated(chance, start, other) + body
    return mutated(chance, start + body, other)


def _cut(chance: random.Random, data: bytes) -> Sequence[bytes]:
    if chance.random() < 0.9:
        return (data,)
    places = sorted(chance.randrange(len(data)) for _ in range(chance.choice((1, 1, 2, 5))))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


class Connection(asyncio.Protocol):
    """One connection: a shot, all that comes, the next shot."""

    def __init__(self) -> None:
        self.open, self._came = False, bytearray()
        self._mark, self._tail = b"", b""
        self._done: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        self._came += data
        self._heard = asyncio.get_running_loop().time()
        if self._came.endswith(self._tail) and self._came.find(self._mark, -600) >= 0:
            self._end(True)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._end(False)

    def _end(self, whole: bool) -> None:
        if self._done and not self._done.done():
            self._done.set_result(whole)

    async def fire(self, pieces: Sequence[bytes], mark: bytes, tail: bytes, silence: float) -> tuple[bytes, bool]:
        """What came, and whether the connection goes on. Ends with an answer that has `mark` and `tail`, or silence."""
        loop = asyncio.get_running_loop()
        self._mark, self._tail, self._done = mark, tail, loop.create_future()
        self._came.clear()
        self._heard = loop.time()
        for index, piece in enumerate(pieces):
            if index:
                await asyncio.sleep(_PAUSES[index % len(_PAUSES)])
            if self.open:
                self._transport.write(piece)
        while not self._done.done() and (left := self._heard + silence - loop.time()) > 0:
            await asyncio.wait((self._done,), timeout=left)
        whole = self._done.done() and self._done.result()
        if not whole:
            self.close()
        return bytes(self._came), whole

    @property
    def silent(self) -> bool:
        """Whether it was we who ended it."""
        return not (self._done and self._done.done())

    def close(self) -> None:
        self.open = False
        self._transport.abort()


class Http:
    """Fires shots; tells what is wrong with their answers."""

    def __init__(self, target: Target, shots: Shots, wrong: Wrong) -> None:
        self._target, self._shots, self._wrong = target, shots, wrong
        self.said: Counter[str] = Counter()  # statuses; silence
        self._usual = 0.1  # seconds that answers take lately
        self._live, *others = (target.get(path, "nobody").content for path in _PUBLIC)
        self._public = {self._live, *others, b""}

    async def fire(self, first: int, end: int) -> None:
        """The shots with these numbers."""
        numbers = iter(range(first, end))

        async def some() -> None:
            connection: Connection | None = None
            for number in numbers:
                if connection is None or not connection.open:
                    loop = asyncio.get_running_loop()
                    _, connection = await loop.create_connection(Connection, "127.0.0.1", self._target.port)
                await self.one(number, connection)
            if connection:
                connection.close()

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    def close(self) -> None:
        """Nothing stays open between shots."""

    async def one(self, number: int, connection: Connection) -> bytes:
        """What came for a number."""
        shot, begun = self._shots.make(number), time.monotonic()
        silence = max(_SILENCE, _SLOW * self._usual)
        came, whole = await connection.fire(shot.pieces, b"x-request-id: z%d\r\n" % number, self._live, silence)
        if whole:
            self._usual += (time.monotonic() - begun - self._usual) / 50
        if what := self.judge(shot, came, whole or connection.silent):
            self._wrong(number, what, shot.damaged)
        return came

    def judge(self, shot: Shot, came: bytes, cut: bool) -> str:
        """What is wrong with what came for a shot; empty if nothing. `cut`: it need not have come to its end."""
        if b"Traceback" in came:
            return "a traceback came"
        try:
            answers, rest = wire.stream(came)
        except ValueError as error:
            return str(error)
        if rest and not cut:
            return f"the connection broke in an answer: {rest[:200]!r}"
        key = self._target.key.encode()
        proven = key in shot.damaged or (bool(shot.credential) and shot.credential in shot.damaged)
        for answer in answers:
            self.said[str(answer.status)] += 1
            if what := judged(answer, shot.damaged, proven, self._public):
                return what
        if not answers:
            self.said["silence"] += 1
        return ""


async def replay(target: Target, data: bytes) -> str:
    """What is answered to the bytes of a finding, sent on a connection of their own."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", target.port)
    came, _ = await connection.fire([target.secrets.show(data)], b"\xff", b"\xff", 2.0)
    connection.close()
    return came.decode(errors="replace")
