"""Events between services: durable, at least once, in order per key.

This module holds the port and its near adapter, a log in SQLite. `bus_remote` uses the log of another process.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import orjson
from google.protobuf.message import Message
from sqlalchemy import Column, Float, Integer, LargeBinary, MetaData, String, Table, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine import Connection

from services.kit import contract
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.timestamps import uuid7

TELEMETRY = "aimass.telemetry.v1"
_KEEP_SECONDS = 24 * 3600.0
_metadata = MetaData()
_record = Table(
    "record",
    _metadata,
    Column("offset", Integer, primary_key=True, autoincrement=True),
    Column("topic", String, nullable=False, index=True),
    Column("key", String, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("time", Float, nullable=False),
    sqlite_autoincrement=True,
)
_group = Table(
    "group_offset",
    _metadata,
    Column("name", String, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("offset", Integer, nullable=False),
)


@dataclass(frozen=True)
class Event:
    """A CloudEvent in binary mode: headers say what it is, the body is the message."""

    topic: str
    key: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    partition: int = 0

    @classmethod
    def of(cls, message: Message, scope: Scope, kind: str, name: str, source: str, now: datetime) -> "Event":
        """An event of a thing, keyed so that what happens to one thing stays in order."""
        subject = f"{kind}/{name}"
        headers = {
            "ce_specversion": "1.0",
            "ce_id": uuid7(),
            "ce_type": message.DESCRIPTOR.full_name,
            "ce_source": source,
            "ce_time": now.isoformat(),
            "ce_subject": subject,
            "tenant": scope.tenant,
            "project": scope.project,
        }
        key = f"{scope.tenant}/{scope.project}/{subject}"
        return cls(contract.topic(message.DESCRIPTOR), key, message.SerializeToString(), headers)

    @property
    def id(self) -> str:
        return self.headers.get("ce_id", "")

    @property
    def type(self) -> str:
        return self.headers.get("ce_type", "")

    @property
    def scope(self) -> Scope:
        return Scope(self.headers.get("tenant", ""), self.headers.get("project", "default"))


class Reader(Protocol):
    """One group's reading of some topics."""

    async def poll(self, limit: int) -> list[Event]:
        """The next events; waits until there is one."""

    async def commit(self, events: Sequence[Event]) -> None:
        """Marks events as done; the group does not see them again."""

    async def close(self) -> None: ...


class Bus(Protocol):
    """Where events go and come from."""

    async def start(self) -> None: ...

    async def publish(self, events: Sequence[Event]) -> None:
        """Returns when the events are on the disk. Raises unavailable."""

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> Reader:
        """A group without offsets begins at the beginning, or at the end if `from_end`."""

    async def close(self) -> None: ...


class NearBus:
    """A log in one SQLite file, held by one process."""

    def __init__(self, path: Path) -> None:
        self._db = Database(f"sqlite:///{path}", Path(__file__).parent / "bus_migrations")
        self._news = asyncio.Condition()
        self._pruned = time.monotonic()

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
        await self._db.run(lambda connection: connection.execute(insert(_record), rows) and None)
        async with self._news:
            self._news.notify_all()

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> "NearReader":
        positions = await self._db.run(lambda connection: _positions(connection, topics, group, from_end))
        return NearReader(self, group, positions)

    async def fetch(self, positions: dict[str, int], limit: int) -> list[Event]:
        """Events behind the positions, oldest first; waits for one."""
        while True:
            async with self._news:
                if found := await self._db.run(lambda connection: _after(connection, positions, limit)):
                    return found
                await self._news.wait()

    async def commit(self, group: str, events: Sequence[Event]) -> None:
        """Moves a group's offsets forward, never back."""
        highest: dict[str, int] = {}
        for event in events:
            highest[event.topic] = max(highest.get(event.topic, 0), event.offset)
        await self._db.run(lambda connection: _move(connection, group, highest))
        if time.monotonic() - self._pruned > 60:
            self._pruned = time.monotonic()
            await self._db.run(_prune)

    async def close(self) -> None:
        self._db.close()


class NearReader:
    """Reads the log of this process."""

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
        """Nothing is held."""


def _positions(connection: Connection, topics: Sequence[str], group: str, from_end: bool) -> dict[str, int]:
    rows = connection.execute(select(_group.c.topic, _group.c.offset).where(_group.c.name == group))
    known = {row.topic: row.offset for row in rows}
    end = connection.execute(select(func.coalesce(func.max(_record.c.offset), 0))).scalar_one() if from_end else 0
    found = {topic: known.get(topic, end) for topic in topics}
    # Written down at once: what a new group has not read yet must survive pruning and a crash before its first commit.
    _move(connection, group, found)
    return found


def _after(connection: Connection, positions: dict[str, int], limit: int) -> list[Event]:
    found: list[Event] = []
    for topic, position in positions.items():
        where = (_record.c.topic == topic) & (_record.c.offset > position)
        for row in connection.execute(select(_record).where(where).order_by(_record.c.offset).limit(limit)):
            found.append(Event(row.topic, row.key, row.body, orjson.loads(row.headers), row.offset))
    return sorted(found, key=lambda event: event.offset)[:limit]


def _move(connection: Connection, group: str, offsets: dict[str, int]) -> None:
    for topic, offset in offsets.items():
        change = upsert(_group).values(name=group, topic=topic, offset=offset)
        forward = func.max(_group.c.offset, change.excluded.offset)
        connection.execute(change.on_conflict_do_update(index_elements=["name", "topic"], set_={"offset": forward}))


def _prune(connection: Connection) -> None:
    """Forgets old records that every group of their topic has committed."""
    read = select(_group.c.topic, func.min(_group.c.offset).label("offset")).group_by(_group.c.topic)
    for row in connection.execute(read).all():
        done = (_record.c.topic == row.topic) & (_record.c.offset <= row.offset)
        keep = 600.0 if row.topic == TELEMETRY else _KEEP_SECONDS
        connection.execute(delete(_record).where(done & (_record.c.time < time.time() - keep)))
