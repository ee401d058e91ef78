"""The task that drops rows of versions of views that are not read any more."""

import asyncio
import logging
from datetime import datetime, timedelta

from services.data.feature_views.online import Online
from services.data.feature_views.store.sweeping import Sweeping

log = logging.getLogger(__name__)
_PAUSE = 0.05  # seconds between two transactions


class Sweep:
    """The task. It is safe in several processes at once, and after a kill goes on with the next hour."""

    def __init__(self, store: Sweeping, online: Online, days: int) -> None:
        """`days` without a materialisation make a version old; 0: none is ever old."""
        self._store, self._online, self._days = store, online, days

    async def sweep(self, now: datetime) -> None:
        """Drops rows of what was closed before, then closes what is old. Raises unavailable."""
        for place in await self._store.closed():
            count = 0
            while some := await self._store.drop(place):
                count += some
                await asyncio.sleep(_PAUSE)
            if some is not None:
                await self._online.drop(place)
            if count:
                log.info("%d rows of version %d of %s were dropped: it was not read", count, place[2], place[1])
        if not self._days:
            return
        before = now - timedelta(days=self._days)
        for place in await self._store.old(before):
            await self._store.close(place, before, now)
