"""Events between services: durable, at least once, in order per key.

The port and its near adapter, a log in SQLite whose tables `bus_log` has. `bus_remote` uses the near bus of another
process, `bus_kafka` a cluster.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import orjson
from sqlalchemy.engine import Row

from services.kit import bus_log
from services.kit.db import Database
from services.kit.event import Event

__all__ = ["Bus", "Event", "NearBus", "Reader"]
_PRUNE_EVERY = 60.0  # seconds


class Reader(Protocol):
    """A consumer: one group's place in some topics."""

    async def poll(self, limit: int) -> list[Event]:
        """The next events, at most `limit`; waits until there is one."""

    async def commit(self, events: Sequence[Event]) -> None:
        """Marks events as done: the group is not given them again."""

    async def close(self) -> None: ...


class Bus(Protocol):
    """Publishes and delivers events."""

    async def start(self) -> None: ...

    async def publish(self, events: Sequence[Event]) -> None:
        """Returns when the events are on the disk. Raises unavailable."""

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> Reader:
        """A reader of a group; a new group begins with the oldest events.

        With `from_end` it begins at the end, and the group is temporary: no event is kept for it.
        """

    async def lag(self) -> dict[str, int]:
        """Events that groups have not committed, by group, as far as this process knows: for metrics."""

    async def close(self) -> None: ...


class NearBus:
    """A log in a SQLite file that one process has open."""

    def __init__(self, path: Path) -> None:
        self._db = Database(f"sqlite:///{path}", Path(__file__).parent / "bus_migrations")
        self._news = asyncio.Condition()
        self._pruned = time.monotonic()
        # The last offset of each topic, where known: an event wakes all readers, and only those of its topic query.
        self._ends: dict[str, int] = {}

    async def start(self) -> None:
        """Opens the file. Raises unavailable when another process holds it."""
        await self._db.start()

    async def publish(self, events: Sequence[Event]) -> None:
        rows = [
            {"topic": e.topic, "key": e.key, "headers": orjson.dumps(e.headers), "body": e.body, "time": time.time()}
            for e in events
        ]
        if not rows:
            return
        last = await self._db.run(lambda connection: bus_log.append(connection, rows))
        for offset, event in enumerate(events, last - len(rows) + 1):
            self._ends[event.topic] = max(self._ends.get(event.topic, 0), offset)
        async with self._news:
            self._news.notify_all()
        await self._prune()

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> "NearReader":
        positions = await self._db.run(lambda connection: bus_log.open_group(connection, topics, group, from_end))
        return NearReader(self, group, positions)

    async def fetch(self, positions: dict[str, int], limit: int) -> list[Event]:
        """Events after the positions, oldest first, as many as fit into a message; waits for one."""
        while True:
            async with self._news:
                ends = self._ends
                behind = {topic: at for topic, at in positions.items() if ends.get(topic, at + 1) > at}
                if behind:
                    if rows := await self._db.read(partial(bus_log.after, positions=behind, limit=limit)):
                        return [_event(row) for row in rows]
                    self._ends = behind | self._ends
                await self._news.wait()

    async def commit(self, group: str, events: Sequence[Event]) -> None:
        """Moves a group's offsets forward, never back."""
        highest: dict[str, int] = {}
        for event in events:
            highest[event.topic] = max(highest.get(event.topic, 0), event.offset)
        await self._db.run(lambda connection: bus_log.move(connection, group, highest))
        await self._prune()

    async def lag(self) -> dict[str, int]:
        return await self._db.read(bus_log.lag)

    async def _prune(self) -> None:
        if time.monotonic() - self._pruned > _PRUNE_EVERY:
            self._pruned = time.monotonic()
            await self._db.run(lambda connection: bus_log.prune(connection, time.time()))

    async def close(self) -> None:
        self._db.close()


class NearReader:
    """A reader of the log of this process."""

    def __init__(self, bus: NearBus, group: str, positions: dict[str, int]) -> None:
        self._bus, self._group, self._positions = bus, group, positions

    async def poll(self, limit: int) -> list[Event]:
        events = await self._bus.fetch(self._positions, limit)
        for event in events:
            self._positions[event.topic] = event.offset
        return events

    async def commit(self, events: Sequence[Event]) -> None:
        await self._bus.commit(self._group, events)

    async def close(self) -> None:
        """Nothing to do."""


def _event(row: Row[Any]) -> Event:
    return Event(row.topic, row.key, row.body, orjson.loads(row.headers), row.offset)
