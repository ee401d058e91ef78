"""A pool of connections to a Redis that may be away: calls have a time limit, and cost nothing while it is away."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from services.kit.config import ConfigError
from services.kit.errors import Unavailable
from services.kit.outage import Outage
from services.kit.tasks import cancel, keep_running

log = logging.getLogger(__name__)
T = TypeVar("T")
OLDEST = 7  # the first major version whose scripts may read the clock before they write, and whose ACL knows hashes
BUDGET = 1.0  # seconds of a call that says nothing else
_CONNECT, _CONNECTIONS = 2.0, 32  # seconds of the start; connections at a time


class Unfit(RedisError):
    """The server is unsuitable."""


class Link:
    """Connections to redis://host:port/db or rediss://. Every call raises unavailable, at once while it is away."""

    def __init__(
        self,
        url: str,
        variable: str,
        scripts: Mapping[str, str],
        tls: Path | None = None,
        any_version: bool = False,
        greeted: Callable[[Mapping[str, str]], None] = lambda info: None,
    ) -> None:
        """`variable` is what errors call the address; `scripts` are texts with their digests.

        `greeted` takes what the server says in INFO to each new connection, and raises Unfit or KeyError. `tls` is a
        folder with ca.pem, cert.pem and key.pem. Raises ConfigError for an invalid address.
        """
        self.outage, self._variable, self._scripts, self._any_version = Outage(), variable, scripts, any_version
        self._greeted = greeted
        self.looked: Callable[[], Awaitable[None]] | None = None  # called at the start and when it is back
        self._probing: asyncio.Task[None] | None = None
        self._pool = BlockingConnectionPool(
            max_connections=_CONNECTIONS, timeout=_CONNECT, protocol=2, retry=Retry(NoBackoff(), 0), driver_info=None,
            # Calls have their own time; the library's goes by wait_for, which loses cancellations.
            redis_connect_func=self._greet, **_connection(url, variable, tls) | {"socket_timeout": None},
        )  # fmt: skip
        self.redis: Redis = Redis.from_pool(self._pool)

    @property
    def up(self) -> bool:
        """Whether it is not known to be away."""
        return not self.outage.away

    async def start(self) -> None:
        """Connects, or continues without a connection. Raises ConfigError for an unsuitable server."""
        try:
            async with asyncio.timeout(_CONNECT):
                await self._look()
        except Unfit as error:
            raise ConfigError(f"{self._variable}: {error}") from None
        except (RedisError, OSError) as error:
            while not self._failed(error):
                pass  # known to be unavailable: the first requests do not wait for it

    async def ask(self, work: Callable[[], Awaitable[T]], budget: float = BUDGET) -> T:
        """The result of some work with `redis`, within so many seconds."""
        if self.outage.away:
            raise Unavailable("redis is unavailable", retry_after=1.0)
        try:
            async with asyncio.timeout(budget):
                found = await work()
        except (RedisError, OSError) as error:
            self._failed(error)
            raise Unavailable("redis does not answer", retry_after=1.0) from None
        self.outage.worked()
        return found

    async def run(self, text: str, keys: Sequence[bytes], values: Sequence[Any], budget: float = BUDGET) -> Any:
        """The result of one of the scripts, which is brought again where the server has forgotten it."""
        return await self.ask(lambda: self.script(text, keys, values), budget)

    async def script(self, text: str, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """The same without a time limit, for work that `ask` is given. Raises RedisError."""
        try:
            return await self.redis.evalsha(self._scripts[text], len(keys), *keys, *values)
        except NoScriptError:
            await self.redis.script_load(text)
            return await self.redis.evalsha(self._scripts[text], len(keys), *keys, *values)

    async def close(self) -> None:
        """Ends the connections."""
        await cancel(self._probing)
        with contextlib.suppress(RedisError, OSError):
            await self.redis.aclose()
            await self._pool.disconnect()

    def _failed(self, error: Exception) -> bool:
        if not self.outage.failed():
            return False
        log.warning("redis is unavailable: %s", str(error) or type(error).__name__)
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(keep_running(self._probe))
        return True

    async def _probe(self) -> None:
        """Pings the server until it answers, so that no request has to wait for it."""
        while self.outage.away:
            await asyncio.sleep(self.outage.pause())
            with contextlib.suppress(RedisError, OSError):
                await self._pool.disconnect(inuse_connections=False)
                async with asyncio.timeout(BUDGET):
                    await self._look()
                self.outage.worked()
        log.warning("redis is available again")

    async def _look(self) -> None:
        for script in self._scripts:
            await self.redis.script_load(script)
        if self.looked:
            await self.looked()

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
                raise Unfit(f"redis is {info['redis_version']}, which is older than {OLDEST}")
            self._greeted(info)
        except KeyError as lacking:
            raise Unfit(f"redis says nothing of its {lacking.args[0]} in INFO") from None
        except ValueError as wrong:
            raise Unfit(f"redis says in INFO what cannot be read: {wrong}") from None


def _connection(url: str, variable: str, tls: Path | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise ConfigError(f"{variable}: {str(error).lower()}") from None
    if found.get("connection_class") is SSLConnection and tls:
        found |= {"ssl_ca_certs": str(tls / "ca.pem")}
        found |= {"ssl_certfile": str(tls / "cert.pem"), "ssl_keyfile": str(tls / "key.pem")}
    return found
