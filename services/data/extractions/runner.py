"""Runs extractions: a child reads and writes files, then version, cursor and end are one transaction.

A crash before the child's end leaves nothing but files that nobody names: the run is done again from the same cursor.
A crash after it leaves what the data set was handed (`recover`): the run is completed from that.
"""

import asyncio
import hashlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.service import DataSets
from services.data.extractions import domain
from services.data.extractions.domain import Counts, Extraction, State, Task
from services.data.extractions.store import ExtractionStore
from services.data.reading.kinds import Compiled, Definition, SqlSource, compiled_to_json, to_json
from services.data.schema import Column
from services.data.sources.service import Sources
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Internal
from services.kit.leases import Tenure
from services.kit.operations import Operations

log = logging.getLogger(__name__)
_WORK, _ATTEMPTS = "services.data.extractions.work", 3
_PATIENCE = (1.0, 5.0, 30.0)  # seconds before an end that could not be kept is tried again; the last one repeats
Progress = Callable[[dict[str, Any]], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class ExtractionRunner:
    """Runs as many at a time as there are children for; others wait."""

    def __init__(
        self,
        store: ExtractionStore,
        sources: Sources,
        data_sets: DataSets,
        operations: Operations,
        tenure: Tenure,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: process.Limits,
        at_once: int,
    ) -> None:
        self._store, self._sources, self._data_sets, self._operations = store, sources, data_sets, operations
        self._tenure, self._now, self._spawn, self._limits = tenure, now, spawn, limits
        self._running: set[str] = set()
        self._free = asyncio.Semaphore(at_once)
        # Those that can still be stopped, by their operation.
        self._stoppable: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        operations.on_cancel.append(self.cancel)
        tenure.on_loss.append(self.leave)

    def begin(self, scope: Scope, extraction: Extraction) -> None:
        """Does a run that is kept, beside requests."""
        self._stoppable[extraction.operation] = self._spawn(self._run(scope, extraction))

    async def resume(self) -> None:
        """Takes up what another process left behind; what a living one does stays with it."""
        found = [each for each in await self._store.unfinished() if each[1].operation not in self._running]
        free = await self._tenure.take(extraction.operation for _, extraction in found)
        for scope, extraction in found:
            if extraction.operation in free:
                self.begin(scope, extraction)

    async def leave(self, operation: str) -> None:
        """Stops the child of a run that another process has taken up."""
        if task := self._stoppable.pop(operation, None):
            task.cancel()

    async def cancel(self, scope: Scope, operation: str) -> None:
        """Stops the child of a run; one whose version is being added goes to its end."""
        if task := self._stoppable.pop(operation, None):
            self._cancelled.add(operation)
            task.cancel()

    async def _run(self, scope: Scope, extraction: Extraction) -> None:
        operation = extraction.operation
        self._running.add(operation)
        try:
            if not await self._tenure.take([operation]):
                return None
            # Who did it before may have ended it just before he gave it back.
            if (await self._store.get(scope, extraction.extraction)).state is not State.RUNNING:
                return None
            if (await self._operations.get(scope, operation)).cancel_requested:
                return await self._end(scope, extraction, None)
            async with self._free:
                await self._extract(scope, extraction)
            await self._operations.tell()
        except asyncio.CancelledError:
            # Only a wish ends the run: a process that stops leaves it for the next one.
            if operation not in self._cancelled:
                raise
            await self._end(scope, extraction, None)
        except Failure as failure:
            if self._tenure.leaves(failure):
                log.warning("the extraction %s is left for later: %s", extraction.extraction, failure)
            else:
                await self._end(scope, extraction, failure)
        except Exception:
            log.exception("the extraction %s of %s failed", extraction.extraction, extraction.rule)
            await self._end(scope, extraction, Internal("internal error"))
        finally:
            self._stoppable.pop(operation, None)
            self._cancelled.discard(operation)
            self._running.discard(operation)
            await self._tenure.end(operation)
        return None

    async def _end(self, scope: Scope, extraction: Extraction, failure: Failure | None) -> None:
        if failure and failure.code is Code.INTERNAL:
            log.error("the extraction %s failed: %s %s", extraction.extraction, failure, failure.violations)
            failure = Internal("internal error")
        # From here on nobody stops it: a run whose end is not kept would run for ever, and no other could begin.
        self._stoppable.pop(extraction.operation, None)
        after = domain.ended(extraction, failure.detail if failure else "", self._now())
        if await self._keep_end(scope, after, failure):
            await self._data_sets.discard(scope, extraction.data_set, extraction.extraction)
        await self._operations.tell()

    async def _keep_end(self, scope: Scope, after: Extraction, failure: Failure | None) -> bool:
        """Keeps an end also when the disk that made the run fail is full for the database, too.

        False when the run is another process's, whose files must stay.
        """
        for seconds in itertools.chain(_PATIENCE, itertools.repeat(_PATIENCE[-1])):
            try:
                await self._store.end(scope, after, failure)
                return True
            except Failure as refused:
                if refused.code is Code.FENCE_STALE:
                    log.warning("the extraction %s ends elsewhere: %s", after.extraction, refused)
                    return False
                if refused.code not in (Code.STORAGE_FULL, Code.UNAVAILABLE):
                    raise
                log.warning("the end of the extraction %s is not kept yet: %s", after.extraction, refused)
                await asyncio.sleep(seconds)
        raise AssertionError

    async def _extract(self, scope: Scope, extraction: Extraction) -> None:
        task = await self._store.task(scope, extraction.extraction)
        place = place_of(task.definition)
        new = await self._data_sets.recover(scope, extraction.data_set, extraction.extraction)
        new = new or await self._read(scope, extraction, task, place)
        self._stoppable.pop(extraction.operation, None)
        counts = Counts(**{**new.notes, "notes": tuple(new.notes["notes"])})
        message = _message(counts)
        if not counts.records:
            after = domain.succeeded(extraction, counts, 0, self._now())
            await self._store.succeed_without_news(scope, after, place, counts.cursor, message)
            await self._data_sets.discard(scope, extraction.data_set, extraction.extraction)
            return

        def effects(connection: Any, version: DataSetVersion) -> None:
            after = domain.succeeded(extraction, counts, version.version, self._now())
            self._store.succeed(connection, scope, after, place, counts.cursor, message)

        await self._data_sets.commit(scope, new, effects)

    async def _read(self, scope: Scope, extraction: Extraction, task: Task, place: str) -> NewVersion:
        """What the child makes of what is new. Raises what it raises."""
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

        async with self._sources.place(scope, task.definition) as where:
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
        """What the child answers; one that was killed is followed by another, with an empty folder."""
        for again in reversed(range(_ATTEMPTS)):
            folder = await self._data_sets.prepare(scope, extraction.data_set, extraction.extraction)
            try:
                return await process.run(_WORK, {**request, "folder": str(folder)}, self._limits, progress)
            except process.Killed as killed:
                log.warning("the extraction %s: %s, %d more attempts", extraction.extraction, killed, again)
                if not again:
                    raise
        raise AssertionError


def place_of(definition: Definition) -> str:
    """What a cursor belongs to: a table, or the files of a source, which are known one by one."""
    if not isinstance(definition, SqlSource):
        return "files"
    said = "\0".join((definition.url, definition.table, definition.cursor))
    return f"sha256:{hashlib.sha256(said.encode()).hexdigest()}"


def columns_of(compiled: Compiled) -> tuple[Column, ...]:
    """The columns of the rows that a rule makes."""
    return tuple(Column(column.name, column.type, not column.required) for column in compiled.columns)


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
        columns=columns_of(compiled),
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
