"""Runs recipes: each in a child; version, report and the operation's end are one transaction.

A run whose child had ended before a crash is committed from what it left (`recover`), another is done again from the
same version.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from services.data.cleaning import steps
from services.data.cleaning.domain import Cleaned, Run
from services.data.cleaning.planning import origins
from services.data.cleaning.store import RecipeStore
from services.data.cleaning.wire import answer_to_wire
from services.data.database import schema
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, Location, NewVersion
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.schema import Column, ColumnType
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Failure
from services.kit.leased_work import LeasedWork, Spawn

WORK = "services.data.cleaning.work"


class CleaningRunner(LeasedWork[Run]):
    """Runs as many at a time as there are children for; others wait."""

    def __init__(
        self,
        store: RecipeStore,
        data_sets: DataSets,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: process.Limits,
        at_once: int,
    ) -> None:
        super().__init__(schema, spawn, at_once)
        self._store, self._data_sets, self._metering = store, data_sets, metering
        self._now, self._limits = now, limits

    async def _unfinished(self) -> Sequence[tuple[Scope, Run]]:
        return await self._store.unfinished()

    async def _do(self, scope: Scope, run: Run) -> None:
        new = await self._data_sets.recover(scope, run.output, run.run)
        new = new or await self._clean(scope, run)
        cleaned = Cleaned.of(new.notes)

        def effects(connection: Any, made: DataSetVersion) -> None:
            self._data_sets.mask_as(connection, scope, run.data_set, run.output, new.notes["origins"])
            self._store.succeed(connection, scope, run.run, made.version, cleaned, made.create_time, answer_to_wire)

        await self._data_sets.commit(scope, new, effects)

    async def _give_up(self, scope: Scope, run: Run, failure: Failure | None) -> None:
        # First the end, which no commit of this run gets past; then its files.
        await self._store.end(scope, run.run, self._now(), failure)
        await self._data_sets.discard(scope, run.output, run.run)

    async def _clean(self, scope: Scope, run: Run) -> NewVersion:
        """The new version as the child wrote it."""
        version = (await self._store.get(scope, run.recipe, run.version)).version
        folder = await self._data_sets.prepare(scope, run.output, run.run)
        found = await self._data_sets.locate(scope, run.data_set, run.data_set_version)

        async def tell(message: Mapping[str, Any]) -> None:
            await self._operations.progress(scope, run.operation, message["progress"], "cleaning", message["message"])

        async with self._data_sets.local(scope, found) as local:
            request = table_request(local, version.steps) | {"folder": str(folder)}
            request["learned"] = list(version.learned) if version.learned_from else None
            result = await self._metering.run(scope, run.operation, WORK, request, self._limits, tell)
        result["origins"] = origins(version.steps, found.version.columns)
        parents = (
            LineageNode("data_set", run.data_set, run.data_set_version),
            LineageNode("recipe", run.recipe, run.version),
        )
        return _new_version(run, result, parents)


def table_request(local: Location, given: Sequence[steps.Step]) -> dict[str, Any]:
    """A version that is on this machine, and steps, as a child is told of them."""
    return {
        "data_set": local.version.data_set,
        "files": [(str(Path(local.uri) / file.path), file.rows) for file in local.files],
        "columns": [(column.name, column.type.value, column.nullable) for column in local.version.columns],
        "steps": [steps.to_json(step) for step in given],
    }


def _new_version(run: Run, result: dict[str, Any], parents: tuple[LineageNode, ...]) -> NewVersion:
    return NewVersion(
        data_set=run.output,
        run=run.run,
        files=parquet.from_json(result["files"]),
        columns=tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in result["columns"]),
        append=False,
        quarantined=result["quarantined"],
        excluded=result["excluded"],
        quarantine=parquet.from_json(result["quarantine"]),
        parents=parents,
        statistics=statistics.from_json(result["statistics"]),
        notes={name: result[name] for name in ("counts", "report", "learned", "origins")},
    )
