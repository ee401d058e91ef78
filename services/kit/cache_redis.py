"""The cache on Redis, for several processes. A call that takes longer than its time limit counts as a failure."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from services.kit import cache_scripts
from services.kit.allowance import Claim, Grant
from services.kit.cache_scripts import HASHES, MARKER, granted, group_names, milliseconds, name, text_bytes, values_of
from services.kit.config import ConfigError
from services.kit.errors import Unavailable
from services.kit.outage import Outage
from services.kit.tasks import cancel, keep_running

log = logging.getLogger(__name__)
T = TypeVar("T")
OLDEST = 7  # the first major version whose scripts may read the clock before they write, and whose ACL knows hashes
TAKE_BUDGET = 0.025  # seconds that a request may wait for shared token buckets
_APART = 5.0  # seconds
_BUDGET, _CONNECT, _CONNECTIONS = 1.0, 2.0, 32  # seconds of all else, and of the start; connections at a time


class _Unfit(RedisError):
    """The server is unsuitable."""


class RedisCache:
    """A cache at redis://host:port/db or rediss://."""

    near = False

    def __init__(self, url: str, tls: Path | None = None, any_version: bool = False, budget: float = TAKE_BUDGET):
        """`tls` is a folder with ca.pem, cert.pem and key.pem. Raises ConfigError for an invalid address."""
        self._outage, self._any_version, self._budget = Outage(), any_version, budget
        self._started_at, self._marker, self._run = 0.0, 0.0, ""
        self._probing: asyncio.Task[None] | None = None
        self._pool = BlockingConnectionPool(
            max_connections=_CONNECTIONS, timeout=_CONNECT, protocol=2, retry=Retry(NoBackoff(), 0), driver_info=None,
            # Calls have their own time; the library's goes by wait_for, which loses cancellations.
            redis_connect_func=self._greet, **_connection(url, tls) | {"socket_timeout": None},
        )  # fmt: skip
        self._redis: Redis = Redis.from_pool(self._pool)

    @property
    def up(self) -> bool:
        return not self._outage.away

    @property
    def born(self) -> float:
        return max(self._started_at, self._marker)

    @property
    def away_since(self) -> float | None:
        return self._outage.since

    async def start(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT):
                await self._look()
        except _Unfit as error:
            raise ConfigError(str(error)) from None
        except (RedisError, OSError) as error:
            while not self._failed(error):
                pass  # known to be unavailable: the first requests do not wait for it

    async def get(self, key: str) -> bytes | None:
        found = await self._ask(lambda: self._redis.get(name("value", key)))
        return found.encode() if isinstance(found, str) else found  # never text: nothing is decoded

    async def set(self, key: str, value: bytes, seconds: float) -> None:
        await self._ask(lambda: self._redis.set(name("value", key), value, px=milliseconds(seconds)))

    async def delete(self, key: str) -> None:
        await self._ask(lambda: self._redis.delete(name("value", key)))

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

    async def close(self) -> None:
        await cancel(self._probing)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()
            await self._pool.disconnect()

    async def _run_script(self, text: str, keys: list[bytes], values: list[Any], budget: float = _BUDGET) -> Any:
        named = [*keys, MARKER]

        async def run() -> Any:
            try:
                return await self._redis.evalsha(HASHES[text], len(named), *named, *values)
            except NoScriptError:
                await self._redis.script_load(text)
                return await self._redis.evalsha(HASHES[text], len(named), *named, *values)

        return await self._ask(run, budget)

    async def _ask(self, work: Callable[[], Awaitable[T]], budget: float = _BUDGET) -> T:
        if self._outage.away:
            raise Unavailable("redis is unavailable", retry_after=1.0)
        try:
            async with asyncio.timeout(budget):
                found = await work()
        except (RedisError, OSError) as error:
            self._failed(error)
            raise Unavailable("redis does not answer", retry_after=1.0) from None
        self._outage.worked()
        return found

    def _failed(self, error: Exception) -> bool:
        if not self._outage.failed():
            return False
        log.warning("redis is unavailable: %s", str(error) or type(error).__name__)
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(keep_running(self._probe))
        return True

    async def _probe(self) -> None:
        """Pings the server until it answers, so that no request has to wait for it."""
        while self._outage.away:
            await asyncio.sleep(self._outage.pause())
            with contextlib.suppress(RedisError, OSError):
                await self._pool.disconnect(inuse_connections=False)
                async with asyncio.timeout(_BUDGET):
                    await self._look()
                self._outage.worked()
        log.warning("redis is available again")

    async def _look(self) -> None:
        for script in HASHES:
            await self._redis.script_load(script)
        self._marker = float(await self._redis.evalsha(HASHES[cache_scripts.BORN], 1, MARKER))

    async def _greet(self, connection: AbstractConnection) -> None:
        """Checks the server of each new connection: it may have been restarted or replaced."""
        try:
            await connection.on_connect()
            await connection.send_command("INFO")
            lines = (await connection.read_response()).decode().splitlines()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        try:
            if int(info["redis_version"].partition(".")[0]) < OLDEST and not self._any_version:
                raise _Unfit(f"redis is {info['redis_version']}, which is older than {OLDEST}")
            if info["maxmemory_policy"].startswith(("allkeys", "volatile-ttl")):
                raise _Unfit(f"redis forgets what it should keep: maxmemory-policy is {info['maxmemory_policy']}")
            self._run = info["run_id"]
            self._started_at = int(info["server_time_usec"]) / 1e6 - int(info["uptime_in_seconds"])
        except KeyError as lacking:
            raise _Unfit(f"redis says nothing of its {lacking.args[0]} in INFO") from None
        except ValueError as wrong:
            raise _Unfit(f"redis says in INFO what cannot be read: {wrong}") from None


def _connection(url: str, tls: Path | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise ConfigError(f"AIMASS_CACHE_URL: {str(error).lower()}") from None
    if found.get("connection_class") is SSLConnection and tls:
        found |= {"ssl_ca_certs": str(tls / "ca.pem")}
        found |= {"ssl_certfile": str(tls / "cert.pem"), "ssl_keyfile": str(tls / "key.pem")}
    return found
