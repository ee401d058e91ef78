"""Consuming events: each has its effect once; what cannot be handled becomes a dead letter (RELIABILITY S4, A32)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import DecodeError, Message
from sqlalchemy import Column, MetaData, String, Table, delete, select
from sqlalchemy.engine import Connection

from services.kit import contract, tenancy
from services.kit.auth import Scope
from services.kit.bus import Bus, Event, Reader
from services.kit.db import Replay, UtcDateTime
from services.kit.errors import Code, Failure
from services.kit.pace import Pace
from services.kit.statements import Claim
from services.kit.telemetry import Kind, failed, metrics, span

log = logging.getLogger(__name__)
_BATCH, _TRIES = 200, 5
_AWAY = (Code.UNAVAILABLE, Code.OVERLOADED)
_PATIENCE, _LONGEST_PAUSE = 300.0, 5.0  # seconds that an event waits for what is unavailable; between two tries
_KEEP = timedelta(days=14)  # twice what a bus keeps


class Inbox:
    """The table of events that have had their effects."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "inbox",
            metadata,
            Column("event", String(36), primary_key=True),
            Column("time", UtcDateTime, nullable=False, index=True),
        )
        self._pruned = 0.0
        self.claim = Claim(self.table)

    def prune(self, connection: Connection, now: datetime) -> None:
        """Deletes old ids, at most once an hour."""
        if time.monotonic() - self._pruned > 3600:
            self._pruned = time.monotonic()
            connection.execute(delete(self.table).where(self.table.c.time < now - _KEEP))


@dataclass(frozen=True)
class Delivery:
    """One event for a handler, which passes it to `Database.run` as `once`, so that the effect happens once."""

    event: Event
    _inbox: Inbox
    _now: Callable[[], datetime]

    @property
    def scope(self) -> Scope:
        return self.event.scope

    def recall(self, connection: Connection) -> None:
        table = self._inbox.table
        if connection.execute(select(table.c.event).where(table.c.event == self.event.id)).first():
            raise Replay(b"")

    def claim(self, connection: Connection) -> None:
        self._inbox.prune(connection, now := self._now())
        if not self._inbox.claim.first(connection, {"event": self.event.id, "time": now}):
            raise Replay(b"")

    def settle(self, connection: Connection, result: Any) -> None:
        """Nothing: `claim` has written the row."""


class Poison(Exception):
    """An event that cannot be handled however often it is tried; the text is the reason, one word."""


Handler = Callable[[Any, Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Listener:
    """Handlers by message type. A `broadcast` listener hears all events in each process, from its start on."""

    handlers: Mapping[type[Message], Handler]
    inbox: Inbox
    broadcast: bool = False

    @property
    def topics(self) -> list[str]:
        return sorted({contract.topic(kind.DESCRIPTOR) for kind in self.handlers})

    async def handle(self, event: Event, now: Callable[[], datetime]) -> None:
        """Calls the event's handler, in the trace of its cause; passes over types without one.

        Raises Poison for an event with a flaw, or whose body is no message.
        """
        for kind, handler in self.handlers.items():
            if kind.DESCRIPTOR.full_name == event.type:
                message = _message(kind, event)
                with tenancy.of(event.scope.tenant), _span(event):
                    await handler(message, Delivery(event, self.inbox, now))
                return
        if not any(
            event.type.rpartition(".")[2] in kind.DESCRIPTOR.file.message_types_by_name for kind in self.handlers
        ):
            metrics.aside.labels(event.topic, "unknown").inc()


def _message(kind: type[Message], event: Event) -> Message:
    if flaw := event.flaw():
        raise Poison(flaw)
    try:
        return kind.FromString(event.body)
    except DecodeError:
        raise Poison("unreadable") from None


@contextlib.contextmanager
def _span(event: Event) -> Iterator[None]:
    attributes = {
        "messaging.destination.name": event.topic,
        "messaging.message.id": event.id,
        "messaging.system": event.system,
        "messaging.operation.type": "process",
    }
    scope = {"tenant": event.scope.tenant, "project": event.scope.project}
    with span(f"process {event.topic}", event.headers, Kind.CONSUMER, **attributes, **scope) as around:
        try:
            yield
        except Replay:
            around.set_attribute("messaging.duplicate", True)
        except Exception as error:
            failed(around, error.code.text if isinstance(error, Failure) else "internal")
            raise


async def consume(bus: Bus, listener: Listener, group: str, now: Callable[[], datetime]) -> None:
    """Reads until it is cancelled. An event that keeps failing becomes a dead letter, so that it blocks no other."""
    reader: Reader | None = None
    events, handled, pace = list[Event](), 0, Pace()
    try:
        while True:
            try:
                reader = reader or await bus.reader(listener.topics, group, listener.broadcast)
                events = events or await reader.poll(_BATCH)
                # After a failure of the bus it goes on behind what was handled: the reader returns a batch only once.
                for event in events[handled:]:
                    if reason := await _try(listener, event, now):
                        await dead_letter(bus, [(event, reason)])
                    handled += 1
                await reader.commit(events)
                if len(events) < _BATCH:
                    await pace.wait()
                events, handled = [], 0
            except Failure as failure:
                log.warning("%s waits for the bus: %s", group, failure)
                await asyncio.sleep(1)
            except Exception:
                # A bug must not stop a service from consuming for good.
                log.exception("%s waits for the bus", group)
                await asyncio.sleep(1)
    finally:
        if reader:
            await reader.close()  # else the group waits for it to time out


async def _try(listener: Listener, event: Event, now: Callable[[], datetime]) -> str:
    """Why an event is given up; empty when it was handled."""
    attempt, began = 0, time.monotonic()
    while attempt < _TRIES:
        try:
            await listener.handle(event, now)
        except Poison as poison:
            log.error("event %s of %s cannot be handled: %s", event.id[:64], event.type[:200], poison)
            return str(poison)
        except Exception as error:
            # While something is unavailable no try counts: a good event must not be given up for that.
            waits = isinstance(error, Failure) and error.code in _AWAY and time.monotonic() - began < _PATIENCE
            log.warning("event %s of %s failed, try %d", event.id, event.type, attempt + 1, exc_info=not waits)
            await asyncio.sleep(min(0.1 * 2**attempt, _LONGEST_PAUSE))
            attempt = min(attempt + 1, _TRIES - 1) if waits else attempt + 1
        else:
            return ""
    return "failed"


async def dead_letter(bus: Bus, events: list[tuple[Event, str]]) -> None:
    """Publishes events that cannot be handled to `<topic>.dead`, with the reasons. Raises unavailable."""
    await bus.publish([event.dead(reason) for event, reason in events])
    for event, reason in events:
        metrics.aside.labels(event.topic, reason).inc()
