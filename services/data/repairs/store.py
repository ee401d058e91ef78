"""Where the health of rules and their repairs are kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    String,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.discovery.service import DEFAULT_SECONDS
from services.data.extractions.domain import Extraction
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.data.repairs import domain
from services.data.repairs.domain import ColumnHealth, Health, Policy, Repair, Share, State
from services.data.repairs.wire import repair_to_wire
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import Code, Failure
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.timestamps import uuid7

_RUNNING = text("state = 'running'")
_health = scoped(
    "rule_health",
    schema.metadata,
    Column("rule", String(63), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("evidence", Float, nullable=False),
    Column("policy", String(16), nullable=False),
    Column("extraction", String(36), nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    # Of each column: name, rows, rows without a value, evidence.
    Column("columns", JSON, nullable=False, server_default="[]"),
)
_repair = scoped(
    "rule_repair",
    schema.metadata,
    Column("repair", String(36), primary_key=True),
    Column("rule", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("extraction", String(36), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("repaired_version", Integer, nullable=False),
    Column("records", Integer, nullable=False),
    Column("taken", Integer, nullable=False),
    Column("tested", Integer, nullable=False),
    Column("right", Integer, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime),
    Index("rule_repair_state", "state"),
    Index(
        "rule_repair_running",
        "tenant",
        "project",
        "rule",
        unique=True,
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    ),
)
_HEALTH = ("rule", "version", "policy", "extraction", "update_time")
_REPAIR = [column.name for column in _repair.columns if column.name not in Scope._fields]
_METHOD = "aimass.v1.Repairs/RepairRule"
_AGAIN = timedelta(hours=1)  # before a version is looked at again by itself
# Asked every other second: made once.
_UNFINISHED = select(_repair).where(_repair.c.state == State.RUNNING)


class RepairStore:
    """The tables."""

    def __init__(self, db: Database, now: Callable[[], datetime]) -> None:
        self._db, self._now = db, now
        self.recall = db.recall

    async def health(self, scope: Scope, rule: str) -> Health:
        """How a rule does in use; version 0 for one that was never used."""
        return await self._db.read(lambda connection: self._health(connection, scope, rule))

    async def set_policy(self, scope: Scope, rule: str, policy: Policy) -> Health:
        """Keeps what is done when the source drifts."""

        def work(connection: Connection) -> Health:
            before = self._health(connection, scope, rule)
            after = replace(before, policy=policy, update_time=self._now())
            _save(connection, scope, after)
            return after

        return await self._db.run(work)

    def seen(self, connection: Connection, scope: Scope, run: Extraction) -> None:
        """Takes note of a run of a rule; what has drifted by it is looked at soon."""
        rule, before, now = run.rule, self._health(connection, scope, run.rule), self._now()
        after = domain.seen(
            before, run.rule_version, run.records_read, run.rows_quarantined, run.extraction, run.fills, now
        )
        _save(connection, scope, after)
        if after.drifted and after.policy is not Policy.NONE and self._may_look(connection, scope, after, now):
            operation = schema.operations.create(connection, scope, _METHOD, f"rules/{rule}")
            self._add(connection, scope, after, operation, CpuBudget())

    async def begin(
        self, scope: Scope, rule: str, check: Callable[[Connection], int], once: Once | None, budget: CpuBudget
    ) -> tuple[Repair, Operation]:
        """Keeps a repair and its operation; `check` gives the active version. Raises in_progress, not_found."""

        def work(connection: Connection) -> tuple[Repair, Operation]:
            version, health = check(connection), self._health(connection, scope, rule)
            if health.version != version:
                health = Health(rule, self._now(), version, policy=health.policy)
            running = within(_repair, scope) & (_repair.c.rule == rule) & (_repair.c.state == State.RUNNING)
            if other := connection.execute(select(_repair.c.repair).where(running)).scalar():
                raise Failure(Code.IN_PROGRESS, f"the repair {other} of {rule} is running", retry_after=1)
            operation = schema.operations.create(connection, scope, _METHOD, f"rules/{rule}")
            return self._add(connection, scope, health, operation, budget), operation

        return await self._db.run(work, once)

    async def list(self, scope: Scope, rule: str, page_size: int, page_token: str) -> Page[Repair]:
        """Newest first."""
        query = select(_repair).where(within(_repair, scope) & (_repair.c.rule == rule))
        return await listed(self._db, query, _repair.c.repair, _read, page_size, page_token, newest_first=True)

    async def unfinished(self) -> Sequence[tuple[Scope, Repair]]:
        """The repairs of all tenants that have not ended."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _read(row)) for row in rows]

    async def end(
        self, scope: Scope, repair: Repair, decide: Callable[[Connection], Repair], failure: Failure | None = None
    ) -> None:
        """Ends a repair once, with what `decide` makes of it. Raises fence_stale when others do it by now."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, repair.operation)
            here = _is(scope, repair.repair)
            if connection.execute(select(_repair.c.state).where(here)).scalar() != State.RUNNING:
                return
            after = decide(connection)
            connection.execute(update(_repair).where(here).values(**_values(after)))
            done = None if after.state in (State.FAILED, State.CANCELLED) else repair_to_wire(after)
            cancelled = after.state is State.CANCELLED
            schema.operations.end(connection, scope, repair.operation, done, failure, cancelled)

        await self._db.run(work)

    def _health(self, connection: Connection, scope: Scope, rule: str) -> Health:
        row = connection.execute(select(_health).where(within(_health, scope) & (_health.c.rule == rule))).first()
        if row is None:
            return Health(rule, self._now())
        columns = tuple(ColumnHealth(name, Share(*counts)) for name, *counts in row.columns)
        shares = {"refusals": Share(row.records, row.refused, row.evidence), "columns": columns}
        return Health(**{name: getattr(row, name) for name in _HEALTH} | shares | {"policy": Policy(row.policy)})

    def _add(
        self, connection: Connection, scope: Scope, health: Health, operation: Operation, budget: CpuBudget
    ) -> Repair:
        made = Repair(uuid7(), health.rule, health.version, health.extraction, operation.operation, self._now())
        budget = budget._replace(cpu_seconds=budget.cpu_seconds or DEFAULT_SECONDS)
        metering.begin(connection, scope, operation.operation, "discovery", budget)
        connection.execute(insert(_repair).values(**scope._asdict(), **_values(made)))
        return made

    @staticmethod
    def _may_look(connection: Connection, scope: Scope, health: Health, now: datetime) -> bool:
        """Whether nobody looks, and has not looked for a while, or found something that waits for a person."""
        here = within(_repair, scope) & (_repair.c.rule == health.rule) & (_repair.c.version == health.version)
        row = connection.execute(select(_repair).where(here).order_by(_repair.c.repair.desc()).limit(1)).first()
        if row is None:
            return True
        last = _read(row)
        waits = last.state in (State.RUNNING, State.PROPOSED)
        return not waits and last.end_time is not None and now - last.end_time >= _AGAIN


def _is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(_repair, scope) & (_repair.c.repair == name)


def _save(connection: Connection, scope: Scope, health: Health) -> None:
    here = within(_health, scope) & (_health.c.rule == health.rule)
    values = {name: getattr(health, name) for name in _HEALTH} | {"policy": health.policy.value}
    refusals = health.refusals
    values |= {"records": refusals.total, "refused": refusals.bad, "evidence": refusals.evidence}
    values["columns"] = [[one.column, one.share.total, one.share.bad, one.share.evidence] for one in health.columns]
    if not connection.execute(update(_health).where(here).values(**values)).rowcount:
        connection.execute(insert(_health).values(**scope._asdict(), **values))


def _values(repair: Repair) -> dict[str, Any]:
    columns = [column.__dict__ for column in repair.columns]
    return {name: getattr(repair, name) for name in _REPAIR} | {"state": repair.state.value, "columns": columns}


def _read(row: Row[Any]) -> Repair:
    columns = tuple(domain.Column(**column) for column in row.columns)
    return Repair(**{name: getattr(row, name) for name in _REPAIR} | {"state": State(row.state), "columns": columns})
