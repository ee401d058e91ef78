"""Existing keys: update, rotation, revocation."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from services.gateway.access import changes, events
from services.gateway.access.domain import ApiKey, KeyRequest, NewKey, digest, last_administrator, within_reach
from services.gateway.access.service import AccessService
from services.gateway.access.store import AccessStore, Change
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import FailedPrecondition, Forbidden


class Keeping:
    """The use cases."""

    def __init__(self, access: AccessService, store: AccessStore, now: Callable[[], datetime]) -> None:
        self._access, self._store, self._now = access, store, now

    async def update(
        self, caller: Principal, prefix: str, wanted: KeyRequest, fields: Collection[str], etag: str, once: Once | None
    ) -> NewKey:
        """The key, and the secret that it signs with if that was made for it just now.

        Raises not_found, etag_mismatch, forbidden, failed_precondition, invalid_value, invalid_name.
        """
        await self._store.recall(once)
        now, tenant = self._now(), caller.scope.tenant
        if "roles" in fields:
            self._access.named(tenant, wanted.roles)
        secret = self._access.signing_secret(prefix)

        def change(key: ApiKey, kept: bytes, keys: Sequence[ApiKey]) -> tuple[NewKey, bytes]:
            new = changes.changed(key, wanted, fields, etag, now)
            self._reach(caller, new)
            changes.keep_administrator(key, new, keys, now)
            return self._access.sealed(NewKey(new, ""), secret), kept

        return await self._change(tenant, prefix, change, now, once)

    async def rotate(self, caller: Principal, prefix: str, until: datetime | None, once: Once | None) -> NewKey:
        """The key and its new secret; the one before works until then. Raises as `update`."""
        await self._store.recall(once)
        now, secret = self._now(), self._access.secret(prefix)

        def change(key: ApiKey, kept: bytes, keys: Sequence[ApiKey]) -> tuple[NewKey, bytes]:
            new = changes.rotated(key, kept, until, now)
            self._reach(caller, new)
            return NewKey(new, secret), digest(self._access.pepper, secret)

        return await self._change(caller.scope.tenant, prefix, change, now, once)

    async def revoke(self, caller: Principal, prefix: str) -> None:
        """Raises not_found, failed_precondition for the last key that administers."""
        now = self._now()

        def may(key: ApiKey, all_keys: Sequence[ApiKey]) -> None:
            if last_administrator(all_keys, key.api_key, now):
                raise FailedPrecondition(f"{prefix} is the last key that administers: make another one first")

        tenant = caller.scope.tenant
        key = await self._store.revoke(tenant, prefix, now, may, lambda k: events.key_changed(k, now))
        self._access.keyring.put(key)

    async def _change(self, tenant: str, prefix: str, change: Change, now: datetime, once: Once | None) -> NewKey:
        kept = b""

        def work(key: ApiKey, known: bytes, keys: Sequence[ApiKey]) -> tuple[NewKey, bytes]:
            nonlocal kept
            made, kept = change(key, known, keys)
            return made, kept

        made = await self._store.change_key(tenant, prefix, work, lambda k: events.key_changed(k, now), once)
        self._access.keyring.put(made.key, kept)
        return made

    def _reach(self, caller: Principal, key: ApiKey) -> None:
        """Raises forbidden unless the caller could make such a key."""
        access = self._access
        within_reach(access.maker(caller), access.holds(caller).grants, key, access.keyring.would(key))
        if key.administers and not access.administers(caller):
            raise Forbidden("only administrators of the installation change keys that administer it")
