"""Metrics of the feature store: what reads found and how old it was, and how far views are behind their data sets."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from prometheus_client import Counter, Histogram

from services.data.datasets.following import Followed, Following
from services.data.feature_views.domain import Found, State
from services.kit.errors import Failure
from services.kit.telemetry.metrics import REGISTRY, gauge

log = logging.getLogger(__name__)
_EVERY = 60.0  # seconds between two looks
_AGES = (1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
rows_read = Counter("aimass_feature_rows_read", "Rows of entities that were asked for.", ["state"], registry=REGISTRY)
ages = Histogram("aimass_feature_age_seconds", "Age of the rows that were found.", buckets=_AGES, registry=REGISTRY)
_COUNTS = {state: rows_read.labels(state.name.lower()) for state in State}


def observe(found: Iterable[Found]) -> None:
    """Counts the rows of an answer."""
    for one in found:
        _COUNTS[one.state].inc()
        if one.state is State.FOUND:
            ages.observe(one.age / 1e6)


class Serving(Protocol):
    """What knows which versions of data sets are read."""

    async def serving(self) -> Sequence[Followed]: ...


class Watch:
    """The gauges of lag: how many views are behind, and for how long the one that is longest."""

    def __init__(self, store: Serving, following: Following, now: Callable[[], datetime]) -> None:
        self._store, self._following, self._now = store, following, now
        self._behind, self._longest = 0, 0.0

    async def run(self, every: float = _EVERY) -> None:
        """The task."""
        hide = [
            gauge("aimass_feature_views_behind", "Feature views whose data set has newer versions.", (), self._views),
            gauge("aimass_feature_lag_seconds", "How long the longest of them is behind.", (), self._seconds),
        ]
        try:
            while True:
                try:
                    await self.look()
                except Failure as failure:
                    log.info("gauges of feature views are stale: %s", failure)
                await asyncio.sleep(every)
        finally:
            for each in hide:
                each()

    async def look(self) -> None:
        """Asks now, all views at once. Raises unavailable, and then keeps the old values."""
        found = await self._following.behind(await self._store.serving())
        now = self._now()
        lags = [(now - each.since).total_seconds() for each in found if each and each.since]
        self._behind, self._longest = len(lags), max(lags, default=0.0)

    def _views(self) -> Iterable[tuple[Sequence[str], float]]:
        yield (), self._behind

    def _seconds(self) -> Iterable[tuple[Sequence[str], float]]:
        yield (), self._longest
