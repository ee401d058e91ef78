"""Tenants and keys in the gateway's database. They belong to a tenant, not to a project: the project is `default`.

Administrators of the installation work on tenants other than their own, and every gateway holds all keys: those
methods work on all tenants, and `service` decides who may call them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from services.gateway.access.domain import ApiKey, NewKey, Tenant
from services.gateway.access.store import rows
from services.gateway.access.store.rows import Stored, Tell, key_table, tenant_table
from services.gateway.database import schema
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, within
from services.kit.errors import AlreadyExists, FailedPrecondition, NotFound, match_etag
from services.kit.statements import Claim, revision_of

# Of a key, what its secret hashes to, and all keys: the key as it is from now on, and what its secret hashes to then.
Change = Callable[[ApiKey, bytes, Sequence[ApiKey]], tuple[NewKey, bytes]]
_NEW_TENANT = Claim(tenant_table)
_REVISION = revision_of(tenant_table, key_table)


class Revision(NamedTuple):
    """How many tenants and keys there are, and how often some were changed since they were made."""

    tenants: int
    tenant_changes: int
    keys: int
    key_changes: int


class AccessStore:
    """The only SQL on tenants and keys."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.near = db.near
        self.recall = db.recall

    async def everything(self) -> tuple[list[Tenant], list[Stored]]:
        """All tenants and all keys with their digests: what a gateway holds in memory."""
        with tenancy.everybody():
            return await self._db.read(lambda c: (rows.tenants(c), rows.keys(c)))

    async def revision(self) -> Revision:
        """Other numbers whenever a tenant or a key has changed: rows are never deleted, generations only grow."""
        with tenancy.everybody():
            return Revision(*await self._db.read(_REVISION))

    async def find_tenant(self, name: str) -> Tenant | None:
        """Also a deleted one."""
        with tenancy.everybody():
            return await self._db.read(lambda c: rows.find_tenant(c, name))

    async def tenants_since(self, time: datetime) -> list[Tenant]:
        """Those that say they were made then or later, also deleted ones."""
        query = select(tenant_table).where(tenant_table.c.create_time >= time)
        with tenancy.everybody():
            return await self._db.read(lambda c: [rows.as_tenant(row) for row in c.execute(query)])

    async def begin(self, tenants: Sequence[Tenant], key: ApiKey, digest: bytes, events: Sequence[Event]) -> bool:
        """The first rows of an installation, in one transaction; False, and nothing, if there are tenants already."""

        def work(connection: Connection) -> bool:
            if connection.execute(select(func.count()).select_from(tenant_table)).scalar_one():
                return False
            for tenant in tenants:
                connection.execute(insert(tenant_table).values(rows.tenant_row(tenant)))
            connection.execute(insert(key_table).values(rows.key_row(key, digest)))
            schema.outbox.add(connection, events)
            return True

        return await self._db.run(work)

    async def create_tenant(self, tenant: Tenant, tell: Tell, once: Once | None) -> Tenant:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> Tenant:
            if not _NEW_TENANT.first(connection, rows.tenant_row(tenant)):
                raise AlreadyExists(f"the tenant {tenant.tenant} exists already, or is deleted")
            schema.outbox.add(connection, [tell(tenant)])
            return tenant

        with tenancy.everybody():
            return await self._db.write(work, once)

    async def tenant(self, name: str) -> Tenant:
        """Raises not_found, also for a deleted one."""
        found = await self.find_tenant(name)
        if found is None or found.delete_time:
            raise NotFound(f"there is no tenant {name}")
        return found

    async def tenants(self, after: str, limit: int) -> list[Tenant]:
        """By name, those that are not deleted."""
        where = (tenant_table.c.tenant > after) & tenant_table.c.delete_time.is_(None)
        query = select(tenant_table).where(where).order_by(tenant_table.c.tenant).limit(limit)
        with tenancy.everybody():
            return await self._db.read(lambda c: [rows.as_tenant(row) for row in c.execute(query)])

    async def delete_tenant(self, name: str, etag: str, now: datetime, tell: Tell) -> Tenant:
        """Raises not_found, etag_mismatch."""

        def work(connection: Connection) -> Tenant:
            found = rows.find_tenant(connection, name)
            if found is None or found.delete_time:
                raise NotFound(f"there is no tenant {name}")
            match_etag(etag, found.generation, name)
            return rows.change_tenant(connection, replace(found, delete_time=now), tell)

        with tenancy.everybody():
            return await self._db.run(work)

    async def undelete_tenant(self, name: str, tell: Tell) -> Tenant:
        """Restores a deleted one; another stays as it is. Raises not_found, failed_precondition."""

        def work(connection: Connection) -> Tenant:
            found = rows.find_tenant(connection, name)
            if found is None:
                raise NotFound(f"there is no tenant {name}")
            if found.shred_time:
                raise FailedPrecondition(f"the keys of {name} are destroyed: it cannot be undeleted")
            return (
                rows.change_tenant(connection, replace(found, delete_time=None), tell) if found.delete_time else found
            )

        with tenancy.everybody():
            return await self._db.run(work)

    async def shredded(self) -> list[str]:
        """The names of those that are marked."""
        query = select(tenant_table.c.tenant).where(tenant_table.c.shred_time.is_not(None))
        with tenancy.everybody():
            return await self._db.read(lambda c: list(c.execute(query).scalars()))

    async def shred_tenant(self, name: str, etag: str, now: datetime, tell: Tell) -> Tenant:
        """Marks a deleted one, once, and drops the secrets of its keys.

        Raises not_found, failed_precondition, etag_mismatch.
        """

        def work(connection: Connection) -> Tenant:
            found = rows.find_tenant(connection, name)
            if found is None:
                raise NotFound(f"there is no tenant {name}")
            if found.shred_time:
                return found
            if not found.delete_time:
                raise FailedPrecondition(f"{name} is not deleted")
            match_etag(etag, found.generation, name)
            rows.forget_secrets(connection, name)
            return rows.change_tenant(connection, replace(found, shred_time=now), tell)

        with tenancy.everybody():
            return await self._db.run(work)

    async def create_key(self, made: NewKey, digest: bytes, event: Event, once: Once | None) -> NewKey:
        """Raises not_found when the tenant is not there or closed."""
        key = made.key

        def work(connection: Connection) -> NewKey:
            tenant = rows.find_tenant(connection, key.tenant)
            if tenant is None or tenant.delete_time:
                raise NotFound(f"there is no tenant {key.tenant}")
            connection.execute(insert(key_table).values(rows.key_row(key, digest)))
            schema.outbox.add(connection, [event])
            return made

        with tenancy.everybody():
            return await self._db.run(work, once)

    async def key(self, tenant: str, prefix: str) -> ApiKey:
        """Raises not_found, also for another tenant's key."""
        return await self._db.read(lambda c: rows.find_key(c, tenant, prefix))

    async def keys(self, tenant: str, after: tuple[datetime, str] | None, limit: int) -> list[ApiKey]:
        """Oldest first."""
        where = within(key_table, Scope(tenant))
        if after:
            time, prefix = after
            same = and_(key_table.c.create_time == time, key_table.c.api_key > prefix)
            where &= or_(key_table.c.create_time > time, same)
        query = select(key_table).where(where).order_by(key_table.c.create_time, key_table.c.api_key).limit(limit)
        return await self._db.read(lambda c: [rows.as_key(row) for row in c.execute(query)])

    async def revoke(
        self, tenant: str, prefix: str, now: datetime, may: Callable[[ApiKey, Sequence[ApiKey]], None], tell: Tell
    ) -> ApiKey:
        """Revokes a key; one that is revoked stays as it is. `may` sees it and all keys, and raises if it must not be.

        Raises not_found.
        """

        def work(connection: Connection) -> ApiKey:
            key = rows.find_key(connection, tenant, prefix)
            if key.revoke_time:
                return key
            may(key, [held for held, _ in rows.keys(connection)])
            revoked = replace(key, revoke_time=now, generation=key.generation + 1)
            values = {"revoke_time": now, "generation": revoked.generation}
            here = within(key_table, Scope(tenant)) & (key_table.c.api_key == prefix)
            connection.execute(update(key_table).where(here).values(values))
            schema.outbox.add(connection, [tell(revoked)])
            return revoked

        with tenancy.everybody():
            return await self._db.run(work)

    async def change_key(
        self, tenant: str, prefix: str, change: Change, tell: Callable[[ApiKey], Event], once: Once | None
    ) -> NewKey:
        """Raises not_found, and what `change` raises."""

        def work(connection: Connection) -> NewKey:
            known = {key.api_key: (key, kept) for key, kept in rows.keys(connection)}
            if prefix not in known or known[prefix][0].tenant != tenant:
                raise NotFound(f"there is no key {prefix}")
            key, kept = known[prefix]
            changed, kept = change(key, kept, [key for key, _ in known.values()])
            here = within(key_table, Scope(tenant)) & (key_table.c.api_key == prefix)
            connection.execute(update(key_table).where(here).values(rows.key_row(changed.key, kept)))
            schema.outbox.add(connection, [tell(changed.key)])
            return changed

        with tenancy.everybody():
            return await self._db.run(work, once)

    async def renew_secret(self, tenant: str, prefix: str, old: bytes, new: bytes) -> bool:
        """Whether a key still signed with the old one as it was sealed, and has the new one now."""
        here = within(key_table, Scope(tenant)) & (key_table.c.api_key == prefix) & (key_table.c.signing_secret == old)
        change = update(key_table).where(here).values(signing_secret=new)
        with tenancy.everybody():
            return bool(await self._db.run(lambda c: c.execute(change).rowcount))

    async def publish(self, events: Sequence[Event]) -> None:
        """Writes events that belong to no row."""
        await self._db.write(lambda connection: schema.outbox.add(connection, events))
