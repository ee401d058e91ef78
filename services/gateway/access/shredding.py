"""The keys of tenants: another one, or none any more. What was sealed for a tenant without keys nobody can read."""

import logging
from collections.abc import Callable
from datetime import datetime

from services.gateway.access import events
from services.gateway.access.domain import DEFAULT, SYSTEM, Tenant
from services.gateway.access.service import AccessService
from services.gateway.access.store import AccessStore
from services.kit.auth import Principal
from services.kit.errors import FailedPrecondition, Failure, Forbidden, NotFound
from services.kit.tenant_keys import TenantKeys

log = logging.getLogger(__name__)


class Shredding:
    """The use cases of keys that blobs are sealed with, and what a crash has left of them."""

    def __init__(
        self, access: AccessService, store: AccessStore, keys: TenantKeys | None, now: Callable[[], datetime]
    ) -> None:
        """`keys` are those that blobs are sealed with; None where they lie plain."""
        self._access, self._store, self._keys, self._now = access, store, keys, now

    async def shred(self, caller: Principal, name: str, etag: str) -> Tenant:
        """The tenant, when its keys are destroyed; a second time destroys what came in between.

        Raises not_found, forbidden, failed_precondition, etag_mismatch, unavailable.
        """
        if not self._access.administers(caller):
            if name != caller.scope.tenant:
                raise NotFound(f"there is no tenant {name}")
            raise Forbidden("keys of tenants are destroyed by administrators of the installation")
        if name in (DEFAULT, SYSTEM):
            raise FailedPrecondition(f"{name} is needed by the installation")
        if self._keys is None:
            raise FailedPrecondition("blobs lie plain: AIMASS_SECRETS_KEY is not set, and nothing would be destroyed")
        now = self._now()
        # Marked first: from now on nobody brings it back, and a start after a crash goes on.
        tenant = await self._store.shred_tenant(name, etag, now, lambda t: events.tenant_changed(t, now))
        self._access.keyring.tenant(tenant)
        await self._keys.shred(name)
        return tenant

    async def number(self, caller: Principal, name: str) -> int:
        """Of the key that seals. Raises not_found, failed_precondition, unavailable."""
        return (await (await self._kept(caller, name)).current(name)).number

    async def rotate(self, caller: Principal, name: str, number: int) -> int:
        """Of the key that seals from now on, another one than the given. Raises as `number`."""
        return await (await self._kept(caller, name)).rotate(name, number)

    async def _kept(self, caller: Principal, name: str) -> TenantKeys:
        await self._access.tenant(caller, name)
        if self._keys is None:
            raise FailedPrecondition("blobs lie plain: AIMASS_SECRETS_KEY is not set, so there are no keys of tenants")
        return self._keys

    async def resume(self) -> None:
        """Destroys the keys of all that are marked. A store that is away is left to the next start, or to who asks."""
        if self._keys is None:
            return
        try:
            for name in await self._store.shredded():
                await self._keys.shred(name)
        except Failure as failure:
            log.error("keys of tenants that are to be destroyed may be there still: %s", failure)
