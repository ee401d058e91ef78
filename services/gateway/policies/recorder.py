"""A sample of decisions by tenant, on which new versions of the policies are tested.

Only distinct decisions are kept: the same caller, method, object, address and size once in an hour. A few predictions
a second are looked at; beyond that they cost nothing where there are no rules.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from services.gateway.policies.domain.rules import Decision, Facts
from services.gateway.policies.store.decisions import DecisionStore
from services.kit.errors import Failure
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
EVERY = 1.0  # seconds between two writes, and after which a tenant is looked at again
_LOOKS = 20  # predictions of a tenant that are looked at between two writes
_AN_HOUR = 3600  # writes after which the same is kept again
_KEPT = 1000  # decisions of a tenant that are kept in an hour
_ALIKE = 20  # of them that differ in their object only
_MOST = 100_000  # that are remembered of all tenants


@dataclass(slots=True)
class _Seen:
    """The decisions of a tenant kept in this hour, and how many predictions may be sampled until the next write."""

    keys: set[tuple[object, ...]]
    alike: dict[tuple[object, ...], int]
    left: int = _LOOKS


class Recorder:
    """Takes decisions; never waits."""

    def __init__(self, store: DecisionStore) -> None:
        self._store = store
        self._seen: dict[str, _Seen] = {}
        self._waiting: list[Decision] = []
        self._count = 0
        self._away = False
        # Takes personal data out of what is kept of a tenant.
        self.clean: Callable[[str, str], str] = lambda tenant, text: text
        # Told of each tenant that is looked at again.
        self.again: Callable[[Iterable[str]], None] = lambda tenants: None

    def take(self, tenant: str, facts: Facts, rule: str, version: int, hot: bool = False) -> bool:
        """Takes a decision if it is worth keeping. False: no more of a tenant's `hot` ones are looked at for now."""
        seen = self._seen.get(tenant)
        if seen is None:
            seen = self._seen[tenant] = _Seen(set(), {})
        if hot and seen.left <= 0:
            return False
        seen.left -= hot
        size = facts.rows.bit_length(), facts.bytes.bit_length()
        alike = facts.principal, facts.project, facts.permission, facts.method, facts.address, rule, version, *size
        key = (*alike, facts.thing)
        if key not in seen.keys and len(seen.keys) < _KEPT and seen.alike.get(alike, 0) < _ALIKE:
            seen.keys.add(key)
            seen.alike[alike] = seen.alike.get(alike, 0) + 1
            self._count += 1
            if (thing := self.clean(tenant, facts.thing)) != facts.thing:
                facts = replace(facts, thing=thing)
            self._waiting.append(Decision(tenant, uuid7(), facts, rule, version))
        return not hot or seen.left > 0

    async def run(self) -> None:
        """Writes what waits, again and again."""
        while True:
            for _ in range(_AN_HOUR):
                await asyncio.sleep(EVERY)
                await self.write()
                if self._count > _MOST:
                    break
            self._seen.clear()
            self._count = 0

    async def write(self) -> None:
        """Writes what waits, and samples all tenants again. What cannot be written is dropped: it is a sample."""
        waiting, self._waiting = self._waiting, []
        self.again([tenant for tenant, seen in self._seen.items() if seen.left < _LOOKS])
        for seen in self._seen.values():
            seen.left = _LOOKS
        if not waiting:
            return
        try:
            await self._store.add(waiting)
            self._away = False
        except Failure as failure:
            if not self._away:
                log.warning("decisions are not kept: %s", failure)
            self._away = True
