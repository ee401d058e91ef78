"""Tenants and API keys, and the audit trail."""

import asyncio
import base64
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.gateway.access import events, installation
from services.gateway.access.caller import guest
from services.gateway.access.domain import (
    ALL,
    DEFAULT,
    SYSTEM,
    ApiKey,
    KeyRequest,
    NewKey,
    Tenant,
    digest,
    grant,
    prefix_of,
    sealed_for,
)
from services.gateway.access.following import KeyFollowing
from services.gateway.access.installation import Given
from services.gateway.access.keyring import Keyring
from services.gateway.access.store import AccessStore
from services.gateway.access.trail import Trail
from services.gateway.roles.domain import Grant, Holder, Role, everywhere, in_project
from services.gateway.roles.service import Roles
from services.kit import pages
from services.kit.app import OPERATOR
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import FailedPrecondition, Forbidden, NotFound
from services.kit.pages import Page
from services.kit.secrets import Vault

log = logging.getLogger(__name__)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AccessService:
    """The use cases; `keyring` is what requests are checked against."""

    def __init__(
        self,
        store: AccessStore,
        roles: Roles,
        home: Path,
        now: Callable[[], datetime],
        rng: random.Random,
        given: Given | None = None,
        vault: Vault | None = None,
    ) -> None:
        """`vault` seals what requests are signed with; without one, that of the home folder."""
        self._store, self._home, self._now, self._random, self._given = store, home, now, rng, given or Given()
        self._vault = vault or Vault(home / "keys")
        self._roles, roles.holders = roles, self
        # What secrets are hashed with.
        self.pepper = b""
        # Whether a principal is a user or a group of an issuer of a tenant.
        self.issued: Callable[[str, str], bool] = lambda tenant, principal: False
        # Whether a principal of a tenant has a quota of its own.
        self.budgeted: Callable[[str, str], bool] = lambda tenant, principal: False
        self.keyring = Keyring(b"", now, roles.book)
        self.following = KeyFollowing(store, roles, lambda: self.keyring)
        self.trail = Trail(store.publish, now)

    async def start(self) -> None:
        """Loads all keys; makes the tenants `default` and `system` and the first key in an empty database.

        The key's file is written before its row, so that a start cut in between finds it and goes on.
        """
        tenants, keys = await self._store.everything()
        fresh, folder = self._random.randbytes(32), self._home / "keys"
        if self._given.pepper is None:
            self.pepper = await asyncio.to_thread(installation.pepper, folder, fresh, bool(keys))
        else:
            self.pepper = self._given.pepper
        self.keyring = Keyring(self.pepper, self._now, self._roles.book)
        await self._roles.load()
        if not tenants:
            await self._begin()
            tenants, keys = await self._store.everything()
        self.keyring.replace(tenants, keys)

    async def _begin(self) -> None:
        now, path = self._now(), self._home / "admin-key"
        secret = self._given.admin_key
        if secret is None:
            secret = await asyncio.to_thread(installation.first_secret, path, self.secret(self._prefix()))
        tenants = [Tenant(DEFAULT, "Default", now), Tenant(SYSTEM, "Platform", now)]
        key = ApiKey(prefix_of(secret), DEFAULT, "first administrator", (ALL,), now)
        published = [*(events.tenant_changed(tenant, now) for tenant in tenants), events.key_changed(key, now)]
        first = await self._store.begin(tenants, key, digest(self.pepper, secret), published)
        if self._given.admin_key:
            return
        if first:
            log.info("the key of the first administrator is in %s", path, extra=OPERATOR)
        else:
            # Another gateway on the same database came first, and has the key.
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def create_tenant(self, caller: Principal, name: str, display_name: str, once: Once | None) -> Tenant:
        """Raises forbidden, already_exists."""
        if not self.administers(caller):
            raise Forbidden("tenants are created by administrators of the installation")
        now = self._now()
        made = Tenant(name, display_name, now)
        with self.following.making():
            tenant = await self._store.create_tenant(made, lambda t: events.tenant_changed(t, now), once)
            self.keyring.tenant(tenant)
        return tenant

    async def tenant(self, caller: Principal, name: str) -> Tenant:
        """Raises not_found, also for a tenant that is not the caller's to see."""
        self._see(caller, name)
        return await self._store.tenant(name)

    async def tenants(self, caller: Principal, page_size: int, page_token: str) -> Page[Tenant]:
        """All for an administrator, the caller's own for others."""
        size, last = pages.size(page_size), pages.after(page_token, str)
        if not self.administers(caller):
            return Page((await self._store.tenant(caller.scope.tenant),))
        found = await self._store.tenants(str(last[0]) if last else "", size + 1)
        return pages.cut(found, size, lambda tenant: (tenant.tenant,))

    async def delete_tenant(self, caller: Principal, name: str, etag: str) -> Tenant:
        """Its keys stop at once. Raises not_found, forbidden, etag_mismatch, failed_precondition."""
        self._see(caller, name)
        if not self.administers(caller):
            raise Forbidden("tenants are deleted by administrators of the installation")
        if name in (DEFAULT, SYSTEM):
            raise FailedPrecondition(f"{name} is needed by the installation")
        now = self._now()
        tenant = await self._store.delete_tenant(name, etag, now, lambda t: events.tenant_changed(t, now))
        self.keyring.tenant(tenant)
        return tenant

    async def undelete_tenant(self, caller: Principal, name: str) -> Tenant:
        """Raises not_found, forbidden."""
        self._see(caller, name)
        if not self.administers(caller):
            raise Forbidden("tenants are undeleted by administrators of the installation")
        now = self._now()
        tenant = await self._store.undelete_tenant(name, lambda t: events.tenant_changed(t, now))
        self.keyring.tenant(tenant)
        return tenant

    async def create_key(self, caller: Principal, wanted: KeyRequest, once: Once | None) -> NewKey:
        """A key and its secret, of which its digest is kept, and the one to sign with, which is kept sealed.

        Raises forbidden, not_found, invalid_value.
        """
        await self._store.recall(once)
        maker = self.maker(caller)
        if self.budgeted(caller.scope.tenant, caller.id):
            raise Forbidden("a key with a quota makes no keys: they would have none")
        if wanted.tenant:
            self._see(caller, wanted.tenant)
        now, secret = self._now(), self.secret(self._prefix())
        roles = self.named(wanted.tenant or maker.tenant, wanted.roles)
        key = grant(maker, wanted, prefix_of(secret), now, self.holds(caller).grants, roles)
        if key.administers and not self.administers(caller):
            raise Forbidden("only administrators of the installation create keys that administer it")
        new = await asyncio.to_thread(self.sealed, NewKey(key, secret), self.signing_secret(key.api_key))
        kept = digest(self.pepper, secret)
        made = await self._store.create_key(new, kept, events.key_changed(new.key, now), once)
        self.keyring.put(new.key, kept)
        return made

    def sealed(self, made: NewKey, secret: str) -> NewKey:
        """The key with a secret to sign with, if it is one that needs it and has none."""
        key, signing = made.key, made.key.signing
        if signing is None or signing.public_key or signing.sealed:
            return made
        sealed = self._vault.seal(secret.encode(), sealed_for(key.api_key))
        return NewKey(replace(key, signing=replace(signing, sealed=sealed)), made.secret, secret)

    def named(self, tenant: str, names: Sequence[str]) -> tuple[Role, ...]:
        """Roles that a tenant has. Raises invalid_value."""
        return self._roles.named(tenant, names)

    async def key(self, caller: Principal, prefix: str) -> ApiKey:
        """Raises not_found."""
        return await self._store.key(caller.scope.tenant, prefix)

    async def keys(self, caller: Principal, page_size: int, page_token: str) -> Page[ApiKey]:
        """The tenant's, oldest first, with those that are revoked."""
        size, last = pages.size(page_size), pages.after(page_token, int, str)
        after = (_EPOCH + timedelta(microseconds=min(int(last[0]), 2**57)), str(last[1])) if last else None
        found = await self._store.keys(caller.scope.tenant, after, size + 1)
        return pages.cut(found, size, lambda k: ((k.create_time - _EPOCH) // timedelta(microseconds=1), k.api_key))

    def holds(self, caller: Principal) -> Holder:
        """What a caller may hand out, and when its key expires."""
        if here := guest(caller):
            return Holder(here.grants)
        known = self.holder(caller.scope.tenant, caller.id)
        return known or Holder(tuple(_granted(permission) for permission in caller.permissions))

    def holder(self, tenant: str, principal: str) -> Holder | None:
        """A key of a tenant, valid or not, or a user or group of one of its issuers; None for another principal."""
        if self.issued(tenant, principal):
            return Holder(())
        key = self.keyring.key(principal) if principal.startswith("key:") else None
        return Holder(self.keyring.grants(principal), key.expire_time) if key and key.tenant == tenant else None

    def settle(self, tenant: str = "") -> None:
        """Roles or bindings of a tenant have changed; empty: of any."""
        self.keyring.settle(tenant)

    def permissions(self, caller: Principal) -> tuple[str, ...]:
        """All permissions of a caller in its project."""
        if here := guest(caller):
            return here.permissions
        known = self.keyring.key(caller.id)
        return in_project(self.keyring.grants(caller.id), caller.scope.project) if known else caller.permissions

    def maker(self, caller: Principal) -> ApiKey:
        """The key by which a caller makes others."""
        known, here = self.keyring.key(caller.id), guest(caller)
        # A service, or a caller of another process, has no key here: its token has all its permissions.
        held = everywhere(here.grants) if here else caller.permissions
        return known or ApiKey("", caller.scope.tenant, caller.id, held, self._now())

    def administers(self, caller: Principal) -> bool:
        """Whether a caller may make tenants, and keys for them."""
        # Users have roles only, and roles never administer the installation.
        return not caller.id.startswith("user:") and self.maker(caller).administers

    def _see(self, caller: Principal, tenant: str) -> None:
        if tenant != caller.scope.tenant and not self.administers(caller):
            raise NotFound(f"there is no tenant {tenant}")

    def secret(self, prefix: str) -> str:
        """A new secret of a key."""
        return f"aim_{prefix}_{self._tail()}"

    def signing_secret(self, prefix: str) -> str:
        """A new secret for a key to sign with."""
        return f"aimsig_{prefix}_{self._tail()}"

    def _prefix(self) -> str:
        while self.keyring.has(found := "".join(self._random.choice(_LETTERS) for _ in range(8))):
            pass
        return found

    def _tail(self) -> str:
        return base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("=")


def _granted(permission: str) -> Grant:
    """The grant of a permission pattern in a token."""
    names, _, things = permission.partition("@")
    return Grant(tuple(names.split(",")), objects=tuple(things.split(",")) if things else ())
