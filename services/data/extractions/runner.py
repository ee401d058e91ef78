"""Runs extractions: a child reads and writes files, then version, cursor and end are one transaction.

A crash before the child's end leaves nothing but files that nobody names: the run is done again from the same cursor.
A crash after it leaves what the data set was handed (`recover`): the run is completed from that.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.data.database import schema
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.service import DataSets
from services.data.extractions import domain
from services.data.extractions.domain import Counts, Extraction, Task
from services.data.extractions.store import ExtractionStore
from services.data.metering.service import Metering
from services.data.reading.connectors import connector
from services.data.reading.kinds import Compiled, compiled_to_json, to_json
from services.data.sources.service import Sources
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Internal
from services.kit.leased_work import LeasedWork, Spawn

log = logging.getLogger(__name__)
_WORK, _ATTEMPTS = "services.data.extractions.work", 3
Progress = Callable[[dict[str, Any]], Awaitable[None]]


class ExtractionRunner(LeasedWork[Extraction]):
    """Runs as many at a time as there are children for; others wait."""

    def __init__(
        self,
        store: ExtractionStore,
        sources: Sources,
        data_sets: DataSets,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: process.Limits,
        at_once: int,
    ) -> None:
        super().__init__(schema, spawn, at_once)
        self._store, self._sources, self._data_sets, self._metering = store, sources, data_sets, metering
        self._now, self._limits = now, limits

    async def _unfinished(self) -> Sequence[tuple[Scope, Extraction]]:
        return await self._store.unfinished()

    async def _give_up(self, scope: Scope, extraction: Extraction, failure: Failure | None) -> None:
        if failure and failure.code is Code.INTERNAL:
            log.error("the extraction %s failed: %s %s", extraction.extraction, failure, failure.violations)
            failure = Internal("internal error")
        after = domain.ended(extraction, failure.detail if failure else "", self._now())
        await self._store.end(scope, after, failure)
        await self._data_sets.discard(scope, extraction.data_set, extraction.extraction)

    async def _do(self, scope: Scope, extraction: Extraction) -> None:
        task = await self._store.task(scope, extraction.extraction)
        place = connector(task.definition).identity
        new = await self._data_sets.recover(scope, extraction.data_set, extraction.extraction)
        new = new or await self._read(scope, extraction, task, place)
        self._settle(extraction.operation)
        counts = Counts(**{**new.notes, "notes": tuple(new.notes["notes"])})
        message = _message(counts)
        if not counts.records:
            after = domain.succeeded(extraction, counts, 0, self._now())
            await self._store.succeed_without_news(scope, after, place, counts.cursor, message)
            await self._data_sets.discard(scope, extraction.data_set, extraction.extraction)
            return

        def effects(connection: Any, version: DataSetVersion) -> None:
            # The version's own numbers: what the data set expects may have put more rows aside.
            aside = sum(version.quality.quarantined.values())
            kept = replace(counts, rows=version.rows_added, quarantined=aside)
            after = domain.succeeded(extraction, kept, version.version, self._now())
            self._store.succeed(connection, scope, after, place, kept.cursor, _message(kept))

        await self._data_sets.commit(scope, new, effects)

    async def _read(self, scope: Scope, extraction: Extraction, task: Task, place: str) -> NewVersion:
        """The new version as the child wrote it. Raises what the child raises."""
        await self._operations.progress(scope, extraction.operation, 0.0, "reading", f"opening {extraction.source}")
        request = {
            "source": to_json(task.definition),
            "compiled": compiled_to_json(task.compiled),
            "cursor": await self._store.cursor(scope, extraction.rule, place),
            "seconds": self._limits.seconds,
        }

        async def progress(message: dict[str, Any]) -> None:
            text = f"{message['records']} records of {extraction.source} read"
            await self._operations.progress(scope, extraction.operation, message["fraction"], "reading", text)

        async with self._sources.place(scope, task.definition, extraction.source) as where:
            asked = {**request, "place": where.to_json()}
            result = await self._child(scope, extraction, asked, progress)
        parents = (
            LineageNode("source", extraction.source),
            LineageNode("rule", extraction.rule, extraction.rule_version),
        )
        return _new_version(extraction, task.compiled, result, parents)

    async def _child(
        self, scope: Scope, extraction: Extraction, request: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """The child's result; a child that was killed is followed by another, with an empty folder."""
        for again in reversed(range(_ATTEMPTS)):
            folder = await self._data_sets.prepare(scope, extraction.data_set, extraction.extraction)
            try:
                asked = {**request, "folder": str(folder)}
                return await self._metering.run(scope, extraction.operation, _WORK, asked, self._limits, progress)
            except process.Killed as killed:
                log.warning("the extraction %s: %s, %d more attempts", extraction.extraction, killed, again)
                if not again:
                    raise
        raise AssertionError


def _message(counts: Counts) -> str:
    said = f"{counts.rows} rows of {counts.records} records, {counts.quarantined} quarantined"
    return "; ".join((said, *counts.notes)) if counts.records else "; ".join(("nothing new", *counts.notes))


def _new_version(
    extraction: Extraction, compiled: Compiled, result: dict[str, Any], parents: tuple[LineageNode, ...]
) -> NewVersion:
    return NewVersion(
        data_set=extraction.data_set,
        run=extraction.extraction,
        files=parquet.from_json(result["files"]),
        columns=compiled.schema,
        append=True,
        quarantined=result["quarantined"],
        quarantine=parquet.from_json(result["quarantine"]),
        parents=parents,
        statistics=statistics.from_json(result["statistics"]),
        notes={
            "records": result["records"],
            "rows": sum(file["rows"] for file in result["files"]),
            "quarantined": sum(result["quarantined"].values()),
            "cursor": result["cursor"],
            "notes": result["notes"],
        },
    )
