"""Joins predictions with outcomes. Either may come first."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from services.kit.auth import Scope
from services.kit.errors import InvalidValue, Violation
from services.logs.domain import Record
from services.logs.following import follow
from services.logs.ingest.segments import Position
from services.logs.ingest.service import Ingest, Stored
from services.logs.monitors.domain import ROWS, Outcome, Pair, Prediction, Quality, quality
from services.logs.monitors.store import Store
from services.logs.monitors.together import Gathering, Place, Together
from services.logs.tables import Table

_FOLLOWER = "monitors"
_PAIRS = 200_000  # outcomes that a measurement uses


class Monitors:
    """Live quality of models."""

    def __init__(self, store: Store, ingest: Ingest, now: Callable[[], datetime]) -> None:
        self._store, self._ingest, self._now = store, ingest, now

    async def follow(self) -> None:
        """Keeps predictions as they are logged, until it is cancelled."""
        await follow(_FOLLOWER, self._ingest, self._store.position, self._take)

    async def _take(self, stored: Sequence[Stored], position: Position, write: bool) -> bool:
        # In a thread, as all that goes through records one by one: requests must not wait for it.
        alone, together = await asyncio.to_thread(predictions_of, stored)
        if not (alone or together or write):
            return False
        await self._store.keep(_FOLLOWER, position, alone, self._now(), together)
        return True

    async def record(self, scope: Scope, model: str, outcomes: Sequence[Outcome]) -> tuple[int, int]:
        """Records outcomes; returns how many are new and how many were known. Raises conflict for one that differs."""
        for index, one in enumerate(outcomes):
            if one.value not in (0.0, 1.0) or not math.isfinite(one.value):
                raise _invalid(index, "value", "must be 0 or 1")
            if not 0 <= one.row < ROWS:
                raise _invalid(index, "row", f"must be between 0 and {ROWS - 1}")
        return await self._store.record(scope, model, outcomes, self._now())

    async def quality(self, scope: Scope, model: str) -> list[Quality]:
        """The quality of each version that has predicted, by number; from the newest 200,000 outcomes."""
        counts = await self._store.counts(scope, model)
        pairs = await self._store.pairs(scope, model, _PAIRS)
        return await asyncio.to_thread(_measure, counts, pairs)


def _measure(counts: dict[int, int], pairs: Sequence[Pair]) -> list[Quality]:
    by_version: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_version[pair.version].append(pair)
    return [quality(version, counts[version], by_version[version]) for version in sorted(counts)]


def _invalid(index: int, field: str, rule: str) -> InvalidValue:
    return InvalidValue(f"{field} of outcome {index} {rule}", [Violation(f"/outcomes/{index}/{field}", rule)])


Made = tuple[list[tuple[Scope, Prediction]], list[tuple[Place, Together]]]


def predictions_of(stored: Sequence[Stored]) -> Made:
    """The predictions among records: single ones, and those that share a row."""
    alone, gathering = list[tuple[Scope, Prediction]](), Gathering()
    for _, one in stored:
        if not isinstance(one, Table):
            alone += [found] if (found := prediction_of(one)) else []
        elif found := prediction_of(one.one(0)._replace(scores=b"x")):
            scope, like = found
            gathering.add((scope, like.model), like.version, one.columns.ids, one.columns.scores)
    few, together = gathering.rows()
    return alone + few, together


def prediction_of(record: Record) -> tuple[Scope, Prediction] | None:
    """The prediction in a record, with its scope; None for other records."""
    if record.kind != "prediction" or not (record.request_id and record.model and record.version and record.scores):
        return None
    if len(record.request_id) > 256 or not 0 < record.version < 2**31:
        return None  # not from our gateways
    made = Prediction(record.model[:63], record.request_id, record.version, record.scores)
    return Scope(record.tenant, record.project), made
