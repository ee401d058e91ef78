"""Filters of personal data in the gateway's database. They belong to a tenant: the project is `default`.

Rows are never deleted, generations only grow: every gateway holds all of them.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Integer, String, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.gateway.database import schema
from services.gateway.privacy import domain
from services.gateway.privacy.domain import PrivacyFilter, PrivacyRule
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.statements import revision_of

_filter = scoped(
    "privacy_filter",
    schema.metadata,
    Column("privacy_filter", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("methods", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    Column("streams", JSON, nullable=False),
    Column("answers", Boolean, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_REVISION = revision_of(_filter)
Change = Callable[[PrivacyFilter], PrivacyFilter]
Tell = Callable[[PrivacyFilter, datetime], Event]


class PrivacyStore:
    """The only SQL on filters."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def near(self) -> bool:
        """Whether no other process writes to the database."""
        return self._db.near

    async def everything(self) -> list[PrivacyFilter]:
        """All filters of all tenants, also those that are deleted."""
        with tenancy.everybody():
            return await self._db.read(lambda connection: [_of(row) for row in connection.execute(select(_filter))])

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever a filter has changed."""
        with tenancy.everybody():
            return await self._db.read(_REVISION)

    async def create(self, wanted: PrivacyFilter, event: Event, once: Once | None) -> PrivacyFilter:
        """Raises already_exists, also for a deleted one, limit_exceeded."""

        def work(connection: Connection) -> PrivacyFilter:
            if connection.execute(_one(wanted.tenant, wanted.privacy_filter)).first():
                raise AlreadyExists(f"the privacy filter {wanted.privacy_filter} exists already, or is deleted")
            domain.room(_all(connection, wanted.tenant))
            connection.execute(insert(_filter).values(_row(wanted)))
            schema.outbox.add(connection, [event])
            return wanted

        return await self._db.run(work, once)

    async def get(self, tenant: str, name: str) -> PrivacyFilter:
        """Raises not_found; a deleted one is found."""
        return await self._db.read(lambda connection: _find(connection, tenant, name))

    async def page(self, tenant: str, page_size: int, page_token: str, deleted: bool) -> Page[PrivacyFilter]:
        """By name."""
        here = within(_filter, Scope(tenant))
        if not deleted:
            here &= _filter.c.delete_time.is_(None)
        query = select(_filter).where(here)
        return await listed(self._db, query, _filter.c.privacy_filter, _of, page_size, page_token)

    async def change(self, tenant: str, name: str, change: Change, tell: Tell) -> PrivacyFilter:
        """Raises not_found, what `change` raises, limit_exceeded; says nothing of one that stays as it is."""

        def work(connection: Connection) -> PrivacyFilter:
            old = _find(connection, tenant, name)
            if (new := change(old)) is old:
                return old
            if old.delete_time and not new.delete_time:
                domain.room(_all(connection, tenant))
            connection.execute(update(_filter).where(_at(tenant, name)).values(_row(new)))
            schema.outbox.add(connection, [tell(new, new.update_time)])
            return new

        return await self._db.run(work)


def _at(tenant: str, name: str) -> Any:
    return within(_filter, Scope(tenant)) & (_filter.c.privacy_filter == name)


def _one(tenant: str, name: str) -> Any:
    return select(_filter).where(_at(tenant, name))


def _all(connection: Connection, tenant: str) -> list[PrivacyFilter]:
    return [_of(row) for row in connection.execute(select(_filter).where(within(_filter, Scope(tenant))))]


def _find(connection: Connection, tenant: str, name: str) -> PrivacyFilter:
    row = connection.execute(_one(tenant, name)).first()
    if row is None:
        raise NotFound(f"there is no privacy filter {name}")
    return _of(row)


def _row(found: PrivacyFilter) -> dict[str, Any]:
    lists = {field: list(getattr(found, field)) for field in ("methods", "models", "streams")}
    return asdict(found) | Scope(found.tenant)._asdict() | lists | {"rules": [list(rule) for rule in found.rules]}


def _of(row: Row[Any]) -> PrivacyFilter:
    return PrivacyFilter(
        row.privacy_filter,
        row.tenant,
        row.description,
        tuple(row.methods),
        tuple(row.models),
        tuple(row.streams),
        row.answers,
        tuple(PrivacyRule(*rule) for rule in row.rules),
        row.create_time,
        row.update_time,
        row.delete_time,
        row.generation,
    )
