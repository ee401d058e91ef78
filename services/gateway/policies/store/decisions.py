"""The newest decisions of each tenant. They belong to a tenant, not to a project: the project is `default`."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, Integer, Select, String, delete, insert, select
from sqlalchemy.engine import Connection, Row

from services.gateway.database import schema
from services.gateway.policies.domain.rules import Decision, Facts
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.db import Database, scoped, within
from services.kit.errors import NotFound
from services.kit.listing import listed
from services.kit.pages import Page

KEPT = 1000  # of a tenant
_decision = scoped(
    "decision",
    schema.metadata,
    # Sorts by its time.
    Column("decision", String(36), primary_key=True),
    Column("facts", JSON, nullable=False),
    # That refused it; empty: none did.
    Column("rule", String(63), nullable=False),
    Column("version", Integer, nullable=False),
)
_FACTS = TypeAdapter(Facts)


class DecisionStore:
    """The only SQL on decisions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, decisions: Sequence[Decision]) -> None:
        """Keeps decisions of any tenants, and of each the newest only."""
        rows = [_row(decision) for decision in decisions]

        def work(connection: Connection) -> None:
            connection.execute(insert(_decision), rows)
            for tenant in {decision.tenant for decision in decisions}:
                here = within(_decision, Scope(tenant))
                column = _decision.c.decision
                oldest = select(column).where(here).order_by(column.desc()).offset(KEPT - 1).limit(1)
                if last := connection.execute(oldest).scalar():
                    connection.execute(delete(_decision).where(here & (column < last)))

        with tenancy.everybody():
            await self._db.run(work)

    async def newest(self, tenant: str) -> list[Decision]:
        """All that are kept, newest first."""
        query = _of_tenant(tenant).order_by(_decision.c.decision.desc()).limit(KEPT)
        return await self._db.read(lambda connection: [_as_decision(row) for row in connection.execute(query)])

    async def page(self, tenant: str, page_size: int, page_token: str) -> Page[Decision]:
        """Newest first."""
        query, key = _of_tenant(tenant), _decision.c.decision
        return await listed(self._db, query, key, _as_decision, page_size, page_token, newest_first=True)

    async def one(self, tenant: str, decision: str) -> Decision:
        """Raises not_found."""
        query = _of_tenant(tenant).where(_decision.c.decision == decision)
        row = await self._db.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise NotFound(f"there is no decision {decision[:64]}")
        return _as_decision(row)


def _of_tenant(tenant: str) -> Select[Any]:
    return select(_decision).where(within(_decision, Scope(tenant)))


def _row(decision: Decision) -> dict[str, Any]:
    facts = _FACTS.dump_python(decision.facts, mode="json")
    values = {"decision": decision.decision, "facts": facts, "rule": decision.rule, "version": decision.version}
    return {**Scope(decision.tenant)._asdict(), **values}


def _as_decision(row: Row[Any]) -> Decision:
    return Decision(row.tenant, row.decision, _FACTS.validate_python(row.facts), row.rule, row.version)
