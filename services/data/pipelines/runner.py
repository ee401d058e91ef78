"""Runs pipelines: each step in a child, its version committed in one transaction with the end of the step.

So after a crash a run goes on where it was. A step whose child had ended is committed from what it left (`recover`),
one whose child had not is computed again from the same versions.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from services.data.database import schema
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.queries import table_requests
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.pipelines.domain import Output, Run, Step
from services.data.pipelines.store import Store
from services.data.pipelines.wire import run_to_wire
from services.data.schema import Column, ColumnType
from services.data.sql import CheckedQuery, check_condition, check_query
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Failure
from services.kit.leased_work import LeasedWork, Spawn

_WORK = "services.data.pipelines.work"


class PipelineRunner(LeasedWork[Run]):
    """Runs as many at a time as there are children for; others wait."""

    def __init__(
        self,
        store: Store,
        data_sets: DataSets,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: process.Limits,
        at_once: int = 2,
    ) -> None:
        super().__init__(schema, spawn, at_once)
        self._store, self._data_sets, self._metering = store, data_sets, metering
        self._now, self._limits = now, limits

    async def _unfinished(self) -> Sequence[tuple[Scope, Run]]:
        return await self._store.unfinished()

    async def _do(self, scope: Scope, run: Run) -> None:
        for index in range(run.next_step, len(run.steps)):
            await self._step(scope, run.run, index)

    async def _give_up(self, scope: Scope, run: Run, failure: Failure | None) -> None:
        # First the end, which no commit of this run gets past; then its files.
        await self._store.end(scope, run.run, self._now(), failure)
        latest = await self._store.run(scope, run.run)
        for index in range(latest.next_step, len(run.steps)):
            await self._data_sets.discard(scope, run.steps[index].data_set, run.step_run(index))

    async def _step(self, scope: Scope, name: str, index: int) -> None:
        run = await self._store.run(scope, name)
        step = run.steps[index]
        await self._operations.progress(scope, run.operation, index / len(run.steps), step.data_set)
        new = await self._data_sets.recover(scope, step.data_set, run.step_run(index))
        new = new or await self._compute(scope, run, index)
        record = partial(self._store.record, scope=scope, name=name, cursor=new.notes["cursor"], respond=run_to_wire)
        if step.cursor and not (new.files or new.quarantined or new.excluded) and await self._has_version(scope, step):
            latest = await self._data_sets.version(scope, step.data_set, 0)
            output = Output(step.data_set, latest.version, 0)
            await self._store.record_step(scope, name, output, new.notes["cursor"], self._now(), run_to_wire)
            await self._data_sets.discard(scope, step.data_set, run.step_run(index))
            return

        def effects(connection: Any, version: DataSetVersion) -> None:
            output = Output(step.data_set, version.version, version.rows_added)
            record(connection, output=output, now=version.create_time)

        await self._data_sets.commit(scope, new, effects)

    async def _has_version(self, scope: Scope, step: Step) -> bool:
        return (await self._data_sets.get(scope, step.data_set)).latest_version > 0

    async def _compute(self, scope: Scope, run: Run, index: int) -> NewVersion:
        """The new version as the child wrote it. Raises what the child raises, with the step named."""
        step, step_run = run.steps[index], run.step_run(index)
        read = run.read_by(step)
        folder = await self._data_sets.prepare(scope, step.data_set, step_run)

        async def progress(message: dict[str, Any]) -> None:
            share = (index + 0.5) / len(run.steps)
            text = f"{message['rows']} rows of {step.data_set} written"
            await self._operations.progress(scope, run.operation, share, step.data_set, text)

        try:
            async with contextlib.AsyncExitStack() as stack:
                request = await self._request(scope, run, step, folder, stack)
                result = await self._metering.run(scope, run.operation, _WORK, request, self._limits, progress)
        except Failure as failure:
            raise Failure(failure.code, f"{step.data_set}: {failure.detail}", failure.violations) from None
        parents = tuple(LineageNode("data_set", name, version) for name, version in read.items())
        return _new_version(step, step_run, result, parents)

    async def _request(
        self, scope: Scope, run: Run, step: Step, folder: Path, stack: contextlib.AsyncExitStack
    ) -> dict[str, Any]:
        """The SQL is checked again: what runs is what the checker of this process lets through."""
        checked, conditions = await asyncio.to_thread(_checked, step)
        local = {
            name: await stack.enter_async_context(
                self._data_sets.local(scope, await self._data_sets.locate(scope, name, version))
            )
            for name, version in run.read_by(step).items()
            if name in checked.tables
        }
        return {
            **conditions,
            "data_set": step.data_set,
            "sql": checked.part,
            "order": checked.order,
            "tables": table_requests(local),
            "cursor": step.cursor,
            "after": await self._store.cursor(scope, run, step) if step.cursor else None,
            "folder": str(folder),
        }


def _checked(step: Step) -> tuple[CheckedQuery, dict[str, list[tuple[str, str]]]]:
    parts = {"quarantine": step.quarantine, "exclude": step.exclude}
    conditions = {part: [(c.reason, check_condition(c.expression)) for c in found] for part, found in parts.items()}
    return check_query(step.sql, step.inputs), conditions


def _new_version(step: Step, run: str, result: dict[str, Any], parents: tuple[LineageNode, ...]) -> NewVersion:
    return NewVersion(
        data_set=step.data_set,
        run=run,
        files=parquet.from_json(result["files"]),
        columns=tuple(Column(name, ColumnType(kind)) for name, kind in result["columns"]),
        append=bool(step.cursor),
        quarantined=result["quarantined"],
        excluded=result["excluded"],
        quarantine=parquet.from_json(result["quarantine"]),
        parents=parents,
        statistics=statistics.from_json(result["statistics"]),
        notes={"cursor": result["cursor"]},
    )
