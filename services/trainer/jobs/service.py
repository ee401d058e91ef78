"""What one does with jobs."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import FailedPrecondition, Failure, InvalidValue, Violation
from services.kit.pages import Page
from services.kit.schema import Schema
from services.kit.timestamps import uuid7
from services.trainer.jobs import domain, events
from services.trainer.jobs.catalog import Catalog
from services.trainer.jobs.domain import Job, JobSpec, JobState, Package
from services.trainer.jobs.store import Store
from services.trainer.jobs.wire import job_to_wire
from services.trainer.runs.domain import Point
from services.trainer.runs.service import Runs

log = logging.getLogger(__name__)
_NUMBERS = ("bool", "int64", "double")


class Jobs:
    """The use cases of callers and of workers."""

    def __init__(
        self,
        open_store: Callable[[Any], Store],
        schema: Schema,
        runs: Runs,
        catalog: Catalog,
        now: Callable[[], datetime],
    ) -> None:
        """`open_store` makes the store out of what is to be written with each change."""
        self._store, self._schema, self._runs = open_store(self._follow), schema, runs
        self._catalog, self._now = catalog, now
        self._news = asyncio.Event()

    def _follow(self, connection: Connection, scope: Scope, before: Job | None, after: Job) -> None:
        """What goes with every change of a job, in its transaction: event, operation, run."""
        if before is None:
            self._runs.begin(connection, scope, after)
        if before is None or before.generation != after.generation:
            self._schema.outbox.add(connection, [events.job_changed(scope, after, self._now())])
        operations, name = self._schema.operations, after.operation
        if before and before.state != after.state:
            self._runs.move(connection, scope, after)
        if after.state is JobState.SUCCEEDED:
            operations.end(connection, scope, name, job_to_wire(after))
        elif after.state is JobState.CANCELLED:
            operations.end(connection, scope, name, cancelled=True)
        elif after.state is JobState.FAILED:
            operations.end(connection, scope, name, failure=FailedPrecondition(after.error[:1000]))
        elif before:
            state = "running" if after.state is JobState.RUNNING else "pending"
            wish = {"cancel_requested": True} if after.cancel_requested else {}
            how = {"state": state, "progress": after.progress, "stage": after.stage, "message": after.error[:1000]}
            operations.set(connection, scope, name, **how, **wish)

    async def _changed(self) -> None:
        self._news.set()
        await self._schema.operations.tell()

    async def submit(self, scope: Scope, spec: JobSpec, once: Once | None) -> Operation:
        """Queues a job with its versions pinned; answers with the operation.

        Raises invalid_value, not_found and unknown_version, and failed_precondition for columns that are missing.
        """
        domain.check(spec)
        await self._store.recall(once)
        number, inputs = await self._catalog.features(scope, spec.feature_set, spec.feature_set_version)
        known = await self._catalog.data(scope, inputs.data_set, spec.data_set_version)
        _check_columns(spec, inputs, known.columns)
        pinned = replace(spec, feature_set_version=number, data_set_version=known.version)
        name, run, now = uuid7(), uuid7(), self._now()
        operation = await self._store.add(
            scope, lambda operation: Job(name, pinned, inputs, run, now, operation), f"jobs/{name}", once
        )
        self._news.set()
        return operation

    async def get(self, scope: Scope, name: str) -> tuple[Job, str]:
        """The job and why it is still in the queue. Raises not_found."""
        job = await self._store.get(scope, name)
        if job.state is not JobState.QUEUED:
            return job, ""
        ahead = await self._store.ahead(scope, name)
        return job, f"{ahead} jobs before it" if ahead > 1 else "one job before it" if ahead else "a free worker"

    async def list(self, scope: Scope, model: str, page_size: int, page_token: str, show_deleted: bool) -> Page[Job]:
        """Newest first."""
        return await self._store.list(scope, model, page_size, page_token, show_deleted)

    async def cancel(self, scope: Scope, name: str) -> Job:
        """Asks a job to stop. Raises not_found."""
        job = await self._store.change(scope, name, domain.cancel)
        await self._changed()
        return job

    async def cancel_operation(self, scope: Scope, operation: str) -> None:
        """Asks the job behind an operation to stop."""
        if name := await self._store.find(scope, operation):
            await self.cancel(scope, name)

    async def delete(self, scope: Scope, name: str, etag: str) -> Job:
        """Raises not_found, etag_mismatch, failed_precondition."""
        return await self._store.change(scope, name, lambda job, now: domain.delete(job, etag, now), deleted=True)

    async def undelete(self, scope: Scope, name: str) -> Job:
        """Raises not_found."""
        return await self._store.change(scope, name, lambda job, _: domain.undelete(job), deleted=True)

    async def lease(self, worker: str, wait: float, seconds: float) -> tuple[Scope, Job] | None:
        """The next job for a worker, or None when there is none within `wait` seconds."""
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            self._news.clear()
            if found := await self._store.lease(worker, seconds):
                await self._schema.operations.tell()
                return found
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                # Jobs that another process queued, and leases that run out, make no news here.
                async with asyncio.timeout(min(left, 1.0)):  # not wait_for: Python 3.11's can lose a cancellation
                    await self._news.wait()

    async def renew(
        self,
        scope: Scope,
        name: str,
        fence: int,
        seconds: float,
        progress: float,
        stage: str,
        points: Iterable[Point],
        cpu: int = 0,
    ) -> Job:
        """A sign of life with what was measured. Raises not_found, fence_stale."""
        measured = tuple(points)

        def decide(job: Job, now: datetime) -> Job:
            return domain.renew(job, fence, now, seconds, progress, stage, cpu)

        def also(connection: Connection, job: Job) -> None:
            self._runs.record(connection, scope, job.run, measured)

        job = await self._store.change(scope, name, decide, also=also)
        await self._schema.operations.tell()
        return job

    async def fail(self, scope: Scope, name: str, fence: int, reason: str, retry: bool, cancelled: bool) -> None:
        """Ends an attempt. Raises not_found, fence_stale."""

        def decide(job: Job, now: datetime) -> Job:
            domain.hold(job, fence)
            return domain.failed(job, reason, retry, cancelled, now)

        await self._store.change(scope, name, decide)
        await self._changed()

    async def complete(
        self,
        scope: Scope,
        name: str,
        fence: int,
        package: Package,
        points: Iterable[Point],
        files: Iterable[domain.File],
    ) -> None:
        """Accepts a result once: job, run, operation and both events in one transaction. Raises fence_stale."""
        measured, kept, now = tuple(points), tuple(files), self._now()

        def also(connection: Connection, job: Job) -> None:
            self._runs.record(connection, scope, job.run, measured)
            self._runs.keep(connection, scope, job.run, kept)
            self._schema.outbox.add(connection, [events.training_succeeded(scope, job, package, now)])

        await self._store.change(
            scope, name, lambda job, at: domain.succeeded(job, fence, package.digest, at), also=also
        )
        await self._changed()

    async def release(self, workers: str) -> None:
        """Takes jobs back from workers that are known to be gone, by the beginning of their names."""
        if await self._store.release(workers):
            await self._changed()

    async def watch(self) -> None:
        """Takes back, for ever, jobs whose workers are silent."""
        while True:
            await asyncio.sleep(1.0)
            try:
                if await self._store.expire():
                    await self._changed()
            except Failure as failure:
                log.warning("leases of jobs are not watched: %s", failure)


def _check_columns(spec: JobSpec, inputs: domain.Inputs, columns: dict[str, str]) -> None:
    """Raises failed_precondition when the data lacks what the features take, invalid_value for a range on no number."""
    kinds = dict(inputs.columns)
    for name in (*kinds, inputs.label, inputs.key):
        if name not in columns:
            raise FailedPrecondition(f"{inputs.data_set} has no column {name}, which {spec.feature_set} takes")
        if (kinds.get(name, "") == "string") != (name in kinds and columns[name] == "string"):
            raise FailedPrecondition(f"{inputs.data_set} holds another type in {name} than {spec.feature_set} takes")
    for what, rows in (("train", spec.train), ("evaluate", spec.evaluate)):
        if columns.get(rows.column) not in _NUMBERS:
            rule = Violation(f"/spec/{what}/column", f"{rows.column} is no column of numbers of {inputs.data_set}")
            raise InvalidValue(rule.rule, [rule])
