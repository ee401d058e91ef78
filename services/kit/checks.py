"""Active checks: each instance of a service is asked how it is, again and again, whether it is called or not.

An instance that fails several checks in a row is not called, until it passes several in a row. When all fail, checks
say nothing: this process itself may be cut off, so calls go on as before.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2

from services.kit.member import Member
from services.kit.pool import Pool
from services.kit.tally import CheckRules, Tally
from services.kit.tasks import keep_running

log = logging.getLogger(__name__)
_LOOK = 0.5  # seconds between looks for services that are to be checked
_HEALTH = "/grpc.health.v1.Health/Check"
_ENCODE, _DECODE = health_pb2.HealthCheckRequest.SerializeToString, health_pb2.HealthCheckResponse.FromString
_LINE = 200  # bytes of an answer's first line


class Checks:
    """The checks of one service."""

    def __init__(self, pool: Pool, rules: Callable[[], CheckRules | None]) -> None:
        """`rules` says how to check now; None: not at all."""
        self._pool, self._rules = pool, rules
        self._tallies: dict[Member, Tally] = {}

    async def run(self) -> None:
        """Checks for ever."""
        try:
            while True:
                began, rules = time.monotonic(), self._rules()
                if rules is None:
                    self._forget()
                    await asyncio.sleep(_LOOK)
                    continue
                await self.round(rules)
                await asyncio.sleep(max(began + rules.interval - time.monotonic(), 0.01))
        finally:
            self._forget()

    async def round(self, rules: CheckRules) -> None:
        """Asks each connected instance once."""
        pool = self._pool
        asked = [member for member in pool.members if member.connected]
        passed = await asyncio.gather(*(_passes(member, rules) for member in asked))
        self._tallies = {member: self._tallies.get(member) or Tally() for member in pool.members}
        for member, answer in zip(asked, passed, strict=True):
            if (tally := self._tallies.get(member)) is None:
                continue  # it has left meanwhile
            member.well = tally.add(answer, rules.rise, rules.fall)
        self._settle(rules.panic)

    def _settle(self, panic: float) -> None:
        ill = frozenset(member for member in self._pool.members if not member.well)
        for member in (ill ^ self._pool.ill).intersection(self._pool.members):
            state = "fails its checks" if member in ill else "passes its checks again"
            log.warning("%s at %s %s", self._pool.service, member.instance.address, state)
        self._pool.ill, self._pool.panic = ill, panic

    def _forget(self) -> None:
        for member in self._tallies:
            member.well = True
        self._tallies, self._pool.ill = {}, frozenset()


async def watch(pools: Callable[[], Collection[Pool]], rules: Callable[[str], CheckRules | None]) -> None:
    """Checks the services that rules speak of, for ever."""
    running = dict[Pool, asyncio.Task[None]]()
    try:
        while True:
            for pool in pools():
                if pool not in running and rules(pool.service):
                    checks = Checks(pool, lambda service=pool.service: rules(service))  # type: ignore[misc]
                    running[pool] = asyncio.get_running_loop().create_task(keep_running(checks.run))
            await asyncio.sleep(_LOOK)
    finally:
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)


async def _passes(member: Member, rules: CheckRules) -> bool:
    try:
        async with asyncio.timeout(rules.timeout):
            if rules.port is None:
                return await _serves(member, rules.timeout)
            host = member.instance.address.rpartition(":")[0].strip("[]")
            return await _answers(host, rules.port, rules.path)
    except (TimeoutError, OSError, aio.AioRpcError, ValueError):
        return False


async def _serves(member: Member, seconds: float) -> bool:
    ask: Any = member.method("unary_unary", _HEALTH, _ENCODE, _DECODE)
    answer = await ask(health_pb2.HealthCheckRequest(), timeout=seconds)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _answers(host: str, port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection(host, port, limit=_LINE)
    try:
        named = f"[{host}]" if ":" in host else host
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {named}:{port}\r\nConnection: close\r\n\r\n".encode())
        version, _, rest = (await reader.readline()).partition(b" ")
        return version.startswith(b"HTTP/1.") and rest[:1] == b"2"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
