"""Where series sets, what their runs made, and runs under way are kept."""

from collections.abc import Callable, Sequence
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
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.metering import service as metering
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget
from services.data.series.domain import Result, Run, SeriesSet, SeriesSetVersion, made_by
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

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
_SET, _VERSION, _RUN = TypeAdapter(SeriesSet), TypeAdapter(SeriesSetVersion), TypeAdapter(Run)
_DIGEST = series_set_version.c.definition["digest"].as_string()
Change = Callable[[SeriesSet], SeriesSet]
Respond = Callable[[SeriesSetVersion], Message]
# Asked every other second: made once.
_UNFINISHED = select(series_set_run).order_by(series_set_run.c.operation)


@dataclass(frozen=True)
class Ended:
    """A run whose output is committed in the same transaction."""

    run: Run
    output_version: int
    result: Result
    now: datetime


class Store:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def create(self, scope: Scope, made: SeriesSet, once: Once | None) -> SeriesSet:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> SeriesSet:
            if _find(connection, scope, made.series_set):
                raise AlreadyExists(f"the series set {made.series_set} exists already")
            connection.execute(insert(series_set).values({**scope._asdict(), **_row(made)}))
            return made

        return await self._db.run(work, once)

    async def get(self, scope: Scope, name: str) -> SeriesSet:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: _get(connection, scope, name))

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[SeriesSet]:
        """By name."""
        query = select(series_set).where(within(series_set, scope))
        if not show_deleted:
            query = query.where(series_set.c.delete_time.is_(None))
        return await listed(self._db, query, series_set.c.series_set, _parse, page_size, page_token)

    async def change(self, scope: Scope, name: str, decide: Change) -> SeriesSet:
        """Loads, also a deleted one, decides and saves in one transaction. Raises not_found."""

        def work(connection: Connection) -> SeriesSet:
            after = decide(_get(connection, scope, name, deleted=True))
            _save(connection, scope, after)
            return after

        return await self._db.run(work)

    async def version(self, scope: Scope, name: str, number: int) -> SeriesSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> SeriesSetVersion:
            return _version(connection, scope, name, number or _get(connection, scope, name).latest_version)

        return await self._db.read(work)

    async def begin(
        self, scope: Scope, run: Callable[[str], Run], name: str, once: Once | None, budget: CpuBudget = DEFAULT_BUDGET
    ) -> Operation:
        """Keeps a run and its operation, which is returned.

        Raises not_found, invalid_value; in_progress while another one runs.
        """

        def work(connection: Connection) -> Operation:
            _get(connection, scope, name)
            if connection.execute(select(series_set_run.c.operation).where(_run_of(scope, name))).first():
                raise Failure(Code.IN_PROGRESS, f"the series set {name} is running")
            method, resource = "aimass.v1.SeriesSets/RunSeriesSet", f"series-sets/{name}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "series", budget)
            kept = run(operation.operation)
            row = {"series_set": name, "operation": kept.operation, "definition": _RUN.dump_python(kept, mode="json")}
            connection.execute(insert(series_set_run).values({**scope._asdict(), **row}))
            return operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Run]]:
        """The runs of all tenants that have not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _RUN.validate_python(row.definition)) for row in rows]

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
        self._take(connection, scope, run)
        before = _get(connection, scope, run.series_set, deleted=True)
        after, version = made_by(before, run, ended.output_version, ended.result, ended.now)
        _save(connection, scope, after)
        row = {"series_set": version.series_set, "version": version.version, "operation": run.operation}
        row |= {"definition": _VERSION.dump_python(version, mode="json"), "size": ended.result.size}
        connection.execute(insert(series_set_version).values(**scope._asdict(), **row))
        schema.operations.end(connection, scope, run.operation, respond(version))

    async def finish_unchanged(self, scope: Scope, run: Run, respond: Respond) -> None:
        """Ends a run that found no new rows, with the version that it would have gone on from. Raises as `finish`."""

        def work(connection: Connection) -> None:
            self._take(connection, scope, run)
            version = _version(connection, scope, run.series_set, run.follows)
            schema.operations.end(connection, scope, run.operation, respond(version))

        await self._db.run(work)

    def _take(self, connection: Connection, scope: Scope, run: Run) -> None:
        schema.tenure.check(connection, run.operation)
        if not connection.execute(delete(series_set_run).where(_run_is(scope, run))).rowcount:
            raise Failure(Code.CANCELLED, f"the run of {run.series_set} has ended")

    async def give_up(self, scope: Scope, run: Run, failure: Failure | None) -> None:
        """Ends a run once without a version: with a failure, or as cancelled. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, run.operation)
            if not connection.execute(delete(series_set_run).where(_run_is(scope, run))).rowcount:
                return
            schema.operations.end(connection, scope, run.operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _run_of(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(series_set_run, scope) & (series_set_run.c.series_set == name)


def _run_is(scope: Scope, run: Run) -> ColumnElement[bool]:
    return _run_of(scope, run.series_set) & (series_set_run.c.operation == run.operation)


def _is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(series_set, scope) & (series_set.c.series_set == name)


def _find(connection: Connection, scope: Scope, name: str) -> SeriesSet | None:
    row = connection.execute(select(series_set).where(_is(scope, name))).first()
    return _parse(row) if row else None


def _get(connection: Connection, scope: Scope, name: str, deleted: bool = False) -> SeriesSet:
    found = _find(connection, scope, name)
    if found is None or (found.delete_time and not deleted):
        raise NotFound(f"there is no series set {name}")
    return found


def _version(connection: Connection, scope: Scope, name: str, number: int) -> SeriesSetVersion:
    _get(connection, scope, name)
    here = within(series_set_version, scope) & (series_set_version.c.series_set == name)
    query = select(series_set_version.c.definition).where(here & (series_set_version.c.version == number))
    found = connection.execute(query).scalar()
    if found is None:
        raise Failure(Code.UNKNOWN_VERSION, f"{name} has no version {number}" if number else f"{name} has not run")
    return _VERSION.validate_python(found)


def _save(connection: Connection, scope: Scope, after: SeriesSet) -> None:
    connection.execute(update(series_set).where(_is(scope, after.series_set)).values(_row(after)))


def _row(made: SeriesSet) -> dict[str, Any]:
    times = {name: getattr(made, name) for name in ("create_time", "update_time", "delete_time")}
    return {**_SET.dump_python(made, mode="json"), **times}


def _parse(row: Row[Any]) -> SeriesSet:
    return _SET.validate_python({name: value for name, value in row._mapping.items() if name not in Scope._fields})
