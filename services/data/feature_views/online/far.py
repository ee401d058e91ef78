"""Features in Redis: read in one round trip where it has all that the database has, and else from the database."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client import Counter
from redis.exceptions import OutOfMemoryError

from services.data.feature_views.domain import Entry
from services.data.feature_views.online import scripts
from services.data.feature_views.online.scripts import AT, BEGIN, COPY, HASHES, PREFIX, PUT, TOKEN
from services.data.feature_views.places import Place, Step
from services.data.feature_views.store.rows import Found, RowStore
from services.kit.errors import Failure
from services.kit.redis_link import Link
from services.kit.telemetry.metrics import REGISTRY

log = logging.getLogger(__name__)
READ = 0.05  # seconds that a read waits for Redis before it asks the database
LIFE = 24 * 3600 * 1000  # milliseconds that rows are kept which no process knows of any more
_ROWS, _BYTES = 500, 2**20  # of one script: others on the same server must not wait for long
_DEAD = 30  # seconds after which a copy that does not go on counts as dead
_FULL = 60.0  # seconds in which nothing is written to a server without memory
ROW = 80  # bytes that a row takes beside its value
reads = Counter("aimass_feature_reads", "Reads of features.", ["store"], registry=REGISTRY)
_REDIS, _DATABASE = reads.labels("redis"), reads.labels("database")


class InRedis:
    """The store. `trusted` are the places that it is read for; `behind` is set when one may lack something."""

    def __init__(
        self,
        rows: RowStore,
        url: str,
        most: int,
        tls: Path | None = None,
        any_version: bool = False,
        read: float | None = None,
    ) -> None:
        """`most` bytes are filled; `read` seconds are the limit of a read. Raises ConfigError."""
        self._link = Link(url, "AIMASS_DATA_FEATURES_URL", HASHES, tls, any_version)
        self._rows, self._redis, self._budget = rows, self._link.redis, read or READ
        self.trusted, self.behind = set[Place](), asyncio.Event()
        self.most, self.used = most, 0
        self._full_until = 0.0
        self._link.looked = self._look
        self.start, self.close = self._link.start, self._link.close

    async def read(self, place: Place, stamp: int, keys: Sequence[bytes]) -> Found:
        if place in self.trusted and self._link.up:
            try:
                at, *found = await self._link.ask(
                    lambda: self._redis.hmget(scripts.name(place), [AT, *keys]), self._budget
                )
            except Failure:
                at, found = None, []
            # Newer than the stamp is right as well: the caller's is up to a second old.
            if at is not None and int(at) >= stamp:
                _REDIS.inc()
                pairs = zip(keys, found, strict=True)
                return {key: scripts.unpacked(key, value) for key, value in pairs if isinstance(value, bytes)}
        self.behind.set()
        _DATABASE.inc()
        return await self._rows.read(place, keys)

    async def put(self, place: Place, step: Step, entries: Sequence[Entry]) -> None:
        size = size_of(entries)
        if self.full or self.used + size > self.most:
            return self.behind.set()
        pieces = list(_pieces(entries))
        try:
            for number, piece in enumerate(pieces):
                after = str(step.after) if number == len(pieces) - 1 else ""
                values = [str(step.before), after, "" if number else "1", LIFE, *_flat(piece)]
                if not await self._write(PUT, place, values):
                    return self.behind.set()
        except Failure:
            return self.behind.set()
        self.used += size
        if not step.before:
            self.trusted.add(place)
        return None

    async def forget(self, tenants: Sequence[str]) -> None:
        self.trusted = {place for place in self.trusted if place.scope.tenant not in tenants}
        for tenant in tenants:
            cursor = -1
            while cursor:
                start, pattern = max(cursor, 0), f"{PREFIX}{tenant}/*"
                cursor, names = await self._link.ask(
                    lambda start=start, pattern=pattern: self._redis.scan(start, pattern, 1000)  # type: ignore[misc]
                )
                if names:
                    await self._link.ask(lambda names=names: self._redis.unlink(*names))  # type: ignore[misc]

    @property
    def full(self) -> bool:
        """Whether the server had no memory a short while ago."""
        return time.monotonic() < self._full_until

    async def standing(self, places: Sequence[Place]) -> list[tuple[int | None, int]]:
        """The stamp of each place, None for one that is not complete, and its bytes. They live on."""

        async def ask() -> list[tuple[int | None, int]]:
            found = list[tuple[int | None, int]]()
            for start in range(0, len(places), _ROWS):
                pipe = self._redis.pipeline(transaction=False)
                for place in places[start : start + _ROWS]:
                    pipe.hget(scripts.name(place), "at")
                    pipe.memory_usage(scripts.name(place), samples=20)
                    pipe.pexpire(scripts.name(place), LIFE)
                said = await pipe.execute()
                pairs = zip(said[::3], said[1::3], strict=True)
                found += [(None if at is None else int(at), size or 0) for at, size in pairs]
            return found

        return await self._link.ask(ask, 10.0)

    async def drop(self, place: Place) -> None:
        """Drops a place. Raises unavailable."""
        self.trusted.discard(place)
        await self._link.ask(lambda: self._redis.unlink(scripts.name(place)))

    async def begin(self, place: Place, token: str, stamp: int) -> bool:
        """Begins to copy a place that is complete up to a stamp; False if somebody else does. Raises unavailable."""
        assert len(token) == TOKEN
        return await self._write(BEGIN, place, [token, stamp, _DEAD, LIFE])

    async def fill(self, place: Place, token: str, entries: Sequence[Entry], last: bool) -> bool:
        """Goes on with a copy; False if it was lost, or there is no memory. Raises unavailable."""
        self.used += size_of(entries)
        pieces = list(_pieces(entries))
        for number, piece in enumerate(pieces):
            ends = "1" if last and number == len(pieces) - 1 else ""
            if not await self._write(COPY, place, [token, _DEAD, ends, LIFE, *_flat(piece)]):
                return False
        return True

    async def _look(self) -> None:
        """Raises RedisError where our user may not read: it is away then, and not each call fails anew."""
        await self._redis.hmget(PREFIX, [AT])
        await self._redis.memory_usage(PREFIX)

    async def _write(self, script: str, place: Place, values: Sequence[object]) -> bool:
        async def run() -> bool:
            try:
                return bool(await self._link.script(script, [scripts.name(place)], values))
            except OutOfMemoryError:  # it answers, and can be read
                if not self.full:
                    log.warning("redis has no memory left for features: what it lacks is read from the database")
                self._full_until = time.monotonic() + _FULL
                return False

        return await self._link.ask(run)


def size_of(entries: Iterable[Entry]) -> int:
    """The bytes that rows take, about."""
    return sum(len(entry.value) + ROW for entry in entries)


def _flat(entries: Iterable[Entry]) -> list[bytes]:
    return [part for entry in entries for part in (entry.key, scripts.packed(entry))]


def _pieces(entries: Sequence[Entry]) -> Iterable[list[Entry]]:
    """At least one."""
    piece, size = list[Entry](), 0
    for entry in entries:
        if piece and (len(piece) == _ROWS or size + len(entry.value) > _BYTES):
            yield piece
            piece, size = [], 0
        piece.append(entry)
        size += len(entry.value)
    yield piece
