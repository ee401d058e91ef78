"""The log centre's consumer: all events, and the telemetry of all processes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from google.protobuf.message import DecodeError

from services.kit import contract
from services.kit.bus import Bus, Event, Reader
from services.kit.errors import Failure
from services.kit.event import TELEMETRY
from services.kit.inbox import dead_letter
from services.kit.pace import Pace
from services.logs.ingest.api import cloudevents, otlp
from services.logs.ingest.service import Batch, Ingest
from services.logs.tables import Kept

log = logging.getLogger(__name__)
TOPICS = [*contract.topics(), TELEMETRY]
Hear = Callable[[Sequence[Event]], Awaitable[None]]
_POLL = 32  # events; one of telemetry holds up to a thousand records
_EVERY = 0.25  # seconds between polls under steady load: each costs a transaction of the bus and a sync


class Intake:
    """Reads the bus, and commits events once their records are on the disk."""

    def __init__(self, bus: Bus, ingest: Ingest, hear: Hear | None = None) -> None:
        """`hear` is called with events before their records are kept, and again after a failure."""
        self._bus, self._ingest, self._hear = bus, ingest, hear

    async def run(self) -> None:
        """Reads until it is cancelled."""
        reader: Reader | None = None
        waiting: list[Event] = []
        pace = Pace(_EVERY, at_once=2)
        try:
            while True:
                try:
                    reader = reader or await self._bus.reader(TOPICS, "logs")
                    waiting = waiting or await reader.poll(_POLL)
                    if self._hear:
                        await self._hear(waiting)
                    batches, poison = await asyncio.to_thread(decode, waiting)
                    await self._ingest.append(batches)
                    await dead_letter(self._bus, poison)
                    await reader.commit(waiting)
                    more, waiting = len(waiting) >= _POLL, []
                    if not more:
                        await pace.wait()
                except (Failure, OSError) as error:
                    log.warning("records wait: %s", error)
                    await asyncio.sleep(1)
                except Exception:
                    # A bug must not stop the log centre from reading for good.
                    log.exception("records wait")
                    await asyncio.sleep(1)
        finally:
            if reader:
                await reader.close()


def decode(received: Sequence[Event]) -> tuple[list[Batch], list[tuple[Event, str]]]:
    """The records of events, and the events that cannot be decoded, with reasons."""
    batches, poison = [], []
    for event in received:
        try:
            batches.append(Batch(event.id or f"{event.topic}/{event.partition}/{event.offset}", _records(event)))
        except (DecodeError, ValueError, KeyError, TypeError) as error:
            log.error("event %s of %s cannot be read: %s", event.id[:64], event.type[:200], type(error).__name__)
            poison.append((event, "unreadable" if event.topic == TELEMETRY else event.flaw() or "unreadable"))
    return batches, poison


def _records(event: Event) -> Sequence[Kept]:
    return otlp.records(event) if event.topic == TELEMETRY else cloudevents.records(event)
