"""What a service hears: events whose effects happen once, and those that cannot be handled (RELIABILITY S4, A32)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
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
_PATIENCE, _LONGEST_PAUSE = 300.0, 5.0  # seconds that an event waits for what is away, and between two tries
_KEEP = timedelta(days=14)  # twice what a bus keeps


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
        self.claim = Claim(self.table)

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

    def recall(self, connection: Connection) -> None:
        table = self._inbox.table
        if connection.execute(select(table.c.event).where(table.c.event == self.event.id)).first():
            raise Replay(b"")

    def claim(self, connection: Connection) -> None:
        self._inbox.prune(connection, now := self._now())
        if not self._inbox.claim.first(connection, {"event": self.event.id, "time": now}):
            raise Replay(b"")

    def settle(self, connection: Connection, result: Any) -> None:
        """The row of `claim` is all there is."""


class Poison(Exception):
    """An event that no further try makes better; the text is a word for the reason."""


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
        """Hands an event to its handler, in a span that goes on with its cause; one of another type is not for us.

        Raises Poison for an event that does not say whose it is, or whose bytes are no message.
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
    said = {
        "messaging.destination.name": event.topic,
        "messaging.message.id": event.id,
        "messaging.system": event.system,
        "messaging.operation.type": "process",
    }
    whose = {"tenant": event.scope.tenant, "project": event.scope.project}
    with span(f"process {event.topic}", event.headers, Kind.CONSUMER, **said, **whose) as around:
        try:
            yield
        except Replay:
            around.set_attribute("messaging.duplicate", True)
        except Exception as error:
            failed(around, error.code.text if isinstance(error, Failure) else "internal")
            raise


async def consume(bus: Bus, listener: Any, group: str, now: Callable[[], Any]) -> None:
    """Reads for ever. An event that keeps failing goes to `<topic>.dead`, so that it blocks no other."""
    reader: Reader | None = None
    events, handled, pace = list[Event](), 0, Pace()
    try:
        while True:
            try:
                reader = reader or await bus.reader(listener.topics, group, listener.broadcast)
                events = events or await reader.poll(_BATCH)
                # A bus that fails in between must not cost the rest of the batch: the reader would not give it again.
                for event in events[handled:]:
                    await _deliver(bus, listener, event, now)
                    handled += 1
                await reader.commit(events)
                if len(events) < _BATCH:
                    await pace.wait()
                events, handled = [], 0
            except Failure as failure:
                log.warning("%s waits for the bus: %s", group, failure)
                await asyncio.sleep(1)
            except Exception:
                # A bug must not make a service deaf until somebody looks.
                log.exception("%s waits for the bus", group)
                await asyncio.sleep(1)
    finally:
        if reader:
            await reader.close()  # so that others of the group need not find out that it is gone


async def _deliver(bus: Bus, listener: Any, event: Event, now: Callable[[], Any]) -> None:
    if reason := await _try(listener, event, now):
        await aside(bus, [(event, reason)])


async def _try(listener: Any, event: Event, now: Callable[[], Any]) -> str:
    """Why an event is given up; empty when it was handled."""
    attempt, began = 0, time.monotonic()
    while attempt < _TRIES:
        try:
            await listener.handle(event, now)
        except Poison as poison:
            log.error("event %s of %s cannot be handled: %s", event.id[:64], event.type[:200], poison)
            return str(poison)
        except Exception as error:
            # What is away comes back; to give events up meanwhile would lose what nobody is at fault for.
            waits = isinstance(error, Failure) and error.code in _AWAY and time.monotonic() - began < _PATIENCE
            log.warning("event %s of %s failed, try %d", event.id, event.type, attempt + 1, exc_info=not waits)
            await asyncio.sleep(min(0.1 * 2**attempt, _LONGEST_PAUSE))
            attempt = min(attempt + 1, _TRIES - 1) if waits else attempt + 1
        else:
            return ""
    return "failed"


async def aside(bus: Bus, events: list[tuple[Event, str]]) -> None:
    """Puts events that nobody could handle on `<topic>.dead`, with the reason, and counts them. Raises unavailable."""
    await bus.publish([event.dead(reason) for event, reason in events])
    for event, reason in events:
        metrics.aside.labels(event.topic, reason).inc()
