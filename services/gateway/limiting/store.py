"""Limits in the gateway's database. They belong to a tenant, not to a project: the project is `default`.

Rows are never deleted, generations only grow: every gateway holds all of them.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Float, Integer, String, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.gateway.database import schema
from services.gateway.limiting.domain import Rule, Terms
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.errors import NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.statements import revision_of

_rule = scoped(
    "rate_rule",
    schema.metadata,
    Column("rate_rule", String(63), primary_key=True),
    Column("level", String(20), nullable=False),
    Column("counts", String(20), nullable=False),
    Column("rate", Float, nullable=False),
    Column("burst", Float, nullable=False),
    Column("in_project", String(63), nullable=False),
    Column("object", String(150), nullable=False),
    Column("imposed", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_REVISION = revision_of(_rule)
# The limit after a change, from the one that is there and how many the tenant has.
Change = Callable[[Rule | None, int], Rule]
Tell = Callable[[Rule, datetime], Event]


class LimitStore:
    """The only SQL on limits."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.near = db.near

    async def everything(self) -> list[Rule]:
        """All limits, also those that are deleted."""
        with tenancy.everybody():
            return await self._db.read(lambda connection: [_as_rule(row) for row in connection.execute(select(_rule))])

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever a limit has changed."""
        with tenancy.everybody():
            return await self._db.read(_REVISION)

    async def rule(self, tenant: str, name: str) -> Rule:
        """Raises not_found; a deleted one is found."""
        with tenancy.of(tenant):
            found = await self._db.read(lambda connection: _find(connection, tenant, name))
        if found is None:
            raise NotFound(f"there is no limit {name}")
        return found

    async def rules(self, tenant: str, page_size: int, page_token: str) -> Page[Rule]:
        """By name, those that are not deleted."""
        query = select(_rule).where(_live(tenant))
        with tenancy.of(tenant):
            return await listed(self._db, query, _rule.c.rate_rule, _as_rule, page_size, page_token)

    async def change(self, tenant: str, name: str, change: Change, tell: Tell) -> Rule:
        """Raises what `change` raises; says nothing of one that stays as it is."""

        def work(connection: Connection) -> Rule:
            old = _find(connection, tenant, name)
            there = connection.execute(select(func.count()).select_from(_rule).where(_live(tenant))).scalar_one()
            if (new := change(old, there)) is old:
                return new
            if old is None:
                connection.execute(insert(_rule).values(_row(new)))
            else:
                connection.execute(update(_rule).where(_at(tenant, name)).values(_row(new)))
            schema.outbox.add(connection, [tell(new, new.update_time)])
            return new

        with tenancy.of(tenant):
            return await self._db.run(work)


def _at(tenant: str, name: str) -> Any:
    return within(_rule, Scope(tenant)) & (_rule.c.rate_rule == name)


def _live(tenant: str) -> Any:
    return within(_rule, Scope(tenant)) & _rule.c.delete_time.is_(None)


def _find(connection: Connection, tenant: str, name: str) -> Rule | None:
    row = connection.execute(select(_rule).where(_at(tenant, name))).first()
    return None if row is None else _as_rule(row)


def _row(rule: Rule) -> dict[str, Any]:
    row = asdict(rule) | Scope(rule.tenant)._asdict() | asdict(rule.terms) | {"rate_rule": rule.limit}
    del row["terms"], row["limit"]
    return row


def _as_rule(row: Row[Any]) -> Rule:
    terms = Terms(row.level, row.counts, row.rate, row.burst, row.in_project, row.object)
    return Rule(
        row.rate_rule,
        row.tenant,
        terms,
        row.imposed,
        row.create_time,
        row.update_time,
        row.delete_time,
        row.generation,
    )
