"""Where pipelines, their runs and cursors are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, ColumnElement, Index, Integer, String, delete, insert, select, text, update
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.metering import service as metering
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget
from services.data.pipelines.domain import CANCELLED, FAILED, RUNNING, SUCCEEDED, Cursor, Output, Pipeline, Run, Step
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.definitions import Definitions
from services.kit.errors import Code, Failure, NotFound

pipeline = scoped(
    "pipeline",
    schema.metadata,
    Column("pipeline", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("steps", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_ACTIVE = text("state = 'running'")
pipeline_run = scoped(
    "pipeline_run",
    schema.metadata,
    Column("run", String(36), primary_key=True),
    Column("pipeline", String(63), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("steps", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime),
    Index("pipeline_run_state", "state"),
    Index(
        "pipeline_run_running", "tenant", "project", "pipeline", unique=True,
        sqlite_where=_ACTIVE, postgresql_where=_ACTIVE,
    ),
)  # fmt: skip
pipeline_cursor = scoped(
    "pipeline_cursor",
    schema.metadata,
    Column("pipeline", String(63), primary_key=True),
    Column("data_set", String(63), primary_key=True),
    Column("cursor", JSON, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
_STEPS, _OUTPUTS = TypeAdapter(tuple[Step, ...]), TypeAdapter(tuple[Output, ...])
Respond = Callable[[Run], Message]
# Asked every other second: made once.
_UNFINISHED = select(pipeline_run).where(pipeline_run.c.state == RUNNING).order_by(pipeline_run.c.run)


class Store(Definitions[Pipeline]):
    """The tables."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, pipeline, _pipeline_row, _pipeline)

    async def begin(
        self, scope: Scope, wanted: Run, once: Once | None, budget: CpuBudget = DEFAULT_BUDGET
    ) -> tuple[Run, Operation]:
        """Keeps a run with its operation, which is returned.

        Raises not_found, invalid_value; in_progress while another one runs.
        """

        def work(connection: Connection) -> tuple[Run, Operation]:
            self.existing(connection, scope, wanted.pipeline)
            here = within(pipeline_run, scope) & (pipeline_run.c.pipeline == wanted.pipeline)
            running = select(pipeline_run.c.run).where(here & (pipeline_run.c.state == RUNNING))
            if connection.execute(running).first():
                raise Failure(Code.IN_PROGRESS, f"the pipeline {wanted.pipeline} is running")
            method, resource = "aimass.v1.Pipelines/RunPipeline", f"pipelines/{wanted.pipeline}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "pipeline", budget)
            run = replace(wanted, operation=operation.operation)
            connection.execute(insert(pipeline_run).values({**scope._asdict(), **_run_row(run)}))
            return run, operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Run]]:
        """The runs of all tenants that have not ended."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _run(row)) for row in rows]

    async def run(self, scope: Scope, name: str) -> Run:
        """Raises not_found."""
        return await self._db.read(lambda connection: _get_run(connection, scope, name))

    async def cursor(self, scope: Scope, run: Run, step: Step) -> Cursor | None:
        """The last value of a step's cursor column that a run has seen."""
        query = select(pipeline_cursor.c.cursor).where(_cursor_of(scope, run, step))
        found: Cursor | None = await self._db.read(lambda connection: connection.execute(query).scalar())
        return found

    async def record_step(
        self, scope: Scope, name: str, output: Output, cursor: Cursor | None, now: datetime, respond: Respond
    ) -> None:
        """`record` in a transaction of its own, for a step that added no version."""
        await self._db.run(lambda connection: self.record(connection, scope, name, output, cursor, now, respond))

    def record(
        self,
        connection: Connection,
        scope: Scope,
        name: str,
        output: Output,
        cursor: Cursor | None,
        now: datetime,
        respond: Respond,
    ) -> None:
        """Marks the next step of a run as done; after the last one ends run and operation.

        In the transaction of the step's version. Raises cancelled when the run has ended in the meantime.
        """
        before = _get_run(connection, scope, name)
        schema.tenure.check(connection, before.operation)
        if before.state != RUNNING:
            raise Failure(Code.CANCELLED, f"the run {name} has ended")
        step = before.steps[before.next_step]
        after = replace(before, outputs=(*before.outputs, output))
        if cursor is not None:
            connection.execute(delete(pipeline_cursor).where(_cursor_of(scope, after, step)))
            key = {**scope._asdict(), "pipeline": after.pipeline, "data_set": step.data_set}
            connection.execute(insert(pipeline_cursor).values({**key, "cursor": cursor, "update_time": now}))
        if after.next_step == len(after.steps):
            after = replace(after, state=SUCCEEDED, end_time=now)
            schema.operations.end(connection, scope, after.operation, response=respond(after))
        _save_run(connection, scope, after)

    async def end(self, scope: Scope, name: str, now: datetime, failure: Failure | None) -> None:
        """Ends a run that did not succeed: with a failure, or as cancelled. One that has ended stays as it is."""

        def work(connection: Connection) -> None:
            before = _get_run(connection, scope, name)
            schema.tenure.check(connection, before.operation)
            if before.state != RUNNING:
                return
            _save_run(connection, scope, replace(before, state=FAILED if failure else CANCELLED, end_time=now))
            schema.operations.end(connection, scope, before.operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _pipeline_row(made: Pipeline) -> dict[str, Any]:
    return {**asdict(made), "steps": _STEPS.dump_python(made.steps, mode="json")}


def _pipeline(row: Mapping[str, Any]) -> Pipeline:
    return Pipeline(**{**row, "steps": _STEPS.validate_python(row["steps"])})


def _run_is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(pipeline_run, scope) & (pipeline_run.c.run == name)


def _get_run(connection: Connection, scope: Scope, name: str) -> Run:
    row = connection.execute(select(pipeline_run).where(_run_is(scope, name))).first()
    if row is None:
        raise NotFound(f"there is no run {name}")
    return _run(row)


def _run(row: Row[Any]) -> Run:
    kept: Mapping[str, Any] = row._asdict()
    found = {name: kept[name] for name in Run.__dataclass_fields__}
    steps, outputs = _STEPS.validate_python(row.steps), _OUTPUTS.validate_python(row.outputs)
    return Run(**{**found, "steps": steps, "outputs": outputs})


def _run_row(run: Run) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in Run.__dataclass_fields__},
        "steps": _STEPS.dump_python(run.steps, mode="json"),
        "inputs": dict(run.inputs),
        "outputs": _OUTPUTS.dump_python(run.outputs, mode="json"),
    }


def _save_run(connection: Connection, scope: Scope, run: Run) -> None:
    connection.execute(update(pipeline_run).where(_run_is(scope, run.run)).values(_run_row(run)))


def _cursor_of(scope: Scope, run: Run, step: Step) -> ColumnElement[bool]:
    here = within(pipeline_cursor, scope) & (pipeline_cursor.c.pipeline == run.pipeline)
    return here & (pipeline_cursor.c.data_set == step.data_set)
