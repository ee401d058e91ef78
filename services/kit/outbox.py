"""Events that leave with the transaction that caused them, and effects that happen once (RELIABILITY S3, S4)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from google.protobuf.message import Message
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, delete, insert, select
from sqlalchemy.engine import Connection

from services.kit import contract
from services.kit.auth import Scope
from services.kit.bus import Bus, Event, Reader
from services.kit.db import Database, Replay, UtcDateTime
from services.kit.errors import Failure

log = logging.getLogger(__name__)
_BATCH = 200
_TRIES = 5
_KEEP = timedelta(days=14)  # twice what a bus keeps


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
        """Writes events in the caller's transaction."""
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


class Inbox:
    """The ids of events whose effects have happened."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "inbox",
            metadata,
            Column("event", String(36), primary_key=True),
            Column("time", UtcDateTime, nullable=False, index=True),
        )
        self._pruned = 0.0

    def prune(self, connection: Connection, now: Any) -> None:
        """Forgets old ids, at most once an hour."""
        if time.monotonic() - self._pruned > 3600:
            self._pruned = time.monotonic()
            connection.execute(delete(self.table).where(self.table.c.time < now - _KEEP))


@dataclass(frozen=True)
class Delivery:
    """One event on its way to a handler. Handed to `Database.run` as `once`, it makes the effect happen once."""

    event: Event
    _inbox: Inbox
    _now: Callable[[], Any]

    @property
    def scope(self) -> Scope:
        return self.event.scope

    def claim(self, connection: Connection) -> None:
        table = self._inbox.table
        if connection.execute(select(table.c.event).where(table.c.event == self.event.id)).first():
            raise Replay(b"")
        now = self._now()
        self._inbox.prune(connection, now)
        connection.execute(insert(table).values(event=self.event.id, time=now))

    def settle(self, connection: Connection, result: Any) -> None:
        """The row of `claim` is all there is."""


Handler = Callable[[Any, Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Listener:
    """What a service hears: handlers by message type. A broadcast listener is one per process and begins at the end."""

    handlers: Mapping[type[Message], Handler]
    inbox: Inbox
    broadcast: bool = False

    @property
    def topics(self) -> list[str]:
        return sorted({contract.topic(kind.DESCRIPTOR) for kind in self.handlers})

    async def handle(self, event: Event, now: Callable[[], Any]) -> None:
        """Hands an event to its handler; one of another type is not for us."""
        for kind, handler in self.handlers.items():
            if kind.DESCRIPTOR.full_name == event.type:
                with contextlib.suppress(Replay):
                    await handler(kind.FromString(event.body), Delivery(event, self.inbox, now))


async def consume(bus: Bus, listener: Any, group: str, now: Callable[[], Any]) -> None:
    """Reads for ever. An event that keeps failing goes to `<topic>.dead`, so that it blocks no other."""
    reader: Reader | None = None
    events: list[Event] = []
    handled = 0
    while True:
        try:
            reader = reader or await bus.reader(listener.topics, group, listener.broadcast)
            events = events or await reader.poll(_BATCH)
            # A bus that fails in between must not cost the rest of the batch: the reader would not give it again.
            for event in events[handled:]:
                await _deliver(bus, listener, event, now)
                handled += 1
            await reader.commit(events)
            events, handled = [], 0
        except Failure as failure:
            log.warning("%s waits for the bus: %s", group, failure)
            await asyncio.sleep(1)


async def _deliver(bus: Bus, listener: Any, event: Event, now: Callable[[], Any]) -> None:
    for attempt in range(_TRIES):
        try:
            await listener.handle(event, now)
        except Exception:
            log.exception("event %s of %s failed, try %d", event.id, event.type, attempt + 1)
            await asyncio.sleep(0.1 * 2**attempt)
        else:
            return
    await bus.publish([Event(f"{event.topic}.dead", event.key, event.body, event.headers)])
