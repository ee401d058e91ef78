"""Runs series sets: a child writes rows and state, then output, version and operation are one transaction.

A run is a row until it has ended. After a crash what its child had written is committed (`recover`), or all is computed
again from the same versions.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, Location, NewVersion
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.schema import Column, ColumnType
from services.data.series.domain import Result, Run
from services.data.series.store import Ended, Store
from services.data.series.wire import version_to_wire
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.errors import FailedPrecondition
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits
from services.kit.timestamps import uuid7

_RUN, _WORK = TypeAdapter(Run), "services.data.series.work"
_SORTING = 4  # a part of the memory of a child is for sorting; the rest is for what is sorted and for code


class SeriesRunner(OpenRunner[Run]):
    """Runs one at a time: a run takes both cores and much memory."""

    def __init__(
        self,
        store: Store,
        data_sets: DataSets,
        blobs: Blobs,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: Limits,
    ) -> None:
        super().__init__(store.runs, spawn, at_once=1)
        self._store, self._data_sets, self._blobs, self._metering = store, data_sets, blobs, metering
        self._now, self._limits = now, limits

    async def _discard(self, scope: Scope, run: Run) -> None:
        await self._data_sets.discard(scope, run.output, run.run)

    async def _do(self, scope: Scope, run: Run) -> None:
        new = await self._data_sets.recover(scope, run.output, run.run) or await self._compute(scope, run)
        if new is None:
            await self._store.finish_unchanged(scope, run, version_to_wire)
            return
        result = Result(**new.notes["result"])

        def effects(connection: Connection, version: DataSetVersion) -> None:
            if version.version != new.notes["before"] + 1 and run.follows:
                raise FailedPrecondition(f"{run.output} was written by others while {run.series_set} ran")
            ended = Ended(run, version.version, result, version.create_time)
            self._store.finish(connection, scope, ended, version_to_wire)

        await self._data_sets.commit(scope, new, effects)

    async def _compute(self, scope: Scope, run: Run) -> NewVersion | None:
        """The new version as the child wrote it; None: there are no new rows."""
        found = await self._data_sets.locate(scope, run.data_set, run.data_set_version)
        last = await self._store.version(scope, run.series_set, run.follows) if run.follows else None
        skipped = 0
        if last:
            old = (await self._data_sets.locate(scope, run.data_set, last.data_set_version)).files
            found, skipped = replace(found, files=found.files[len(old) :]), sum(file.rows for file in old)
            if not found.files:
                return None
        folder = await self._data_sets.prepare(scope, run.output, run.run)
        scratch = self._blobs.scratch(scope.tenant) / uuid7()
        scratch.mkdir()
        try:
            async with contextlib.AsyncExitStack() as stack:
                location = await stack.enter_async_context(self._data_sets.local(scope, found))
                state = await stack.enter_async_context(self._blobs.local(scope.tenant, last.digest)) if last else ""
                request = self._request(run, location, folder, scratch) | {"skipped": skipped, "state": str(state)}
                result = await self._work(scope, run, request)
            kept = scratch / "state.parquet"
            size = kept.stat().st_size
            digest = await self._blobs.adopt(scope.tenant, kept)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        ended = vars(Result(result["rows"], result["late"], digest, size))
        return _new_version(run, result, {"before": last.output_version if last else 0, "result": ended})

    def _request(self, run: Run, location: Location, folder: Path, scratch: Path) -> dict[str, Any]:
        columns = [{"name": column.name, "type": column.type.value} for column in location.version.columns]
        return {
            **_RUN.dump_python(run, mode="json"),
            "columns": columns,
            "files": [str(Path(location.uri) / file.path) for file in location.files],
            "folder": str(folder),
            "scratch": str(scratch),
            "kept": str(scratch / "state.parquet"),
            "sort_mib": max(self._limits.memory_mib // _SORTING, 1),
        }

    async def _work(self, scope: Scope, run: Run, request: dict[str, Any]) -> dict[str, Any]:
        async def tell(message: Mapping[str, Any]) -> None:
            text = f"{message['rows']} rows of {run.output} written"
            await self._operations.progress(scope, run.operation, 0.5, run.output, text)

        return await self._metering.run(scope, run.operation, _WORK, request, self._limits, tell)


def _new_version(run: Run, result: Mapping[str, Any], notes: Mapping[str, Any]) -> NewVersion:
    return NewVersion(
        data_set=run.output,
        run=run.run,
        files=parquet.from_json(result["files"]),
        columns=tuple(Column(name, ColumnType(kind)) for name, kind in result["columns"]),
        append=bool(run.follows),
        quarantined=result["quarantined"],
        quarantine=parquet.from_json(result["quarantine"]),
        parents=(LineageNode("data_set", run.data_set, run.data_set_version),),
        statistics=statistics.from_json(result["statistics"]),
        notes=notes,
    )
