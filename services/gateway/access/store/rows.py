"""Tenants and keys as rows: their tables, and what is read and written of them in any transaction."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, LargeBinary, String, select, update
from sqlalchemy.engine import Connection, Row

from services.gateway.access.domain import ApiKey, RateLimit, Replaced, Signing, Tenant
from services.gateway.database import schema
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import UtcDateTime, scoped, within
from services.kit.errors import NotFound
from services.kit.statements import one

tenant_table = scoped(
    "tenant",
    schema.metadata,
    Column("display_name", String(200), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
    Column("shred_time", UtcDateTime),
)
key_table = scoped(
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
    # Where it may be used, and which models it is for.
    Column("addresses", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    # The secret before this one, and until when it works.
    Column("old_digest", LargeBinary),
    Column("old_expire_time", UtcDateTime),
    Column("rotate_time", UtcDateTime),
    Column("certificates", JSON, nullable=False),
    Index("api_key_prefix", "api_key", unique=True),
)
_ONE_TENANT = one(tenant_table)
Stored = tuple[ApiKey, bytes]
Tell = Callable[[Any], Event]


def tenants(connection: Connection) -> list[Tenant]:
    """All tenants."""
    return [as_tenant(row) for row in connection.execute(select(tenant_table))]


def keys(connection: Connection) -> list[Stored]:
    """All keys with what their secrets hash to, oldest first."""
    query = select(key_table).order_by(key_table.c.create_time, key_table.c.api_key)
    return [(as_key(row), row.digest) for row in connection.execute(query)]


def find_tenant(connection: Connection, name: str) -> Tenant | None:
    """A tenant, also a deleted one."""
    row = connection.execute(_ONE_TENANT, Scope(name)._asdict()).first()
    return as_tenant(row) if row else None


def change_tenant(connection: Connection, tenant: Tenant, tell: Tell) -> Tenant:
    """Writes a tenant of the next generation, and says so."""
    changed = replace(tenant, generation=tenant.generation + 1)
    times = {"delete_time": changed.delete_time, "shred_time": changed.shred_time}
    values = {**times, "generation": changed.generation}
    connection.execute(update(tenant_table).where(within(tenant_table, Scope(tenant.tenant))).values(values))
    schema.outbox.add(connection, [tell(changed)])
    return changed


def forget_secrets(connection: Connection, tenant: str) -> None:
    """Drops what the keys of a tenant sign with."""
    here = within(key_table, Scope(tenant)) & key_table.c.signing_secret.is_not(None)
    connection.execute(update(key_table).where(here).values(signing_secret=b""))


def find_key(connection: Connection, tenant: str, prefix: str) -> ApiKey:
    """Raises not_found, also for another tenant's key."""
    here = within(key_table, Scope(tenant)) & (key_table.c.api_key == prefix)
    row = connection.execute(select(key_table).where(here)).first()
    if row is None:
        raise NotFound(f"there is no key {prefix}")
    return as_key(row)


def tenant_row(tenant: Tenant) -> dict[str, Any]:
    """A tenant as it is written."""
    return {
        **Scope(tenant.tenant)._asdict(),
        "display_name": tenant.display_name,
        "generation": tenant.generation,
        "create_time": tenant.create_time,
        "delete_time": tenant.delete_time,
        "shred_time": tenant.shred_time,
    }


def as_tenant(row: Row[Any]) -> Tenant:
    """A tenant as it is read."""
    return Tenant(row.tenant, row.display_name, row.create_time, row.generation, row.delete_time, row.shred_time)


def key_row(key: ApiKey, digest: bytes) -> dict[str, Any]:
    """A key as it is written."""
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
        "addresses": list(key.addresses),
        "models": list(key.models),
        "old_digest": key.replaced.digest if key.replaced else None,
        "old_expire_time": key.replaced.until if key.replaced else None,
        "rotate_time": key.rotate_time,
        "certificates": list(key.certificates),
    }


def as_key(row: Row[Any]) -> ApiKey:
    """A key as it is read."""
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
        tuple(row.addresses),
        tuple(row.models),
        Replaced(row.old_digest, row.old_expire_time) if row.old_digest else None,
        row.rotate_time,
        tuple(row.certificates),
    )
