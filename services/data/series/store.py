"""Where series sets, what their runs made, and runs under way are kept."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    String,
    func,
    insert,
    select,
)
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.metering import service as metering
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget
from services.data.series.domain import Result, Run, SeriesSet, SeriesSetVersion, made_by
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.definitions import Definitions
from services.kit.errors import Code, Failure
from services.kit.open_work import Names, OpenWork

series_set = scoped(
    "series_set",
    schema.metadata,
    Column("series_set", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("output", String(63), nullable=False),
    Column("keys", JSON, nullable=False),
    Column("time", String(128), nullable=False),
    Column("features", JSON, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
series_set_version = scoped(
    "series_set_version",
    schema.metadata,
    Column("series_set", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("operation", String(64), nullable=False),
    Column("definition", JSON, nullable=False),
    # Bytes of the state.
    Column("size", BigInteger, nullable=False),
    Index("series_set_version_operation", "operation", unique=True),
)
# A row is a run that has not ended: one at a time of each set.
series_set_run = scoped(
    "series_set_run",
    schema.metadata,
    Column("series_set", String(63), primary_key=True),
    Column("operation", String(64), nullable=False),
    Column("definition", JSON, nullable=False),
)
_SET, _VERSION = TypeAdapter(SeriesSet), TypeAdapter(SeriesSetVersion)
_DIGEST = series_set_version.c.definition["digest"].as_string()
_NAMES = Names("SeriesSets/RunSeriesSet", "series-sets", "run")
Respond = Callable[[SeriesSetVersion], Message]


@dataclass(frozen=True)
class Ended:
    """A run whose output is committed in the same transaction."""

    run: Run
    output_version: int
    result: Result
    now: datetime


class Store(Definitions[SeriesSet]):
    """The tables."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, series_set, _row, _SET.validate_python)
        self.runs = OpenWork(schema, db, series_set_run, Run, _NAMES, metering.counting("series"))

    async def version(self, scope: Scope, name: str, number: int) -> SeriesSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> SeriesSetVersion:
            found = self.existing(connection, scope, name)
            return _version(connection, scope, name, number or found.latest_version)

        return await self._db.read(work)

    async def begin(
        self, scope: Scope, run: Callable[[str], Run], name: str, once: Once | None, budget: CpuBudget = DEFAULT_BUDGET
    ) -> Operation:
        """Keeps a run and its operation, which is returned.

        Raises not_found, invalid_value; in_progress while another one runs.
        """

        def work(connection: Connection) -> Operation:
            self.existing(connection, scope, name)
            if connection.execute(select(series_set_run.c.operation).where(_run_of(scope, name))).first():
                raise Failure(Code.IN_PROGRESS, f"the series set {name} is running")
            return self.runs.add(connection, scope, name, run, budget, series_set=name)

        return await self._db.run(work, once)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the states of each project of all tenants, those of deleted series sets as well; each once."""
        of, which = series_set_version.c, ("tenant", "project")
        states = select(of.tenant, of.project, _DIGEST.label("digest"), of.size).subquery().c
        where = [states[name] for name in which]
        each = select(*where, func.max(states.size).label("size")).group_by(*where, states.digest).subquery().c
        query = select(each.tenant, each.project, func.sum(each.size)).group_by(each.tenant, each.project)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}

    def finish(self, connection: Connection, scope: Scope, ended: Ended, respond: Respond) -> None:
        """Ends a run with a version, in the transaction of its output's version.

        Raises fence_stale when another process does it by now, cancelled when the run has ended in the meantime,
        failed_precondition for a deleted series set.
        """
        run = ended.run
        self.runs.take(connection, scope, run.operation)
        before = self.existing(connection, scope, run.series_set, deleted=True)
        after, version = made_by(before, run, ended.output_version, ended.result, ended.now)
        self.save(connection, scope, after)
        row = {"series_set": version.series_set, "version": version.version, "operation": run.operation}
        row |= {"definition": _VERSION.dump_python(version, mode="json"), "size": ended.result.size}
        connection.execute(insert(series_set_version).values(**scope._asdict(), **row))
        schema.operations.end(connection, scope, run.operation, respond(version))

    async def finish_unchanged(self, scope: Scope, run: Run, respond: Respond) -> None:
        """Ends a run that found no new rows, with the version that it would have gone on from. Raises as `finish`."""

        def work(connection: Connection) -> None:
            self.runs.take(connection, scope, run.operation)
            version = _version(connection, scope, run.series_set, run.follows)
            schema.operations.end(connection, scope, run.operation, respond(version))

        await self._db.run(work)


def _run_of(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(series_set_run, scope) & (series_set_run.c.series_set == name)


def _version(connection: Connection, scope: Scope, name: str, number: int) -> SeriesSetVersion:
    here = within(series_set_version, scope) & (series_set_version.c.series_set == name)
    query = select(series_set_version.c.definition).where(here & (series_set_version.c.version == number))
    found = connection.execute(query).scalar()
    if found is None:
        raise Failure(Code.UNKNOWN_VERSION, f"{name} has no version {number}" if number else f"{name} has not run")
    return _VERSION.validate_python(found)


def _row(made: SeriesSet) -> dict[str, Any]:
    times = {name: getattr(made, name) for name in ("create_time", "update_time", "delete_time")}
    return {**_SET.dump_python(made, mode="json"), **times}
