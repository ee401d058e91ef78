"""The use cases of pipelines."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.service import DataSets
from services.data.metering.domain import CpuBudget
from services.data.pipelines.domain import RUNNING, Pipeline, Run, Step, check_steps, external_inputs
from services.data.pipelines.runner import PipelineRunner
from services.data.pipelines.store import Store
from services.data.sql import check_condition, check_query
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, Violation
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted
from services.kit.timestamps import uuid7


class Pipelines:
    """The use cases."""

    def __init__(self, store: Store, data_sets: DataSets, runner: PipelineRunner, now: Callable[[], datetime]) -> None:
        self._store, self._data_sets, self._runner, self._now = store, data_sets, runner, now

    async def create(
        self, scope: Scope, name: str, description: str, steps: Sequence[Step], once: Once | None
    ) -> Pipeline:
        """Raises already_exists, invalid_value, sql_not_allowed."""
        check_steps(steps)
        await asyncio.to_thread(_check_sql, steps)
        now = self._now()
        return await self._store.create(scope, Pipeline(name, description, tuple(steps), 1, now, now), once)

    async def get(self, scope: Scope, name: str) -> Pipeline:
        """Raises not_found."""
        return await self._store.get(scope, name)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[Pipeline]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def run(self, principal: Principal, name: str, once: Once | None, budget: CpuBudget) -> tuple[Run, Operation]:
        """Keeps a run and begins it; returns it and its operation.

        Raises not_found, in_progress, invalid_value, failed_precondition for an input without a version, storage_full,
        and forbidden for who does not see all columns of the inputs: what is made of them is not masked.
        """
        await self._store.recall(once)
        self._data_sets.check_space()
        scope = principal.scope
        found = await self._store.get(scope, name)
        inputs = {data_set: await self._newest(scope, data_set) for data_set in external_inputs(found.steps)}
        for data_set in inputs:
            await self._data_sets.check_seen(principal, data_set)
        wanted = Run(uuid7(), name, "", RUNNING, found.steps, inputs, (), self._now())
        run, operation = await self._store.begin(scope, wanted, once, budget)
        self._runner.begin(scope, run)
        return run, operation

    async def _newest(self, scope: Scope, data_set: str) -> int:
        try:
            return (await self._data_sets.version(scope, data_set, 0)).version
        except Failure as failure:
            if failure.code in (Code.NOT_FOUND, Code.UNKNOWN_VERSION):
                raise FailedPrecondition(f"the input {data_set} has no version yet") from None
            raise

    async def delete(self, scope: Scope, name: str, etag: str) -> Pipeline:
        """Hides it; a second time changes nothing. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> Pipeline:
        """Brings it back; a second time changes nothing. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()))


def _check_sql(steps: Sequence[Step]) -> None:
    """Raises sql_not_allowed, with the place."""
    for index, step in enumerate(steps):
        _at(f"/steps/{index}/sql", partial(check_query, step.sql, step.inputs))
        for part, conditions in (("quarantine", step.quarantine), ("exclude", step.exclude)):
            for number, condition in enumerate(conditions):
                place = f"/steps/{index}/{part}/{number}/expression"
                _at(place, partial(check_condition, condition.expression))


def _at(pointer: str, check: Callable[[], object]) -> None:
    try:
        check()
    except Failure as failure:
        text = f"{pointer[1:].replace('/', '.')}: {failure.detail}"
        raise Failure(failure.code, text, [Violation(pointer, failure.detail)]) from None
