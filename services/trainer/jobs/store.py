"""Where jobs are kept, and the queue. The clock of leases is the database's."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, ColumnElement, Index, String, func, insert, select, update
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, database_clock, scoped, within
from services.kit.errors import NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.trainer.database import schema
from services.trainer.jobs import domain
from services.trainer.jobs.domain import Job, JobState

job = scoped(
    "job",
    schema.metadata,
    Column("job", String(36), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("worker", String(64), nullable=False),
    Column("lease_expire_time", UtcDateTime),
    Column("delete_time", UtcDateTime),
    # The whole job; the columns beside it are what is searched by.
    Column("definition", JSON, nullable=False),
    Index("job_state", "state", "tenant"),
    Index("job_operation", "operation", unique=True),
)
_JOB = TypeAdapter(Job)
Change = Callable[[Job, datetime], Job]
# Writes what goes with a change (operation, run, events) in its transaction; the first job is None for a new one.
Follow = Callable[[Connection, Scope, Job | None, Job], None]
Also = Callable[[Connection, Job], None]
Clock = Callable[[Connection], datetime]


class Store:
    """The table of jobs."""

    def __init__(self, db: Database, follow: Follow, clock: Clock = database_clock) -> None:
        self._db, self._follow, self._clock = db, follow, clock
        self.recall = db.recall

    async def add(self, scope: Scope, make: Callable[[str], Job], resource: str, once: Once | None) -> Operation:
        """Keeps a new job and its operation, which is returned; `make` gets the operation's id."""

        def work(connection: Connection) -> Operation:
            operation = schema.operations.create(connection, scope, "aimass.v1.Jobs/SubmitJob", resource)
            made = make(operation.operation)
            connection.execute(insert(job).values({**scope._asdict(), **_row(made)}))
            self._follow(connection, scope, None, made)
            return operation

        return await self._db.run(work, once)

    async def get(self, scope: Scope, name: str) -> Job:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: _get(connection, scope, name))

    async def ahead(self, scope: Scope, name: str) -> int:
        """How many queued jobs of the tenant were there before it."""
        here = (job.c.tenant == scope.tenant) & (job.c.state == JobState.QUEUED) & (job.c.job < name)
        query = select(func.count()).select_from(job).where(here)
        return await self._db.read(lambda connection: connection.execute(query).scalar_one())

    async def find(self, scope: Scope, operation: str) -> str:
        """The job behind an operation; empty if there is none."""
        query = select(job.c.job).where(within(job, scope) & (job.c.operation == operation))
        return await self._db.read(lambda connection: connection.execute(query).scalar()) or ""

    async def list(self, scope: Scope, model: str, page_size: int, page_token: str, show_deleted: bool) -> Page[Job]:
        """Newest first."""
        query = select(job.c.job, job.c.definition).where(within(job, scope))
        if model:
            query = query.where(job.c.model == model)
        if not show_deleted:
            query = query.where(job.c.delete_time.is_(None))
        return await listed(self._db, query, job.c.job, _parse, page_size, page_token, newest_first=True)

    async def change(
        self, scope: Scope, name: str, decide: Change, deleted: bool = False, also: Also | None = None
    ) -> Job:
        """Loads, decides with the database's time, and saves with what follows, in one transaction.

        `also` writes more when the job changed. Raises not_found.
        """

        def work(connection: Connection) -> Job:
            before = _get(connection, scope, name, deleted)
            after = self._save(connection, scope, before, decide(before, self._clock(connection)))
            if also and after != before:
                also(connection, after)
            return after

        return await self._db.run(work)

    def _save(self, connection: Connection, scope: Scope, before: Job, after: Job) -> Job:
        if after != before:
            connection.execute(update(job).where(_is(scope, after.job)).values(_row(after)))
            self._follow(connection, scope, before, after)
        return after

    async def lease(self, worker: str, seconds: float) -> tuple[Scope, Job] | None:
        """The next job for a worker: of the tenant with the fewest running ones the oldest. None: nothing to do."""

        def work(connection: Connection) -> tuple[Scope, Job] | None:
            self._expire(connection)
            if (place := _next(connection)) is None:
                return None
            scope, name = place
            before = _get(connection, scope, name)
            return scope, self._save(
                connection, scope, before, domain.lease(before, worker, self._clock(connection), seconds)
            )

        return await self._db.run(work)

    async def expire(self) -> int:
        """Takes jobs back whose workers are silent; returns how many."""
        return await self._db.run(self._expire)

    def _expire(self, connection: Connection) -> int:
        now = self._clock(connection)
        return self._lose(connection, job.c.lease_expire_time < now, now)

    async def release(self, workers: str) -> int:
        """Takes jobs back from workers, by the beginning of their names, that are known to be gone."""

        def work(connection: Connection) -> int:
            return self._lose(connection, job.c.worker.startswith(workers, autoescape=True), self._clock(connection))

        return await self._db.run(work)

    def _lose(self, connection: Connection, which: ColumnElement[bool], now: datetime) -> int:
        # All tenants: the installation's own look at its queue.
        query = select(job).where((job.c.state == JobState.RUNNING) & which).with_for_update(skip_locked=True)
        rows = connection.execute(query).all()
        for row in rows:
            before = _parse(row)
            self._save(connection, Scope(row.tenant, row.project), before, domain.lost(before, now))
        return len(rows)


def _next(connection: Connection) -> tuple[Scope, str] | None:
    counted = select(job.c.tenant, func.count()).where(job.c.state == JobState.RUNNING).group_by(job.c.tenant)
    running = {row[0]: row[1] for row in connection.execute(counted)}
    oldest = select(job.c.tenant, func.min(job.c.job).label("job")).where(job.c.state == JobState.QUEUED)
    waiting = connection.execute(oldest.group_by(job.c.tenant)).all()
    if not waiting:
        return None
    first = min(waiting, key=lambda row: (running.get(row.tenant, 0), row.job))
    query = select(job.c.project).where((job.c.tenant == first.tenant) & (job.c.job == first.job))
    # Another process may have taken it in this moment: then there is nothing until the next question.
    project = connection.execute(query.with_for_update(skip_locked=True)).scalar()
    return (Scope(first.tenant, project), first.job) if project else None


def _is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(job, scope) & (job.c.job == name)


def _get(connection: Connection, scope: Scope, name: str, deleted: bool = False) -> Job:
    row = connection.execute(select(job).where(_is(scope, name))).first()
    if row is None or (row.delete_time and not deleted):
        raise NotFound(f"there is no job {name}")
    return _parse(row)


def _row(made: Job) -> dict[str, Any]:
    names = ("job", "operation", "state", "worker", "lease_expire_time", "delete_time")
    columns = {name: getattr(made, name) for name in names}
    return {**columns, "model": made.spec.model, "definition": _JOB.dump_python(made, mode="json")}


def _parse(row: Any) -> Job:
    return _JOB.validate_python(row.definition)
