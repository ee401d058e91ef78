"""Keeping the keyring as the database has it, whoever changed it: by events, and by looking."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from services.gateway.access.keyring import EPOCH, Keyring
from services.gateway.access.store import AccessStore
from services.gateway.roles.service import Roles
from services.kit.errors import Failure

log = logging.getLogger(__name__)
_MARGIN = timedelta(minutes=1)  # by which clocks of gateways may differ, and that a transaction may take
POLL = 0.5  # seconds; a revocation counts everywhere after one, although no event tells of it


class Following:
    """Brings what other gateways change into the ring of this one."""

    def __init__(self, store: AccessStore, roles: Roles, ring: Callable[[], Keyring]) -> None:
        self._store, self._roles, self._ring = store, roles, ring
        self._away = False
        self._making = 0

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """Around the making of a tenant here: its row may be there before the ring knows it."""
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1

    async def reload(self) -> None:
        """Takes all keys from the database; keeps what is held when it cannot be reached."""
        try:
            await self._take(self._ring().turn)
        except Failure as failure:
            log.warning("keys stay as they were: %s", failure)

    async def _take(self, turn: int) -> None:
        """Takes all keys and roles, both or neither: who keeps what somebody may sees by the ring that it changed."""
        read = await self._store.everything()
        await self._roles.load()  # nothing is waited for between what it takes and the ring
        self._ring().replace(*read, turn)

    async def heard_of_tenant(self, name: str, generation: int) -> None:
        """It was changed, here or by another gateway; the database says how it is now."""
        if not self._ring().knows_tenant(name, generation):
            try:
                if found := await self._store.find_tenant(name):
                    self._ring().tenant(found)
            except Failure as failure:
                log.warning("the tenant %s stays as it was: %s", name, failure)

    async def heard_of_key(self, prefix: str, generation: int) -> None:
        """It was changed, here or by another gateway; the database says how it is now."""
        if not self._ring().knows_key(prefix, generation):
            await self.reload()

    async def watch(self) -> None:
        """Asks the database for keys of other gateways, for ever. A database that one process holds needs no asking."""
        seen: tuple[int, ...] = ()
        while not self._store.near:
            await asyncio.sleep(POLL)
            seen = await self._renew(seen)

    async def _renew(self, seen: tuple[int, ...]) -> tuple[int, ...]:
        """Reads what has changed since; says only once that the database is away."""
        try:
            found = await self._store.revision()
            changes, turn = (*found[1:], *await self._roles.revision()), self._ring().turn
            if changes != seen:
                await self._take(turn)
            # Those that are being made here are in the ring in a moment.
            elif found.tenants > self._ring().tenants + self._making:
                await self._newcomers(found.tenants)
            self._away = False
            return changes
        except Failure as failure:
            if not self._away:
                log.warning("keys stay as they were: %s", failure)
            self._away = True
            return seen

    async def _newcomers(self, count: int) -> None:
        """Takes tenants that other gateways have made: the latest, or all where that does not make up the number."""
        for since in (self._ring().newest - _MARGIN, EPOCH):
            if self._ring().tenants < count:
                for tenant in await self._store.tenants_since(since):
                    self._ring().tenant(tenant)
