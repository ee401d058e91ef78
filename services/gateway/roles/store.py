"""Roles and bindings in the gateway's database. They belong to a tenant, not to a project: the project is `default`.

Rows are never deleted, generations only grow: every gateway holds all of them.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Integer, String, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.gateway.database import schema
from services.gateway.roles.domain import Binding, Role
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.statements import revision_of

_role = scoped(
    "role",
    schema.metadata,
    Column("role", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("permissions", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_binding = scoped(
    "binding",
    schema.metadata,
    Column("binding", String(63), primary_key=True),
    Column("role", String(63), nullable=False),
    Column("principal", String(400), nullable=False),
    Column("projects", JSON, nullable=False),
    Column("objects", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_REVISION = revision_of(_role, _binding)
MOST = 50  # bindings of one principal: each is looked at when it calls
RoleTell = Callable[[Role, datetime], Event]
BindingTell = Callable[[Binding, datetime], Event]


class RoleStore:
    """The only SQL on roles and bindings."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def everything(self) -> tuple[list[Role], list[Binding]]:
        """All roles and bindings, also those that are deleted."""

        def work(connection: Connection) -> tuple[list[Role], list[Binding]]:
            roles = [_as_role(row) for row in connection.execute(select(_role))]
            return roles, [_as_binding(row) for row in connection.execute(select(_binding))]

        with tenancy.everybody():
            return await self._db.read(work)

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever a role or a binding has changed."""
        with tenancy.everybody():
            return await self._db.read(_REVISION)

    async def create_role(self, role: Role, event: Event, once: Once | None) -> Role:
        """Raises already_exists, also for a deleted one."""

        def work(connection: Connection) -> Role:
            if connection.execute(_one(_role, role.tenant, role.role)).first():
                raise AlreadyExists(f"the role {role.role} exists already, or is deleted")
            connection.execute(insert(_role).values(_role_row(role)))
            schema.outbox.add(connection, [event])
            return role

        return await self._db.run(work, once)

    async def role(self, tenant: str, name: str) -> Role:
        """Raises not_found; a deleted one is found."""
        return await self._db.read(lambda connection: _find_role(connection, tenant, name))

    async def roles(self, tenant: str, after: str, limit: int, deleted: bool) -> list[Role]:
        """By name."""
        here = within(_role, Scope(tenant)) & (_role.c.role > after)
        if not deleted:
            here &= _role.c.delete_time.is_(None)
        query = select(_role).where(here).order_by(_role.c.role).limit(limit)
        return await self._db.read(lambda connection: [_as_role(row) for row in connection.execute(query)])

    async def change_role(self, tenant: str, name: str, change: Callable[[Role], Role], tell: RoleTell) -> Role:
        """Raises not_found, and what `change` raises; says nothing of one that stays as it is."""

        def work(connection: Connection) -> Role:
            old = _find_role(connection, tenant, name)
            if (new := change(old)) is old:
                return old
            connection.execute(update(_role).where(_at(_role, tenant, name)).values(_role_row(new)))
            schema.outbox.add(connection, [tell(new, new.update_time)])
            return new

        return await self._db.run(work)

    async def create_binding(self, binding: Binding, event: Event, once: Once | None) -> Binding:
        """Raises already_exists, also for a deleted one; limit_exceeded."""

        def work(connection: Connection) -> Binding:
            if connection.execute(_one(_binding, binding.tenant, binding.binding)).first():
                raise AlreadyExists(f"the binding {binding.binding} exists already, or is deleted")
            _room(connection, binding)
            connection.execute(insert(_binding).values(_binding_row(binding)))
            schema.outbox.add(connection, [event])
            return binding

        return await self._db.run(work, once)

    async def binding(self, tenant: str, name: str) -> Binding:
        """Raises not_found; a deleted one is found."""
        return await self._db.read(lambda connection: _find_binding(connection, tenant, name))

    async def bindings(self, tenant: str, page_size: int, page_token: str, deleted: bool) -> Page[Binding]:
        """By name."""
        here = within(_binding, Scope(tenant))
        if not deleted:
            here &= _binding.c.delete_time.is_(None)
        query = select(_binding).where(here)
        return await listed(self._db, query, _binding.c.binding, _as_binding, page_size, page_token)

    async def change_binding(
        self, tenant: str, name: str, now: datetime, change: Callable[[Binding], Binding], tell: BindingTell
    ) -> Binding:
        """Raises not_found, limit_exceeded, and what `change` raises; says nothing of one that stays as it is."""

        def work(connection: Connection) -> Binding:
            old = _find_binding(connection, tenant, name)
            if (new := change(old)) is old:
                return old
            if not new.delete_time:
                _room(connection, new)
            connection.execute(update(_binding).where(_at(_binding, tenant, name)).values(_binding_row(new)))
            schema.outbox.add(connection, [tell(new, now)])
            return new

        return await self._db.run(work)


def _at(table: Any, tenant: str, name: str) -> Any:
    return within(table, Scope(tenant)) & (table.c[table.name] == name)


def _one(table: Any, tenant: str, name: str) -> Any:
    return select(table).where(_at(table, tenant, name))


def _find_role(connection: Connection, tenant: str, name: str) -> Role:
    row = connection.execute(_one(_role, tenant, name)).first()
    if row is None:
        raise NotFound(f"there is no role {name}")
    return _as_role(row)


def _find_binding(connection: Connection, tenant: str, name: str) -> Binding:
    row = connection.execute(_one(_binding, tenant, name)).first()
    if row is None:
        raise NotFound(f"there is no binding {name}")
    return _as_binding(row)


def _room(connection: Connection, wanted: Binding) -> None:
    """Counted where it is written: gateways that bind at the same time come to no more. Raises limit_exceeded."""
    bound = within(_binding, Scope(wanted.tenant)) & (_binding.c.principal == wanted.principal)
    bound &= _binding.c.delete_time.is_(None) & (_binding.c.binding != wanted.binding)
    found = connection.execute(select(func.count()).select_from(_binding).where(bound)).scalar_one()
    if found >= MOST:
        raise Failure(Code.LIMIT_EXCEEDED, f"{wanted.principal} has {MOST} bindings, and no more are possible")


def _role_row(role: Role) -> dict[str, Any]:
    row = asdict(role) | Scope(role.tenant)._asdict() | {"permissions": list(role.permissions)}
    del row["built_in"]
    return row


def _as_role(row: Row[Any]) -> Role:
    return Role(
        row.role,
        row.tenant,
        row.description,
        tuple(row.permissions),
        row.create_time,
        row.update_time,
        row.delete_time,
        row.generation,
    )


def _binding_row(binding: Binding) -> dict[str, Any]:
    lists = {"projects": list(binding.projects), "objects": list(binding.objects)}
    return asdict(binding) | Scope(binding.tenant)._asdict() | lists


def _as_binding(row: Row[Any]) -> Binding:
    return Binding(
        row.binding,
        row.tenant,
        row.role,
        row.principal,
        tuple(row.projects),
        tuple(row.objects),
        row.create_time,
        row.delete_time,
        row.generation,
    )
