"""Events that leave with the transaction that caused them (RELIABILITY S3)."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

import orjson
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, delete, insert, select
from sqlalchemy.engine import Connection

from services.kit.bus import Bus, Event
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.event import LARGEST

log = logging.getLogger(__name__)
_BATCH = 200


class Outbox:
    """A table of events that have not been published yet."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "outbox",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("topic", String(200), nullable=False),
            Column("key", String(400), nullable=False),
            Column("headers", LargeBinary, nullable=False),
            Column("body", LargeBinary, nullable=False),
        )
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, connection: Connection, events: Iterable[Event]) -> None:
        """Writes events in the caller's transaction. Raises limit_exceeded for one that no bus takes."""
        events = list(events)
        for event in events:
            if event.size > LARGEST:
                raise Failure(Code.LIMIT_EXCEEDED, f"{event.headers.get('ce_subject', event.key)} is too large to tell")
        rows = [{"topic": e.topic, "key": e.key, "headers": orjson.dumps(e.headers), "body": e.body} for e in events]
        if rows:
            connection.execute(insert(self.table), rows)
            if self._loop and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._news.set)

    async def relay(self, db: Database, bus: Bus) -> None:
        """Publishes for ever, oldest first; a crash in between publishes again, with the same ids."""
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        while True:
            self._news.clear()
            try:
                sent = await self.flush(db, bus)
            except Failure as failure:
                log.warning("events wait: %s", failure)
                await asyncio.sleep(1)
                continue
            if sent < _BATCH:
                # The set may come just before the commit that it tells of, so the wait is short as well.
                await _wait(self._news, 0.05 if sent or self._news.is_set() else 0.5)

    async def flush(self, db: Database, bus: Bus) -> int:
        """Publishes one batch; returns how many."""
        rows = await db.run(lambda c: c.execute(select(self.table).order_by(self.table.c.id).limit(_BATCH)).all())
        await bus.publish([Event(row.topic, row.key, row.body, orjson.loads(row.headers)) for row in rows])
        if rows:
            ids = [row.id for row in rows]
            await db.run(lambda c: c.execute(delete(self.table).where(self.table.c.id.in_(ids))) and None)
        return len(rows)


async def _wait(news: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # not wait_for: Python 3.11's can lose a cancellation
            await news.wait()
        await asyncio.sleep(0.005)  # lets the transaction commit
