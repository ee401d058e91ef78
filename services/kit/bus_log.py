"""The tables of the near bus and every statement on them: the log of records, and the offsets of groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    false,
    func,
    insert,
    select,
)
from sqlalchemy.engine import Connection, Row

from services.kit import batches
from services.kit.db import upsert
from services.kit.event import TELEMETRY

_DAY = 24 * 3600.0
# Seconds that a record is kept once every group has committed it, and if no group reads its topic.
_READ, _UNREAD = _DAY, 7 * _DAY
_TELEMETRY_READ, _TELEMETRY_UNREAD = 600.0, _DAY
metadata = MetaData()
record = Table(
    "record",
    metadata,
    Column("offset", Integer, primary_key=True, autoincrement=True),
    Column("topic", String, nullable=False, index=True),
    Column("key", String, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("time", Float, nullable=False),
    sqlite_autoincrement=True,
)
group_offset = Table(
    "group_offset",
    metadata,
    Column("name", String, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("offset", Integer, nullable=False),
    # A temporary group of one process, whose name never comes again: nothing is kept for it.
    Column("passing", Boolean, nullable=False, server_default=false()),
)

_AFTER = batches.oldest(
    record,
    record.c.offset,
    (record.c.headers, record.c.body),
    (record.c.topic == bindparam("topic")) & (record.c.offset > bindparam("position")),
)


def append(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Appends records; returns the offset of the last one. They are numbered without gaps."""
    connection.execute(insert(record), rows)
    return int(connection.execute(select(func.max(record.c.offset))).scalar_one())


def open_group(connection: Connection, topics: Sequence[str], group: str, from_end: bool) -> dict[str, int]:
    """The offset of a group in each topic; of a new one 0, or the end if `from_end`."""
    mine = group_offset.c.name == group
    known = {row.topic: row.offset for row in connection.execute(select(group_offset).where(mine))}
    end = connection.execute(select(func.coalesce(func.max(record.c.offset), 0))).scalar_one() if from_end else 0
    found = {topic: known.get(topic, end) for topic in topics}
    # Written at once: what a new group has not read must not be pruned before its first commit.
    move(connection, group, found, from_end)
    return found


def after(connection: Connection, positions: Mapping[str, int], limit: int) -> list[Row[Any]]:
    """Records after the positions, oldest first: at most `limit`, and no more bytes than a message takes."""
    found: list[Row[Any]] = []
    for topic, position in positions.items():
        found += connection.execute(_AFTER, {"topic": topic, "position": position, "limit": limit}).all()
    found = sorted(found, key=lambda row: int(row.offset))[:limit]
    return batches.first(found, lambda row: len(row.headers) + len(row.body))


def move(connection: Connection, group: str, offsets: Mapping[str, int], passing: bool = False) -> None:
    """Moves a group's offsets forward, never back."""
    for topic, offset in offsets.items():
        change = upsert(connection, group_offset).values(name=group, topic=topic, offset=offset, passing=passing)
        forward = func.max(group_offset.c.offset, change.excluded.offset)
        connection.execute(change.on_conflict_do_update(index_elements=["name", "topic"], set_={"offset": forward}))


def lag(connection: Connection) -> dict[str, int]:
    """Records that groups have not committed, by group; without temporary groups."""
    unread = (record.c.topic == group_offset.c.topic) & (record.c.offset > group_offset.c.offset)
    each = select(group_offset.c.name, func.count(record.c.offset)).outerjoin(record, unread)
    found = connection.execute(each.where(group_offset.c.passing.is_(False)).group_by(group_offset.c.name))
    return {name: int(count) for name, count in found}


def prune(connection: Connection, now: float) -> None:
    """Deletes records some time after every group has committed them, and old ones of topics that no group reads.

    Telemetry is deleted after a day even if it is unread: a log centre that is off must not fill the disk.
    """
    topic_of, lasting = group_offset.c.topic, group_offset.c.passing.is_(False)
    read = select(topic_of, func.min(group_offset.c.offset).label("offset")).where(lasting).group_by(topic_of)
    committed = {row.topic: row.offset for row in connection.execute(read)}
    for topic in connection.execute(select(record.c.topic).distinct()).scalars().all():
        here, telemetry = record.c.topic == topic, topic == TELEMETRY
        read_for, unread_for = (_TELEMETRY_READ, _TELEMETRY_UNREAD) if telemetry else (_READ, _UNREAD)
        if telemetry or topic not in committed:
            connection.execute(delete(record).where(here & (record.c.time < now - unread_for)))
        if topic in committed:
            done = here & (record.c.offset <= committed[topic])
            connection.execute(delete(record).where(done & (record.c.time < now - read_for)))
