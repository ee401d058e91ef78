"""The relay publishes what lies in outboxes (RELIABILITY S3, S20).

Several processes may share an outbox. Each of its partitions is published by the process that holds its lease, so the
events of one thing stay in order. A relay that was stopped past the end of its lease may publish a batch that the next
holder has published already. Such events have the same ids, which inboxes know, and generations that are not new.
"""

import asyncio
import contextlib
import logging

import orjson

from services.kit.bus import Bus, Event
from services.kit.db import Database
from services.kit.errors import Failure
from services.kit.leases import Tenure
from services.kit.outbox import PARTITIONS, Outbox
from services.kit.pace import Pace

log = logging.getLogger(__name__)
_BATCH = 200
_ALONE, _SHARED = 0.5, 0.05  # seconds between looks into the outbox: nothing tells of what other processes write
_ASK = 1.0  # seconds between tries to take the leases of other partitions


class Relay:
    """Publishes one outbox, oldest events first, at least once."""

    def __init__(self, outbox: Outbox, tenure: Tenure, db: Database, bus: Bus) -> None:
        self._outbox, self._tenure, self._db, self._bus = outbox, tenure, db, bus
        self._names = {f"outbox/{number}": number for number in range(PARTITIONS)}
        self._asked = 0.0
        self._more = False  # whether the last batch left events behind
        self._pace = Pace()
        self._waits = ""  # the reason why events wait that was logged last

    async def run(self) -> None:
        """Publishes until it is cancelled."""
        news = self._outbox.listen()
        while True:
            news.clear()
            try:
                sent = await self.flush()
            except Failure as failure:
                self._log_waiting(str(failure))
                await asyncio.sleep(1)
                continue
            except Exception:
                # A bug must not stop the events of a service for good.
                log.exception("events wait")
                await asyncio.sleep(1)
                continue
            self._log_waiting("")
            if not sent or not self._more:
                idle = _SHARED if not self._tenure.alone and self._tenure.in_company else _ALONE
                await _wait(news, idle)
                await self._pace.wait()

    def _log_waiting(self, waits: str) -> None:
        """Logs why events wait, or that they no longer do, when that has changed."""
        if waits != self._waits:
            self._waits = waits
            log.warning(*("events wait: %s", waits) if waits else ("events go out again",))

    async def flush(self) -> int:
        """Publishes one batch, bounded in number and in bytes; returns how many."""
        mine = await self._mine()
        if not mine:
            return 0
        rows = await self._db.ask(lambda c: self._outbox.oldest(c, mine, _BATCH))
        self._more = bool(rows) and (len(rows) == _BATCH or rows[0].waiting > len(rows))
        # Asked again: the lease may have ended while the rows were read.
        if not rows or not all(self._tenure.holds(name) for name in self._names if self._names[name] in mine):
            return 0
        await self._bus.publish([Event(row.topic, row.key, row.body, orjson.loads(row.headers)) for row in rows])
        ids = [row.id for row in rows]
        await self._db.ask(lambda c: self._outbox.remove(c, ids))
        return len(rows)

    async def _mine(self) -> set[int]:
        """The partitions whose leases this process holds."""
        now = asyncio.get_running_loop().time()
        lacking = [name for name in self._names if not self._tenure.holds(name)]
        if lacking and now - self._asked > _ASK:
            self._asked = now
            await self._tenure.take(lacking)
        return {number for name, number in self._names.items() if self._tenure.holds(name)}


async def _wait(news: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # not wait_for: Python 3.11's can lose a cancellation
            await news.wait()
