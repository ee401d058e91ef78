"""Tenants and keys in the gateway's database. They belong to a tenant, not to a project: the project is `default`.

An administrator of the installation works on other tenants than his own, and every gateway holds all keys: those
methods work for everybody, and `service` decides who may call them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    and_,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row

from services.gateway.access.domain import ApiKey, NewKey, RateLimit, Signing, Tenant
from services.gateway.database import schema
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound

_tenant = scoped(
    "tenant",
    schema.metadata,
    Column("display_name", String(200), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_key = scoped(
    "api_key",
    schema.metadata,
    Column("api_key", String(8), primary_key=True),
    Column("display_name", String(200), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("projects", JSON, nullable=False),
    Column("permissions", JSON, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("rate", Float),
    Column("burst", Float),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("expire_time", UtcDateTime),
    Column("revoke_time", UtcDateTime),
    Column("signs", Boolean),
    Column("public_key", LargeBinary),
    Column("signing_secret", LargeBinary),
    Index("api_key_prefix", "api_key", unique=True),
)
Stored = tuple[ApiKey, bytes]
Tell = Callable[[Any], Event]


class AccessStore:
    """The only SQL on tenants and keys."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.near = db.near

    async def everything(self) -> tuple[list[Tenant], list[Stored]]:
        """All tenants and all keys with their digests: what a gateway holds in memory."""
        with tenancy.everybody():
            return await self._db.read(lambda c: (_tenants(c), _keys(c)))

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever a tenant or a key has changed: rows are never deleted, generations only grow."""

        def work(connection: Connection) -> tuple[int, ...]:
            counted = [(func.count(), func.coalesce(func.sum(table.c.generation), 0)) for table in (_tenant, _key)]
            return tuple(int(value) for columns in counted for value in connection.execute(select(*columns)).one())

        return await self._db.run(work)

    async def begin(self, tenants: Sequence[Tenant], key: ApiKey, digest: bytes, events: Sequence[Event]) -> bool:
        """The first rows of an installation, in one transaction; False, and nothing, if there are tenants already."""

        def work(connection: Connection) -> bool:
            if connection.execute(select(func.count()).select_from(_tenant)).scalar_one():
                return False
            for tenant in tenants:
                connection.execute(insert(_tenant).values(_tenant_row(tenant)))
            connection.execute(insert(_key).values(_key_row(key, digest)))
            schema.outbox.add(connection, events)
            return True

        return await self._db.run(work)

    async def create_tenant(self, tenant: Tenant, tell: Tell, once: Once | None) -> Tenant:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> Tenant:
            if _find_tenant(connection, tenant.tenant):
                raise AlreadyExists(f"there is a tenant {tenant.tenant}, or there was one")
            connection.execute(insert(_tenant).values(_tenant_row(tenant)))
            schema.outbox.add(connection, [tell(tenant)])
            return tenant

        with tenancy.everybody():
            return await self._db.run(work, once)

    async def tenant(self, name: str) -> Tenant:
        """Raises not_found, also for a deleted one."""
        with tenancy.everybody():
            found = await self._db.read(lambda c: _find_tenant(c, name))
        if found is None or found.delete_time:
            raise NotFound(f"there is no tenant {name}")
        return found

    async def tenants(self, after: str, limit: int) -> list[Tenant]:
        """By name, those that are not deleted."""
        where = (_tenant.c.tenant > after) & _tenant.c.delete_time.is_(None)
        query = select(_tenant).where(where).order_by(_tenant.c.tenant).limit(limit)
        with tenancy.everybody():
            return await self._db.read(lambda c: [_as_tenant(row) for row in c.execute(query)])

    async def close_tenant(self, name: str, etag: str, now: datetime, tell: Tell) -> Tenant:
        """Raises not_found, etag_mismatch."""

        def work(connection: Connection) -> Tenant:
            found = _find_tenant(connection, name)
            if found is None or found.delete_time:
                raise NotFound(f"there is no tenant {name}")
            if etag not in ("*", str(found.generation)):
                raise Failure(Code.ETAG_MISMATCH, f"{name} has changed: its etag is {found.generation}")
            return _change_tenant(connection, replace(found, delete_time=now), tell)

        with tenancy.everybody():
            return await self._db.run(work)

    async def open_tenant(self, name: str, tell: Tell) -> Tenant:
        """Opens a deleted one; one that is open stays as it is. Raises not_found."""

        def work(connection: Connection) -> Tenant:
            found = _find_tenant(connection, name)
            if found is None:
                raise NotFound(f"there is no tenant {name}")
            return _change_tenant(connection, replace(found, delete_time=None), tell) if found.delete_time else found

        with tenancy.everybody():
            return await self._db.run(work)

    async def recall(self, once: Once | None) -> None:
        """Raises Replay when a keyed call has had its effect."""
        await self._db.recall(once)

    async def create_key(self, made: NewKey, digest: bytes, event: Event, once: Once | None) -> NewKey:
        """Raises not_found when the tenant is not there or closed."""
        key = made.key

        def work(connection: Connection) -> NewKey:
            tenant = _find_tenant(connection, key.tenant)
            if tenant is None or tenant.delete_time:
                raise NotFound(f"there is no tenant {key.tenant}")
            connection.execute(insert(_key).values(_key_row(key, digest)))
            schema.outbox.add(connection, [event])
            return made

        with tenancy.everybody():
            return await self._db.run(work, once)

    async def key(self, tenant: str, prefix: str) -> ApiKey:
        """Raises not_found, also for another tenant's key."""
        return await self._db.read(lambda c: _find_key(c, tenant, prefix))

    async def keys(self, tenant: str, after: tuple[datetime, str] | None, limit: int) -> list[ApiKey]:
        """Oldest first."""
        where = within(_key, Scope(tenant))
        if after:
            time, prefix = after
            same = and_(_key.c.create_time == time, _key.c.api_key > prefix)
            where &= or_(_key.c.create_time > time, same)
        query = select(_key).where(where).order_by(_key.c.create_time, _key.c.api_key).limit(limit)
        return await self._db.read(lambda c: [_as_key(row) for row in c.execute(query)])

    async def revoke(
        self, tenant: str, prefix: str, now: datetime, may: Callable[[ApiKey, Sequence[ApiKey]], None], tell: Tell
    ) -> ApiKey:
        """Revokes a key; one that is revoked stays as it is. `may` sees it and all keys, and raises if it must not be.

        Raises not_found.
        """

        def work(connection: Connection) -> ApiKey:
            key = _find_key(connection, tenant, prefix)
            if key.revoke_time:
                return key
            may(key, [held for held, _ in _keys(connection)])
            revoked = replace(key, revoke_time=now, generation=key.generation + 1)
            values = {"revoke_time": now, "generation": revoked.generation}
            here = within(_key, Scope(tenant)) & (_key.c.api_key == prefix)
            connection.execute(update(_key).where(here).values(values))
            schema.outbox.add(connection, [tell(revoked)])
            return revoked

        with tenancy.everybody():
            return await self._db.run(work)

    async def publish(self, events: Sequence[Event]) -> None:
        """Writes events that belong to no row."""
        await self._db.write(lambda connection: schema.outbox.add(connection, events))


def _tenants(connection: Connection) -> list[Tenant]:
    return [_as_tenant(row) for row in connection.execute(select(_tenant))]


def _keys(connection: Connection) -> list[Stored]:
    query = select(_key).order_by(_key.c.create_time, _key.c.api_key)
    return [(_as_key(row), row.digest) for row in connection.execute(query)]


def _find_tenant(connection: Connection, name: str) -> Tenant | None:
    row = connection.execute(select(_tenant).where(within(_tenant, Scope(name)))).first()
    return _as_tenant(row) if row else None


def _change_tenant(connection: Connection, tenant: Tenant, tell: Tell) -> Tenant:
    changed = replace(tenant, generation=tenant.generation + 1)
    values = {"delete_time": changed.delete_time, "generation": changed.generation}
    connection.execute(update(_tenant).where(within(_tenant, Scope(tenant.tenant))).values(values))
    schema.outbox.add(connection, [tell(changed)])
    return changed


def _find_key(connection: Connection, tenant: str, prefix: str) -> ApiKey:
    here = within(_key, Scope(tenant)) & (_key.c.api_key == prefix)
    row = connection.execute(select(_key).where(here)).first()
    if row is None:
        raise NotFound(f"there is no key {prefix}")
    return _as_key(row)


def _tenant_row(tenant: Tenant) -> dict[str, Any]:
    return {
        **Scope(tenant.tenant)._asdict(),
        "display_name": tenant.display_name,
        "generation": tenant.generation,
        "create_time": tenant.create_time,
        "delete_time": tenant.delete_time,
    }


def _as_tenant(row: Row[Any]) -> Tenant:
    return Tenant(row.tenant, row.display_name, row.create_time, row.generation, row.delete_time)


def _key_row(key: ApiKey, digest: bytes) -> dict[str, Any]:
    return {
        **Scope(key.tenant)._asdict(),
        "api_key": key.api_key,
        "display_name": key.display_name,
        "digest": digest,
        "projects": list(key.projects),
        "permissions": list(key.permissions),
        "roles": list(key.roles),
        "rate": key.rate_limit.rate if key.rate_limit else None,
        "burst": key.rate_limit.burst if key.rate_limit else None,
        "generation": key.generation,
        "create_time": key.create_time,
        "expire_time": key.expire_time,
        "revoke_time": key.revoke_time,
        "signs": key.signing.required if key.signing else None,
        "public_key": key.signing.public_key if key.signing else None,
        "signing_secret": key.signing.sealed if key.signing else None,
    }


def _as_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.api_key,
        row.tenant,
        row.display_name,
        tuple(row.permissions),
        row.create_time,
        tuple(row.projects),
        None if row.rate is None else RateLimit(row.rate, row.burst),
        row.expire_time,
        row.revoke_time,
        row.generation,
        None if row.signs is None else Signing(row.signs, row.public_key, row.signing_secret),
        tuple(row.roles),
    )
