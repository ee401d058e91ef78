"""What a run reads: its source, or what landed of it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from services.data.extractions.domain import Extraction, Task
from services.data.extractions.store import ExtractionStore
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import to_json
from services.data.sources.service import Sources
from services.data.warehouse.domain import Range
from services.data.warehouse.service import Warehouse, Work
from services.kit.auth import Scope

WAREHOUSE = "warehouse"  # the place that cursors in what landed belong to


@dataclass(frozen=True)
class Input:
    """As a child is told it."""

    source: dict[str, Any]
    cursor: dict[str, Any] | None
    place: Place


class Inputs:
    """Opens what runs read."""

    def __init__(self, store: ExtractionStore, sources: Sources, warehouse: Warehouse, most: int) -> None:
        """`most`: landed records that one run reads behind its cursor."""
        self._store, self._sources, self._warehouse, self._most = store, sources, warehouse, most
        self.discard = warehouse.discard

    async def land(
        self, scope: Scope, extraction: Extraction, task: Task, progress: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> tuple[int, Sequence[str]]:
        """Lands what is new in the source of a run, if its records land: how many there were, and notes for people."""
        if not task.landed or task.replay:
            return 0, ()

        def check(connection: Connection) -> None:
            self._store.check_running(connection, scope, extraction)

        work = Work(
            scope, extraction.source, task.definition, extraction.extraction, extraction.operation, check, progress
        )
        return await self._warehouse.land(work)

    async def range(self, scope: Scope, extraction: Extraction, task: Task) -> Range | None:
        """The landed records that a run reads; None where it reads the source itself."""
        if task.replay:
            return Range(task.replay.after, task.replay.upto)
        if not task.landed:
            return None
        cursor = await self._cursor(scope, extraction, WAREHOUSE) or {}
        after = int(cursor.get("landed", 0))
        last = max(after, (await self._warehouse.position(scope, extraction.source)).last)
        return Range(after, min(last, after + self._most), last)

    async def _cursor(self, scope: Scope, run: Extraction, place: str) -> dict[str, Any] | None:
        return await self._store.cursor(scope, run.rule, place, run.rule_set, run.branch)

    @contextlib.asynccontextmanager
    async def opened(
        self, scope: Scope, extraction: Extraction, task: Task, wanted: Range | None
    ) -> AsyncIterator[Input]:
        """What a run reads, while the context lasts."""
        name, definition = extraction.source, task.definition
        if wanted is not None:
            async with self._warehouse.opened(scope, name, definition, wanted) as (records, place):
                yield Input(records.to_json(), None, place)
            return
        cursor = await self._cursor(scope, extraction, place_of(task))
        async with self._sources.place(scope, definition, name, cursor) as place:
            yield Input(to_json(definition), cursor, place)

    @contextlib.asynccontextmanager
    async def again(self, scope: Scope, extraction: Extraction, task: Task) -> AsyncIterator[Input]:
        """What the last run of a rule has read, and what came since, while the context lasts."""
        if extraction.last_landed:
            wanted = Range(extraction.first_landed - 1, extraction.last_landed)
            async with self.opened(scope, extraction, task, wanted) as found:
                yield found
            return
        cursor = await self._store.began(scope, extraction.rule, place_of(task))
        async with self._sources.place(scope, task.definition, extraction.source, cursor) as place:
            yield Input(to_json(task.definition), cursor, place)


def place_of(task: Task) -> str:
    """What the cursor of a run belongs to."""
    return WAREHOUSE if task.landed or task.replay else connector(task.definition).identity
