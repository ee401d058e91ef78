"""The outbox: events written in the transaction that caused them (RELIABILITY S3), which `relay` publishes."""

import asyncio
import zlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.engine import Connection, Row

from services.kit import batches
from services.kit.bus import Event
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.event import LARGEST
from services.kit.transactions import once_committed

PARTITIONS = 8  # of every outbox; never changed, as events of a key must stay in one partition
_COUNTED = 10_000  # events that `backlog` counts at most
# 64 bits; SQLite generates numbers in a column of type INTEGER only.
NUMBER = BigInteger().with_variant(Integer, "sqlite")


class Outbox:
    """A table of events that have not been published yet."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "outbox",
            metadata,
            Column("id", NUMBER, primary_key=True),
            Column("partition", SmallInteger, nullable=False, server_default="0"),
            Column("topic", String(200), nullable=False),
            Column("key", String(400), nullable=False),
            Column("headers", LargeBinary, nullable=False),
            Column("body", LargeBinary, nullable=False),
            Index("outbox_partition", "partition", "id"),
        )
        size = (self.table.c.headers, self.table.c.body)
        some = self.table.c.partition.in_(bindparam("partitions", expanding=True))
        self._oldest = batches.oldest(self.table, self.table.c.id, size, true())
        self._oldest_of_some = batches.oldest(self.table, self.table.c.id, size, some)
        self._add = insert(self.table).inline()  # the generated numbers are not returned
        self._remove = delete(self.table).where(self.table.c.id.in_(bindparam("ids", expanding=True)))
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, connection: Connection, events: Iterable[Event]) -> None:
        """Writes events in the caller's transaction. Raises limit_exceeded for one that is too large for a bus."""
        rows = [_row(event) for event in events]
        if rows:
            connection.execute(self._add, rows if len(rows) > 1 else rows[0])
            once_committed(self._wake)

    def _wake(self) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    def backlog(self, connection: Connection) -> tuple[int, str]:
        """How many events wait, up to 10,000, and the `ce_time` of the oldest; empty when none waits."""
        table = self.table
        some = select(table.c.id).limit(_COUNTED).subquery()
        oldest = connection.execute(select(table.c.headers).order_by(table.c.id).limit(1)).scalar()
        count = connection.execute(select(func.count()).select_from(some)).scalar_one()
        return int(count), str(orjson.loads(oldest).get("ce_time", "")) if oldest else ""

    def oldest(self, connection: Connection, partitions: Collection[int], limit: int) -> Sequence[Row[Any]]:
        """The oldest events of some partitions, bounded as `batches.oldest` says."""
        if len(partitions) == PARTITIONS:
            return connection.execute(self._oldest, {"limit": limit}).all()
        return connection.execute(self._oldest_of_some, {"limit": limit, "partitions": list(partitions)}).all()

    def remove(self, connection: Connection, ids: Sequence[int]) -> None:
        """Deletes events that are published."""
        connection.execute(self._remove, {"ids": ids})

    def listen(self) -> asyncio.Event:
        """What is set in this event loop when a transaction of this process has written events."""
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        return self._news


class Publisher:
    """Publishes events without other changes."""

    def __init__(self, db: Database, outbox: Outbox) -> None:
        self._db, self._outbox = db, outbox

    async def tell(self, events: Iterable[Event]) -> None:
        """Returns when all events are committed, or raises and none is."""
        written = list(events)
        await self._db.write(lambda connection: self._outbox.add(connection, written))


def _row(event: Event) -> dict[str, Any]:
    if event.size > LARGEST:
        raise Failure(Code.LIMIT_EXCEEDED, f"{event.headers.get('ce_subject', event.key)} is too large for an event")
    # Unlike hash(), the same in every process and release.
    partition = zlib.crc32(event.key.encode()) % PARTITIONS
    headers = orjson.dumps(event.headers)
    return {"partition": partition, "topic": event.topic, "key": event.key, "headers": headers, "body": event.body}
