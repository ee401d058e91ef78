"""Keeps the keyring as the database has it, by events and by polling."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from services.gateway.access.keyring import EPOCH, Keyring
from services.gateway.access.store import AccessStore
from services.gateway.following import Following
from services.gateway.roles.service import Roles
from services.kit.errors import Failure

log = logging.getLogger(__name__)
_MARGIN = timedelta(minutes=1)  # by which clocks of gateways may differ, and that a transaction may take


class KeyFollowing(Following):
    """Brings what other gateways change into the ring of this one."""

    def __init__(self, store: AccessStore, roles: Roles, ring: Callable[[], Keyring]) -> None:
        super().__init__("keys", store.near, self._changes, self._take)
        self._store, self._roles, self._ring = store, roles, ring
        self._making = 0

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """Around the making of a tenant here: its row may be there before the ring knows it."""
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1

    async def _take(self) -> None:
        """Takes all keys and roles, both or neither: the ring counts the changes of permissions."""
        turn, read = self._ring().turn, await self._store.everything()
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

    async def _changes(self) -> tuple[int, ...]:
        """How often keys, tenants and roles were changed; new tenants are taken one by one when nothing else is new."""
        found = await self._store.revision()
        changes = (*found[1:], *await self._roles.revision())
        # Those that are being made here are in the ring in a moment.
        if changes == self._seen and found.tenants > self._ring().tenants + self._making:
            await self._newcomers(found.tenants)
        return changes

    async def _newcomers(self, count: int) -> None:
        """Takes tenants that other gateways have made: the latest, or all where that does not make up the number."""
        for since in (self._ring().newest - _MARGIN, EPOCH):
            if self._ring().tenants < count:
                for tenant in await self._store.tenants_since(since):
                    self._ring().tenant(tenant)
