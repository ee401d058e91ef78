"""Remembers what queries ask: notes are gathered and stored now and then, so that no query waits for it."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from services.data.datasets.domain import types_of
from services.data.datasets.queries import Answered
from services.data.partition_advice.history import SHAPES, Asked, Counts, Shape, shape_of
from services.data.partition_advice.store import HistoryStore
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.errors import Failure

log = logging.getLogger(__name__)
_EVERY = 5.0  # seconds between two writes: a crash loses no more
_MOST = 10_000  # shapes that wait, of all data sets together; what comes beyond is not remembered


class QueryHistory:
    """What was asked of data sets. Two processes add to the same rows, each what it was asked."""

    def __init__(self, store: HistoryStore, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._waiting: dict[Scope, dict[str, dict[Shape, Counts]]] = {}
        self._count = 0
        self._turn = asyncio.Lock()

    def note(self, scope: Scope, answered: Answered) -> None:
        """Adds a query that has been answered."""
        version, read = answered.version, answered.read
        types = types_of(version)
        shape = shape_of(answered.condition, types, version.quality.columns, answered.hidden)
        named = len(types) if answered.names is None else len(answered.names & types.keys())
        counts = Counts(
            1,
            named / max(len(types), 1),
            read.partitions_read,
            read.partitions,
            read.files_read,
            read.files,
            answered.bytes_read,
            answered.bytes,
        )
        self._add(scope, version.data_set, shape, counts)

    def _add(self, scope: Scope, data_set: str, shape: Shape, counts: Counts) -> None:
        shapes = self._waiting.get(scope, {}).get(data_set, {})
        if shape not in shapes:
            if self._count >= _MOST or len(shapes) >= SHAPES:
                return
            self._count += 1
            shapes = self._waiting.setdefault(scope, {}).setdefault(data_set, {})
        shapes[shape] = shapes.get(shape, Counts()) + counts

    async def asked(self, scope: Scope, data_set: str) -> list[Asked]:
        """What was asked of a data set, what still waits here included. Raises unavailable."""
        await self.store()
        return await self._store.asked(scope, data_set)

    async def run(self) -> None:
        """The task that stores."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.store()

    async def store(self) -> None:
        """Stores what waits. What cannot be stored is not remembered: it is worth no query's time."""
        async with self._turn:
            waiting, self._waiting, self._count = self._waiting, {}, 0
            for scope, new in waiting.items():
                with tenancy.of(scope.tenant):
                    try:
                        await self._store.fold(scope, new, self._now())
                    except Failure as failure:
                        log.info("what was asked of data sets is not remembered: %s", failure)
