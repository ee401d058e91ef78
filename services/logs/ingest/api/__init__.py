"""The log centre's consumer: all events, and the telemetry of all processes."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from google.protobuf.message import DecodeError

from services.kit import contract
from services.kit.bus import Bus, Event, Reader
from services.kit.errors import Failure
from services.kit.event import TELEMETRY
from services.kit.inbox import dead_letter
from services.kit.pace import Pace
from services.kit.tasks import cancel
from services.logs.ingest.api import cloudevents, otlp
from services.logs.ingest.service import Batch, Ingest
from services.logs.tables import Kept

log = logging.getLogger(__name__)
TOPICS = [*contract.topics(), TELEMETRY]
Hear = Callable[[Sequence[Event]], Awaitable[None]]
_POLL = 32  # events; one of telemetry holds up to a thousand records
_EVERY = 0.25  # seconds between polls under steady load: each costs a transaction of the bus and a sync
_RETRY = 1.0  # seconds
_WAITING = 8 * 2**20  # bytes of events that wait for keys, at most; then all that follows waits as well


class Intake:
    """Reads the bus, and commits events once their records are on the disk.

    Records whose keys cannot be had wait in memory, and their events on the bus; those of other tenants pass them.
    """

    def __init__(self, bus: Bus, ingest: Ingest, hear: Hear | None = None) -> None:
        """`hear` is called with events before their records are kept, and again after a failure."""
        self._bus, self._ingest, self._hear = bus, ingest, hear
        self._reader: Reader | None = None
        self._polling: asyncio.Task[list[Event]] | None = None
        self._polled: list[Event] = []  # and not handled
        self._waiting: Sequence[Batch] = ()  # for keys
        self._open: list[Event] = []  # handled and not committed, without bodies if they are complete
        self._why = ""

    async def run(self) -> None:
        """Reads until it is cancelled."""
        pace = Pace(_EVERY, at_once=2)
        # When it was restarted a new reader delivers again what was not committed.
        self._polled, self._waiting, self._open = [], (), []
        try:
            while True:
                try:
                    self._polled = self._polled or await self._poll()
                    many = len(self._polled)
                    await self._handle(self._polled)
                    self._polled = []
                    if many < _POLL:
                        await pace.wait()
                except (Failure, OSError) as error:
                    log.warning("records wait: %s", error)
                    await asyncio.sleep(_RETRY)
                except Exception:
                    # A bug must not stop the log centre from reading for good.
                    log.exception("records wait")
                    await asyncio.sleep(_RETRY)
        finally:
            with contextlib.suppress(Exception):
                await cancel(self._polling)
            reader, self._reader, self._polling = self._reader, None, None
            if reader:
                await reader.close()

    async def _poll(self) -> list[Event]:
        """The next events. While some are open it returns after a second, without events if no more may pass those."""
        self._reader = self._reader or await self._bus.reader(TOPICS, "logs")
        if self._waiting and (sum(len(event.body) for event in self._open) > _WAITING or not self._ingest.may_pass):
            await asyncio.sleep(_RETRY)
            return []
        # A task, as a poll that is cancelled may cost a remote reader its stream.
        self._polling = self._polling or asyncio.create_task(self._reader.poll(_POLL))
        await asyncio.wait({self._polling}, timeout=_RETRY if self._open else None)
        if not self._polling.done():
            return []
        done, self._polling = self._polling, None
        return done.result()

    async def _handle(self, events: Sequence[Event]) -> None:
        if self._hear and events:
            await self._hear(events)
        batches, poison = await asyncio.to_thread(decode, events)
        self._waiting, why = await self._ingest.append([*self._waiting, *batches])
        self._log_waiting(str(why or ""))
        await dead_letter(self._bus, poison)
        done, still = settled([*self._open, *events], {batch.event for batch in self._waiting})
        if done and self._reader:
            await self._reader.commit(done)
        self._open = still

    def _log_waiting(self, why: str) -> None:
        """Logs why records wait for keys, or that they no longer do, when that has changed."""
        if why != self._why:
            self._why = why
            log.warning(*("records of some tenants wait: %s", why) if why else ("no records wait for keys any more",))


def settled(events: Sequence[Event], waiting: Collection[str]) -> tuple[list[Event], list[Event]]:
    """Events that may be committed, and the others: those that wait, and those after them in their partitions."""
    done, still, places = list[Event](), list[Event](), set[tuple[str, int]]()
    for event in events:
        if waits := name_of(event) in waiting:
            places.add((event.topic, event.partition))
        if (event.topic, event.partition) not in places:
            done.append(event)
        else:
            still.append(event if waits else replace(event, body=b""))
    return done, still


def name_of(event: Event) -> str:
    """What an event is recognised by when it is delivered again."""
    return event.id or f"{event.topic}/{event.partition}/{event.offset}"


def decode(received: Sequence[Event]) -> tuple[list[Batch], list[tuple[Event, str]]]:
    """The records of events, and the events that cannot be decoded, with reasons."""
    batches, poison = [], []
    for event in received:
        try:
            batches.append(Batch(name_of(event), _records(event)))
        except (DecodeError, ValueError, KeyError, TypeError) as error:
            log.error("event %s of %s cannot be read: %s", event.id[:64], event.type[:200], type(error).__name__)
            poison.append((event, "unreadable" if event.topic == TELEMETRY else event.flaw() or "unreadable"))
    return batches, poison


def _records(event: Event) -> Sequence[Kept]:
    return otlp.records(event) if event.topic == TELEMETRY else cloudevents.records(event)
