"""Rotation and destruction of the encryption keys of tenants. What was sealed with destroyed keys cannot be read."""

from collections.abc import Callable
from datetime import datetime

from services.gateway.access import events
from services.gateway.access.domain import DEFAULT, SYSTEM, Tenant
from services.gateway.access.service import AccessService
from services.gateway.access.store import AccessStore
from services.kit.auth import Principal
from services.kit.errors import FailedPrecondition, Forbidden, NotFound
from services.kit.renewing import AGAIN, EVERY, keep_looking
from services.kit.tenant_keys import TenantKeys


class Shredding:
    """The use cases of the keys that blobs are sealed with."""

    def __init__(
        self,
        access: AccessService,
        store: AccessStore,
        keys: TenantKeys | None,
        now: Callable[[], datetime],
        destroyed: Callable[[], None],
    ) -> None:
        """`keys` are those that blobs are sealed with; None where they lie plain. `destroyed` is told of an end."""
        self._access, self._store, self._keys, self._now = access, store, keys, now
        self._destroyed = destroyed

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
            raise FailedPrecondition(
                "blobs are stored in plain: AIMASS_SECRETS_KEY is not set, and nothing would be destroyed"
            )
        now = self._now()
        # Marked first: from now on it cannot be undeleted, and `Remains` goes on after a crash.
        tenant = await self._store.shred_tenant(name, etag, now, lambda t: events.tenant_changed(t, now))
        self._access.keyring.tenant(tenant)
        await self._keys.shred(name)
        self._destroyed()
        return tenant

    async def number(self, caller: Principal, name: str) -> int:
        """The number of the current key. Raises not_found, failed_precondition, unavailable."""
        return (await (await self._kept(caller, name)).current(name)).number

    async def rotate(self, caller: Principal, name: str, number: int) -> int:
        """Makes another key than the given current; returns its number. Raises as `number`."""
        return await (await self._kept(caller, name)).rotate(name, number)

    async def _kept(self, caller: Principal, name: str) -> TenantKeys:
        await self._access.tenant(caller, name)
        if self._keys is None:
            raise FailedPrecondition(
                "blobs are stored in plain: AIMASS_SECRETS_KEY is not set, so there are no tenant keys"
            )
        return self._keys


class Remains:
    """Destroys keys that a crash, or a store that was away, has left."""

    def __init__(
        self, store: AccessStore, keys: TenantKeys | None, destroyed: Callable[[], None] = lambda: None
    ) -> None:
        """As `Shredding`."""
        self._store, self._keys, self._ended, self._destroyed = store, keys, set[str](), destroyed

    async def run(self, every: float = EVERY, again: float = AGAIN) -> None:
        """The task of a gateway: destroys the keys of all marked tenants."""
        if self._keys:
            await keep_looking(self._look, "keys of tenants are destroyed later", every, again)

    async def _look(self) -> None:
        for name in await self._store.shredded():
            if self._keys and name not in self._ended:
                await self._keys.shred(name)
                self._ended.add(name)
                self._destroyed()
