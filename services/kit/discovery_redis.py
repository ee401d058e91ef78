"""Discovery by leases in Redis: each process announces each of its services.

A lease is signed with the key of its process, so write access to the cache does not suffice to forge one. An instance
that stops withdraws its lease. If a lease vanishes otherwise, the cache may have been emptied: the instance stays for a
while, and its connection tells whether it is alive.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from typing import Any

import orjson

from services.kit import contract
from services.kit.auth import SYSTEM, Identity, Principal, Scope
from services.kit.balancing import HEAVIEST
from services.kit.cache import Cache
from services.kit.discovery import Table
from services.kit.errors import Failure
from services.kit.member import Instance
from services.kit.tasks import cancel, keep_running

log = logging.getLogger(__name__)
LEASE, _RENEW, _LOOK = 10.0, 3.0, 1.0  # seconds
_AGAIN = 0.25  # seconds until a failed write is retried
# Looks in a row that miss an instance: until it counts as dead, and until it is called no more.
_DEAD, _GONE = 3, 10
_GROUP = "discovery"


class Leases:
    """The leases of all processes, and those of this one."""

    leased = True

    def __init__(self, cache: Cache, identity: Identity, look: float = _LOOK, weight: int = 1) -> None:
        """`cache` is started and closed by it. `weight` is that of this process."""
        self._cache, self._identity, self._every, self._weight = cache, identity, look, weight
        # By service and id: where, and how many looks have missed it.
        self._seen: dict[tuple[str, str], tuple[Instance, int]] = {}
        self._places: Mapping[str, str] = {}
        # The services that this process has left.
        self._left: Collection[str] = ()
        self._refused: set[str] = set()
        self._following: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    def knows(self, service: str) -> bool:
        return service in _owners()

    async def start(self, update: Callable[[Table], None]) -> None:
        await self._cache.start()
        await self._look(update)
        self._following = asyncio.create_task(keep_running(partial(self._follow, update)))

    async def _follow(self, update: Callable[[Table], None]) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._look(update)

    async def _look(self, update: Callable[[Table], None]) -> None:
        try:
            found = await self._cache.members(_GROUP)
        except Failure:
            return  # the last table stays; the cache logs that it is unavailable
        missed = {key: (instance, misses + 1) for key, (instance, misses) in self._seen.items() if misses < _GONE}
        for member, value in found.items():
            service, _, name = member.partition("/")
            if (content := self._verified(member, value)) is None:
                continue
            if content["leaving"]:
                missed.pop((service, name), None)
            else:
                missed[service, name] = Instance(name, content["address"], content["weight"]), 0
        self._seen = missed
        table: dict[str, list[Instance]] = {}
        for (service, _), (instance, _) in sorted(self._seen.items()):
            table.setdefault(service, []).append(instance)
        update(table)

    def _verified(self, member: str, value: bytes) -> Any:
        """The content of a lease; None if it is not signed by the process that it names."""
        try:
            content = orjson.loads(value)
            address, leaving = str(content["address"]), bool(content["leaving"])
            weight = min(max(int(content.get("weight", 1)), 1), HEAVIEST)
            principal = self._identity.verify(content["token"], _audience(member, address, leaving, weight))
            if principal.id == f"service:{member.partition('/')[0]}" and principal.scope.tenant == SYSTEM:
                return {"address": address, "leaving": leaving, "weight": weight}
        except (Failure, orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
            pass
        if member not in self._refused and len(self._refused) < 1000:
            self._refused.add(member)
            log.warning(
                "the registration of %s is ignored: no process of this installation has signed it", member[:200]
            )
        return None

    async def announce(self, places: Mapping[str, str]) -> None:
        """Writes the leases, at once or, while the cache is unavailable or refuses for long, later."""
        self._places, until = dict(places), time.monotonic() + LEASE
        written = await self._write_leases(leaving=False)
        while not written and self._cache.up and time.monotonic() < until:
            await asyncio.sleep(_AGAIN)
            written = await self._write_leases(leaving=False)
        self._renewing = asyncio.create_task(keep_running(partial(self._renew, written)))

    async def _renew(self, written: bool) -> None:
        while True:
            await asyncio.sleep(_RENEW if written else _AGAIN)
            written = await self._write_leases(leaving=False)

    async def _write_leases(self, leaving: bool) -> bool:
        """Writes the leases; whether all succeeded."""
        for service, address in self._places.items():
            member = f"{service}/{self._identity.name}"
            principal = Principal(Scope(SYSTEM), f"service:{service}", ())
            token = self._identity.token(_audience(member, address, leaving, self._weight), principal)
            lease = {"address": address, "leaving": leaving, "weight": self._weight, "token": token}
            try:
                await self._cache.announce(_GROUP, member, orjson.dumps(lease), LEASE)
            except Failure:
                return False  # the next time comes
        return True

    async def withdraw(self) -> None:
        await cancel(self._renewing)
        await self._write_leases(leaving=True)
        self._left, self._places = tuple(self._places), {}

    def living(self, service: str) -> frozenset[str]:
        return frozenset(
            name for (owner, name), (_, misses) in self._seen.items() if owner == service and misses < _DEAD
        )

    async def close(self) -> None:
        await cancel(self._renewing)
        await cancel(self._following)
        with contextlib.suppress(Failure):  # they expire
            # By now others know; later readers could not verify it, as this process withdraws its key.
            for service in self._left:
                await self._cache.withdraw(_GROUP, f"{service}/{self._identity.name}")
        self._left = ()
        await self._cache.close()


def _audience(member: str, address: str, leaving: bool, weight: int) -> str:
    text = f"{_GROUP}/{member}/{address}/{leaving}"
    return text if weight == 1 else f"{text}/{weight}"  # older versions do not know weights


@cache
def _owners() -> frozenset[str]:
    return frozenset(method.owner for method in contract.all_methods().values())
