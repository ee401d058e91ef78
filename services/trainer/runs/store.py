"""Where runs and their metric points are kept."""

import math
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, BigInteger, Column, ColumnElement, Float, Index, String, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.errors import NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.trainer.database import schema
from services.trainer.jobs.domain import File
from services.trainer.runs.domain import Point, Run

run = scoped(
    "run",
    schema.metadata,
    Column("run", String(36), primary_key=True),
    Column("job", String(36), nullable=False),
    Column("model", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime),
    Index("run_model", "tenant", "project", "model"),
)
metric_point = scoped(
    "metric_point",
    schema.metadata,
    Column("run", String(36), primary_key=True),
    Column("metric", String(128), primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Float, nullable=False),
    Column("time", UtcDateTime, nullable=False),
)
_FILES = TypeAdapter(tuple[File, ...])


class Store:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, connection: Connection, scope: Scope, made: Run) -> None:
        """Keeps a new run, in the caller's transaction."""
        row = {**vars(made), "files": _FILES.dump_python(made.files, mode="json")}
        connection.execute(insert(run).values({**scope._asdict(), **row}))

    def set(self, connection: Connection, scope: Scope, name: str, **values: Any) -> None:
        """Changes columns of a run, in the caller's transaction."""
        if "files" in values:
            values["files"] = _FILES.dump_python(values["files"], mode="json")
        connection.execute(update(run).where(_is(scope, name)).values(**values))

    def record(self, connection: Connection, scope: Scope, name: str, points: Sequence[Point]) -> None:
        """Keeps points, in the caller's transaction. A later attempt's point takes the place of the one before."""
        if not points:
            return
        latest = {(point.metric, point.step): point for point in points}
        here = within(metric_point, scope) & (metric_point.c.run == name)
        for metric in {point.metric for point in points}:
            steps = [step for kind, step in latest if kind == metric]
            same = here & (metric_point.c.metric == metric) & metric_point.c.step.in_(steps)
            connection.execute(delete(metric_point).where(same))
        rows = [{**scope._asdict(), "run": name, **vars(point)} for point in latest.values()]
        connection.execute(insert(metric_point), rows)
        metrics = connection.execute(select(run.c.metrics).where(_is(scope, name))).scalar_one()
        in_order = sorted(latest.values(), key=lambda point: point.step)
        # JSON has no other numbers; the points themselves keep what was measured.
        last = {point.metric: point.value for point in in_order if math.isfinite(point.value)}
        self.set(connection, scope, name, metrics={**metrics, **last})

    async def get(self, scope: Scope, name: str) -> Run:
        """Raises not_found."""
        query = select(run).where(_is(scope, name))
        row = await self._db.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise NotFound(f"there is no run {name}")
        return _parse(row)

    async def list(self, scope: Scope, model: str, page_size: int, page_token: str) -> Page[Run]:
        """Newest first."""
        query = select(run).where(within(run, scope))
        if model:
            query = query.where(run.c.model == model)
        return await listed(self._db, query, run.c.run, _parse, page_size, page_token, newest_first=True)

    async def points(self, scope: Scope, name: str, metric: str, page_size: int, page_token: str) -> Page[Point]:
        """By step. Raises not_found for a run that is not there."""
        await self.get(scope, name)
        here = within(metric_point, scope) & (metric_point.c.run == name) & (metric_point.c.metric == metric)
        query = select(metric_point).where(here)

        def point(row: Row[Any]) -> Point:
            return Point(row.metric, row.step, row.value, row.time)

        return await listed(self._db, query, metric_point.c.step, point, page_size, page_token)


def _is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(run, scope) & (run.c.run == name)


def _parse(row: Row[Any]) -> Run:
    values = {name: value for name, value in row._mapping.items() if name not in Scope._fields}
    return Run(**{**values, "files": _FILES.validate_python(values["files"])})
