"""The cache on Redis, for several processes. A call that takes longer than its time limit counts as a failure."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.kit import cache_scripts
from services.kit.allowance import Claim, Grant
from services.kit.cache_scripts import HASHES, MARKER, granted, group_names, milliseconds, name, text_bytes, values_of
from services.kit.errors import Unavailable
from services.kit.redis_link import BUDGET, Link, Unfit

TAKE_BUDGET = 0.025  # seconds that a request may wait for shared token buckets
_APART = 5.0  # seconds


class RedisCache:
    """A cache at redis://host:port/db or rediss://."""

    near = False

    def __init__(self, url: str, tls: Path | None = None, any_version: bool = False, budget: float = TAKE_BUDGET):
        """`tls` is a folder with ca.pem, cert.pem and key.pem. Raises ConfigError for an invalid address."""
        self._budget, self._started_at, self._marker, self._run = budget, 0.0, 0.0, ""
        self._link = Link(url, "AIMASS_CACHE_URL", HASHES, tls, any_version, self._greeted)
        self._link.looked = self._look
        self._redis = self._link.redis
        self.start, self.close = self._link.start, self._link.close

    @property
    def up(self) -> bool:
        return self._link.up

    @property
    def born(self) -> float:
        return max(self._started_at, self._marker)

    @property
    def away_since(self) -> float | None:
        return self._link.outage.since

    async def get(self, key: str) -> bytes | None:
        found = await self._link.ask(lambda: self._redis.get(name("value", key)))
        return found.encode() if isinstance(found, str) else found  # never text: nothing is decoded

    async def set(self, key: str, value: bytes, seconds: float) -> None:
        await self._link.ask(lambda: self._redis.set(name("value", key), value, px=milliseconds(seconds)))

    async def delete(self, key: str) -> None:
        await self._link.ask(lambda: self._redis.delete(name("value", key)))

    async def add(self, key: str, seconds: float) -> bool:
        added, epoch, now = await self._run_script(cache_scripts.ADD, [name("once", key)], [milliseconds(seconds)])
        self._marker = float(epoch)
        if abs(float(now) - time.time()) > _APART:  # what it remembers may have ended before its time
            raise Unavailable("the clock of redis differs from ours by more than 5 s", retry_after=1.0)
        return bool(added)

    async def announce(self, group: str, member: str, value: bytes, seconds: float) -> None:
        values = [text_bytes(member), value, milliseconds(seconds)]
        await self._run_script(cache_scripts.ANNOUNCE, group_names(group), values)

    async def withdraw(self, group: str, member: str) -> None:
        await self._run_script(cache_scripts.WITHDRAW, group_names(group), [text_bytes(member)])

    async def members(self, group: str) -> dict[str, bytes]:
        flat = await self._run_script(cache_scripts.MEMBERS, group_names(group), [])
        names = [name.decode("utf-8", "surrogatepass") for name in flat[::2]]
        return dict(zip(names, flat[1::2], strict=True))

    async def take(self, key: str, claim: Claim) -> Grant:
        return (await self.take_all([(key, claim)]))[0]

    async def take_all(self, claims: Sequence[tuple[str, Claim]]) -> list[Grant]:
        pots, values = [name("pot", key) for key, _ in claims], values_of(claims, self._run)
        found = await self._run_script(cache_scripts.TAKE, pots, values, self._budget)
        self._marker = float(found[-1])
        return granted(found, self._run)

    async def _run_script(self, text: str, keys: list[bytes], values: list[Any], budget: float = BUDGET) -> Any:
        return await self._link.run(text, [*keys, MARKER], values, budget)

    async def _look(self) -> None:
        self._marker = float(await self._redis.evalsha(HASHES[cache_scripts.BORN], 1, MARKER))

    def _greeted(self, info: Mapping[str, str]) -> None:
        if info["maxmemory_policy"].startswith(("allkeys", "volatile-ttl")):
            raise Unfit(f"redis forgets what it should keep: maxmemory-policy is {info['maxmemory_policy']}")
        self._run = info["run_id"]
        self._started_at = int(info["server_time_usec"]) / 1e6 - int(info["uptime_in_seconds"])
