"""Where releases are kept, each change with its operation and its event in one transaction."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import JSON, Column, Integer, Select, String, insert, select, tuple_, update
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import Failure
from services.kit.listing import listed
from services.kit.pages import Page
from services.registry.database import schema
from services.registry.releases.domain import Release, Released, State
from services.registry.releases.traffic import PLAIN, Rule, Share, Sticky, Traffic

_release = scoped(
    "release",
    schema.metadata,
    Column("model", String(63), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("desired", JSON(none_as_null=True)),
    Column("serving", JSON(none_as_null=True)),
    Column("previous", JSON(none_as_null=True)),
    Column("reason", String(1000), nullable=False),
    Column("operation", String(64), nullable=False, index=True),
    Column("deadline", UtcDateTime),
    Column("applied", JSON, nullable=False),
    Column("traffic", JSON, nullable=False),
    Column("shared", JSON, nullable=False),
)


@dataclass(frozen=True)
class Messages:
    """How a release becomes an event and an operation's response."""

    event: Callable[[Scope, Release], Event]
    response: Callable[[Release], Message]


class Store:
    """Releases. One method, one transaction."""

    def __init__(self, db: Database, messages: Messages) -> None:
        self._db, self._messages = db, messages
        self.recall = db.recall

    async def get(self, scope: Scope, model: str) -> Release | None:
        return await self._db.read(lambda connection: _load(connection, scope, model))

    async def begin(
        self,
        scope: Scope,
        model: str,
        method: str,
        decide: Callable[[Release | None, str], Release],
        once: Once | None,
    ) -> Operation:
        """Decides on a release, given the id of a new operation, which ends at once when nothing is to be done."""

        def work(connection: Connection) -> Operation:
            before = _load(connection, scope, model)
            operation = schema.operations.create(connection, scope, method, f"models/{model}")
            after = decide(before, operation.operation)
            if after == before:
                schema.operations.end(connection, scope, operation.operation, self._messages.response(after))
            else:
                self._save(connection, scope, before, after)
            return operation

        return await self._db.run(work, once)

    async def change(
        self,
        scope: Scope,
        model: str,
        decide: Callable[[Release], Release],
        once: Once | None = None,
        failure: Failure | None = None,
        cancelled: bool = False,
    ) -> Release | None:
        """Decides on a release that is there; when that ends its change, ends the operation too, as the rest says."""

        def work(connection: Connection) -> Release | None:
            before = _load(connection, scope, model)
            after = decide(before) if before else None
            if before and after and after != before:
                self._save(connection, scope, before, after)
                if before.operation and not after.operation:
                    response = self._messages.response(after)
                    schema.operations.end(connection, scope, before.operation, response, failure, cancelled)
            return after

        return await self._db.run(work, once)

    def _save(self, connection: Connection, scope: Scope, before: Release | None, after: Release) -> None:
        row = asdict(after) | {name: _packed(getattr(after, name)) for name in ("desired", "serving", "previous")}
        row |= {"state": after.state.value, "applied": list(after.applied)}
        row |= {"traffic": _traffic_row(after.traffic), "shared": [_packed(version) for version in after.shared]}
        if before is None:
            connection.execute(insert(_release).values(**scope._asdict(), **row))
        else:
            connection.execute(update(_release).where(_here(scope, after.model)).values(row))
        if before is None or before.generation != after.generation:
            schema.outbox.add(connection, [self._messages.event(scope, after)])

    async def page(self, scope: Scope, page_size: int, page_token: str) -> Page[Release]:
        """By model."""
        query = select(_release).where(within(_release, scope))
        return await listed(self._db, query, _release.c.model, _to_release, page_size, page_token)

    async def of_operation(self, scope: Scope, operation: str) -> Release | None:
        """The release whose change under way has this operation."""
        query = select(_release).where(within(_release, scope) & (_release.c.operation == operation))
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return _to_release(row) if row else None

    async def under_way(self, overdue_at: datetime | None = None) -> list[tuple[Scope, Release]]:
        """Changes under way in all tenants; only those overdue at a time, if one is given."""
        query = select(_release).where(_release.c.operation != "")
        if overdue_at:
            query = query.where(_release.c.deadline < overdue_at)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(Scope(row.tenant, row.project), _to_release(row)) for row in rows]

    async def all(self, page: int = 500) -> AsyncIterator[tuple[Scope, Release]]:
        """Every release of every tenant: for services only."""
        key, last = (_release.c.tenant, _release.c.project, _release.c.model), ("", "", "")
        while True:
            query = select(_release).where(tuple_(*key) > last).order_by(*key).limit(page)
            rows = await self._db.read(partial(_all, query))
            for row in rows:
                yield Scope(row.tenant, row.project), _to_release(row)
            if len(rows) < page:
                return
            last = (rows[-1].tenant, rows[-1].project, rows[-1].model)


def _all(query: Select[Any], connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(query).all()


def _here(scope: Scope, model: str) -> Any:
    return within(_release, scope) & (_release.c.model == model)


def _load(connection: Connection, scope: Scope, model: str) -> Release | None:
    row = connection.execute(select(_release).where(_here(scope, model))).first()
    return _to_release(row) if row else None


def _to_release(row: Row[Any]) -> Release:
    return Release(
        model=row.model,
        generation=row.generation,
        state=State(row.state),
        update_time=row.update_time,
        desired=_unpacked(row.desired),
        serving=_unpacked(row.serving),
        previous=_unpacked(row.previous),
        reason=row.reason,
        operation=row.operation,
        deadline=row.deadline,
        applied=tuple(row.applied),
        traffic=_traffic(row.traffic),
        shared=tuple(_known(version) for version in row.shared),
    )


def _packed(version: Released | None) -> dict[str, Any] | None:
    return asdict(version) | {"signature": version.signature.hex()} if version else None


def _unpacked(row: dict[str, Any] | None) -> Released | None:
    return _known(row) if row else None


def _known(row: dict[str, Any]) -> Released:
    return Released(**row | {"signature": bytes.fromhex(row["signature"])})


def _traffic_row(traffic: Traffic) -> dict[str, Any]:
    changed = traffic.update_time.isoformat() if traffic.update_time else None
    return asdict(traffic) | {"update_time": changed} if traffic.generation else {}


def _traffic(row: dict[str, Any]) -> Traffic:
    if not row:
        return PLAIN
    rules = tuple(
        Rule(
            **one
            | {"shares": tuple(Share(**share) for share in one["shares"]), "sticky": Sticky(one["sticky"])}
            | {name: tuple(one[name]) for name in ("values", "callers")}
        )
        for one in row["rules"]
    )
    return Traffic(rules, row["balancing"], row["generation"], datetime.fromisoformat(row["update_time"]))
