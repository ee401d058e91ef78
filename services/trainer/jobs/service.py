"""The use cases of callers with jobs; those of workers are in `queue`."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import FailedPrecondition, InvalidValue, Violation
from services.kit.pages import Page
from services.kit.timestamps import uuid7
from services.trainer.jobs import domain
from services.trainer.jobs.catalog import Catalog
from services.trainer.jobs.domain import Job, JobSpec, JobState
from services.trainer.jobs.queue import Queue
from services.trainer.jobs.store import Store

_NUMBERS = ("bool", "int64", "double")


class Jobs:
    """The use cases of callers."""

    def __init__(self, store: Store, queue: Queue, catalog: Catalog, now: Callable[[], datetime]) -> None:
        self._store, self._queue, self._catalog, self._now = store, queue, catalog, now

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
        self._queue.wake()
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
        await self._queue.changed()
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
            rule = Violation(
                f"/spec/{what}/column", f"must be a numeric column of {inputs.data_set}; {rows.column} is not"
            )
            raise InvalidValue(rule.rule, [rule])
