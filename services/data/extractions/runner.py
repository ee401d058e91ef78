"""Runs extractions: a child reads and writes files, then versions, cursor and end are one transaction.

A crash before the child's end leaves nothing but files that nobody names: the run is done again from the same cursor.
A crash after it leaves what the data set was handed (`recover`): the run is completed from that.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.data.attachments.keeping import Damaged, Keeping
from services.data.database import schema
from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.service import DataSets
from services.data.extractions import domain, set_run
from services.data.extractions.domain import Counts, Extraction, Task
from services.data.extractions.inputs import Inputs, place_of
from services.data.extractions.notes import counts_of, fills_of, notes_of
from services.data.extractions.store import ExtractionStore
from services.data.metering.service import Metering
from services.data.reading.kinds import compiled_to_json
from services.data.warehouse.domain import Range
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
        inputs: Inputs,
        data_sets: DataSets,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: process.Limits,
        at_once: int,
        keeping: Keeping,
    ) -> None:
        super().__init__(schema, spawn, at_once)
        self._keeping = keeping
        self._store, self.inputs, self._data_sets, self._metering = store, inputs, data_sets, metering
        self._now, self._limits = now, limits

    async def _unfinished(self) -> Sequence[tuple[Scope, Extraction]]:
        return await self._store.unfinished()

    async def _give_up(self, scope: Scope, extraction: Extraction, failure: Failure | None) -> None:
        if failure and failure.code is Code.INTERNAL:
            log.error("the extraction %s failed: %s %s", extraction.extraction, failure, failure.violations)
            failure = Internal("internal error")
        after = domain.ended(extraction, failure.detail if failure else "", self._now())
        await self._store.end(scope, after, failure)
        task = await self._store.task(scope, extraction.extraction)
        await self._discard(scope, extraction, set_run.data_sets(extraction, task))
        await self._clear(scope, extraction, task)
        if task.landed:
            await self.inputs.discard(scope, extraction.source, extraction.extraction)

    async def _discard(self, scope: Scope, extraction: Extraction, data_sets: Sequence[str]) -> None:
        for data_set in data_sets:
            await self._data_sets.discard(scope, data_set, extraction.extraction)

    async def _clear(self, scope: Scope, extraction: Extraction, task: Task, news: Sequence[NewVersion] = ()) -> None:
        """Removes what the files of a run that has ended needed on their way; `news` is what it wrote."""
        if task.keeps_files:
            await self._keeping.clear(scope, extraction.extraction, news[-1].notes if news else None)

    async def _do(self, scope: Scope, extraction: Extraction) -> None:
        task = await self._store.task(scope, extraction.extraction)
        written = set_run.data_sets(extraction, task)
        # What is read again into another data set moves nothing.
        place = "" if task.replay and task.replay.aside else place_of(task)
        progress = self._telling(scope, extraction)
        landed, notes = await self.inputs.land(scope, extraction, task, progress)
        wanted = await self.inputs.range(scope, extraction, task)
        news = await self._recovered(scope, extraction) or await self._read(scope, extraction, task, wanted, progress)
        self._settle(extraction.operation)
        files = await self._keeping.noted(scope, news[-1].notes, written)
        counts = counts_of(news[-1])
        counts = replace(counts, notes=(*notes, *counts.notes, *domain.left(wanted, counts.cursor)))
        run = domain.having_read(extraction, landed, wanted.after if wanted else None, counts.cursor)
        if not counts.records:
            after = domain.succeeded(run, counts, 0, self._now(), set_run.shares(task, news, ()))
            await self._store.succeed_without_news(scope, after, place, counts.cursor, _message(counts))
            await self._clear(scope, extraction, task, news)
            await self._discard(scope, extraction, written)
            return

        def effects(connection: Any, versions: Sequence[DataSetVersion]) -> None:
            # The versions' own numbers: what the data sets expect may have put more rows aside.
            shares = set_run.shares(task, news, versions)
            rows = sum(result.rows for result in shares.results) if task.members else versions[-1].rows_added
            kept = replace(counts, rows=rows)
            digest = domain.digest_of(shares.results) if task.members else versions[-1].digest
            after = domain.succeeded(run, kept, versions[-1].version, self._now(), shares, digest)
            after = replace(after, fills=() if task.members else fills_of(news[-1], task.compiled))
            self._store.succeed(connection, scope, after, place, kept.cursor, _message(kept))
            self._keeping.record(connection, scope, files, extraction.extraction, self._now())

        await self._data_sets.commit_all(scope, news, effects)
        await self._clear(scope, extraction, task, news)
        # A rule that got no rows has a folder, too.
        await self._discard(scope, extraction, [name for name in written if name not in {new.data_set for new in news}])

    async def _recovered(self, scope: Scope, extraction: Extraction) -> Sequence[NewVersion]:
        """After a crash: what was handed to the data sets, if all of it was. That of the run's own comes last."""
        last = await self._data_sets.recover(scope, extraction.data_set, extraction.extraction)
        if last is None:
            return ()
        others = last.notes.get("data_sets", ())
        found = [await self._data_sets.recover(scope, name, extraction.extraction) for name in others]
        return (*(new for new in found if new), last) if all(found) else ()

    def _telling(self, scope: Scope, extraction: Extraction) -> Progress:
        """Says how many records were read, in the operation."""

        async def progress(message: dict[str, Any]) -> None:
            text = f"{message['records']} records of {extraction.source} read"
            text += f", {message['files']} files fetched" if "files" in message else ""
            text += f"; waiting: {message['waits']}" if "waits" in message else ""
            await self._operations.progress(scope, extraction.operation, message["fraction"], "reading", text)

        return progress

    async def _read(
        self, scope: Scope, extraction: Extraction, task: Task, wanted: Range | None, progress: Progress
    ) -> Sequence[NewVersion]:
        """The new versions as the child wrote them; that of the run's own data set comes last. Raises what the child
        raises."""
        await self._operations.progress(scope, extraction.operation, 0.0, "reading", f"opening {extraction.source}")
        request = {
            "compiled": compiled_to_json(task.compiled),
            "seconds": self._limits.seconds,
            **set_run.request(extraction, task),
        }
        if task.keeps_files:
            request["attach"] = self._keeping.request(scope, extraction.extraction, self._limits.seconds)
        if task.keeps_files and task.replay:
            await self._keeping.remember(scope, extraction.extraction, set_run.data_sets(extraction, task))
        async with self.inputs.opened(scope, extraction, task, wanted) as found:
            asked = {**request, "source": found.source, "cursor": found.cursor, "place": found.place.to_json()}
            result = await self._child(scope, extraction, set_run.data_sets(extraction, task), asked, progress)
        if task.members:
            return set_run.new_versions(extraction, task, result)
        return (_new_version(extraction, task, result),)

    async def _child(
        self,
        scope: Scope,
        extraction: Extraction,
        data_sets: Sequence[str],
        request: dict[str, Any],
        progress: Progress,
    ) -> dict[str, Any]:
        """The child's result; a child that was killed is followed by another, with empty folders."""
        for again in reversed(range(_ATTEMPTS)):
            run = extraction.extraction
            folders = [str(await self._data_sets.prepare(scope, data_set, run)) for data_set in data_sets]
            try:
                asked = {**request, "folder": folders[-1], "folders": folders}
                result = await self._metering.run(scope, extraction.operation, _WORK, asked, self._limits, progress)
                return {**result, "attached": await self._keeping.take(scope, run)} if "attach" in asked else result
            except (process.Killed, Damaged) as broken:
                log.warning("the extraction %s: %s, %d more attempts", extraction.extraction, broken, again)
                if not again:
                    raise
        raise AssertionError


def _message(counts: Counts) -> str:
    said = f"{counts.rows} rows of {counts.records} records, {counts.quarantined} quarantined"
    return "; ".join((said, *counts.notes)) if counts.records else "; ".join(("nothing new", *counts.notes))


def _new_version(extraction: Extraction, task: Task, result: dict[str, Any]) -> NewVersion:
    return NewVersion(
        data_set=extraction.data_set,
        run=extraction.extraction,
        files=parquet.from_json(result["files"]),
        columns=task.compiled.schema,
        append=task.replay is None,
        quarantined=result["quarantined"],
        quarantine=parquet.from_json(result["quarantine"]),
        parents=(LineageNode("source", extraction.source), extraction.read_by),
        statistics=statistics.from_json(result["statistics"]),
        notes=notes_of(result, result["rows"]),
    )
