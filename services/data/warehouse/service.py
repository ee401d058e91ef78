"""Lands what is new in a source, once for all its rules, and opens what landed.

A landing is a version of the landed data set; it, its numbers and the source's cursor are one transaction. A crash
before it leaves files that nobody names, or what the data set was handed; then the run that landed does it again, or
commits that.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy.engine import Connection

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Definition, to_json
from services.data.reading.landed import COLUMNS, MASKED, LandedRecords, data_set_of
from services.data.sources.service import Sources
from services.data.warehouse.domain import Landing, Position, Range, Wanted, chosen
from services.data.warehouse.store import WarehouseStore
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.process import Killed, Limits

_WORK, _ATTEMPTS = "services.data.warehouse.work", 3
Progress = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Work:
    """Who lands what. `check` raises in the transaction of the landing if the run must not go on."""

    scope: Scope
    source: str
    definition: Definition
    run: str
    operation: str
    check: Callable[[Connection], None]
    progress: Progress

    @property
    def data_set(self) -> str:
        return data_set_of(self.source)


class Warehouse:
    """The use cases."""

    def __init__(
        self,
        store: WarehouseStore,
        sources: Sources,
        data_sets: DataSets,
        metering: Metering,
        limits: Limits,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._sources, self._data_sets, self._metering = store, sources, data_sets, metering
        self._limits, self._now = limits, now
        self._locks: WeakValueDictionary[tuple[Scope, str], asyncio.Lock] = WeakValueDictionary()

    async def land(self, work: Work) -> tuple[int, Sequence[str]]:
        """Lands what is new, unless the run has; returns how many records it landed, and what people should know.

        Raises what reading the source does, failed_precondition, storage_full.
        """
        async with self._locks.setdefault((work.scope, work.source), asyncio.Lock()):
            for again in reversed(range(_ATTEMPTS)):
                if done := await self._store.by_run(work.scope, work.source, work.run):
                    return done.records, ()
                try:
                    return await self._attempt(work)
                except Failure as failure:
                    # Another process landed records of this source at the same time: it has them.
                    if failure.code is not Code.CONFLICT or not again:
                        raise
                await self.discard(work.scope, work.source, work.run)
        raise AssertionError

    async def _attempt(self, work: Work) -> tuple[int, Sequence[str]]:
        before = await self._store.position(work.scope, work.source)
        new = await self._data_sets.recover(work.scope, work.data_set, work.run)
        if new is None or new.notes["before"] != before.generation:
            new = await self._read(work, before)
        notes = new.notes
        time = datetime.fromisoformat(notes["time"])
        after = Position(notes["last"], connector(work.definition).identity, notes["cursor"], time)
        if after.last == before.last:
            await self._store.moved(work.scope, work.source, before, after)
            await self.discard(work.scope, work.source, work.run)
            return 0, notes["notes"]

        def effects(connection: Connection, made: DataSetVersion) -> None:
            work.check(connection)
            shape = tuple((name, kind) for name, kind in notes["shape"])
            landing = Landing(work.source, made.version, work.run, before.last + 1, after.last, time, shape)
            self._store.landed(connection, work.scope, before, after, landing)

        await _to_its_end(self._data_sets.commit(work.scope, new, effects))
        return after.last - before.last, notes["notes"]

    async def _read(self, work: Work, before: Position) -> NewVersion:
        """What a child wrote of what is new; a child that was killed is followed by another."""
        cursor, time = before.cursor_in(connector(work.definition).identity), self._now()
        asked = {
            "source": to_json(work.definition),
            "name": work.source,
            "cursor": cursor,
            "seconds": self._limits.seconds,
            "after": before.last,
            "time": time.isoformat(),
        }
        async with self._sources.place(work.scope, work.definition, work.source, cursor) as place:
            result = await self._child(work, {**asked, "place": place.to_json()})
        kept = ("cursor", "last", "shape", "notes")
        return NewVersion(
            data_set=work.data_set,
            run=work.run,
            files=parquet.from_json(result["files"]),
            columns=COLUMNS,
            append=True,
            parents=(LineageNode("source", work.source),),
            statistics=statistics.from_json(result["statistics"]),
            notes={**{name: result[name] for name in kept}, "time": asked["time"], "before": before.generation},
            raw=True,
        )

    async def _child(self, work: Work, request: dict[str, Any]) -> dict[str, Any]:
        for again in reversed(range(_ATTEMPTS)):
            folder = await self._data_sets.prepare(work.scope, work.data_set, work.run, work.source, MASKED)
            asked = {**request, "folder": str(folder)}
            try:
                return await self._metering.run(work.scope, work.operation, _WORK, asked, self._limits, work.progress)
            except Killed:
                if not again:
                    raise
        raise AssertionError

    async def discard(self, scope: Scope, source: str, run: str) -> None:
        """Removes the files of a run that has landed nothing."""
        await self._data_sets.discard(scope, data_set_of(source), run)

    async def position(self, scope: Scope, source: str) -> Position:
        """How far a source has landed."""
        return await self._store.position(scope, source)

    def wanted(self, connection: Connection, scope: Scope, source: str, wanted: Wanted) -> Range:
        """The records of some landings, in the caller's transaction. Raises failed_precondition when there are none."""
        return chosen(self._store.ends(connection, scope, source, wanted), wanted, source)

    @contextlib.asynccontextmanager
    async def opened(
        self, scope: Scope, source: str, definition: Definition, wanted: Range
    ) -> AsyncIterator[tuple[LandedRecords, Place]]:
        """Records that landed and where they lie while the context lasts. Raises not_found for a deleted data set."""
        runs, shape = await self._store.between(scope, source, wanted.after, wanted.upto)
        location = await self._data_sets.locate(scope, data_set_of(source))
        files = tuple(file for file in location.files if file.path.partition("/")[0] in runs)
        async with self._data_sets.local(scope, replace(location, files=files)) as here:
            paths = tuple(file.path for file in files)
            records = LandedRecords(definition, paths, wanted.after, wanted.upto, shape, bool(wanted.last))
            yield records, Place(Path(here.uri), ())


async def _to_its_end(commit: Awaitable[DataSetVersion]) -> None:
    """Waits for a commit also when the caller is cancelled: its files must not be removed meanwhile."""
    task = asyncio.ensure_future(commit)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
