"""Where pushed records are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, func, insert, select
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.sources.pushing import Pushed
from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists

_record = scoped(
    "pushed_record",
    schema.metadata,
    Column("source", String(63), primary_key=True),
    # One after the other, in the order of their commits.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("record", String(256), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Index("pushed_record_id", "tenant", "project", "source", "record", unique=True),
)


class PushedStore:
    """The table of pushed records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, connection: Connection, scope: Scope, source: str, records: Mapping[str, Pushed], now: Any) -> int:
        """Stores records that are not there, in a transaction that has locked their source; returns how many.

        Raises already_exists for an id with other content.
        """
        here = within(_record, scope) & (_record.c.source == source)
        query = select(_record.c.record, _record.c.digest).where(here & _record.c.record.in_(list(records)))
        there = {row.record: row.digest for row in connection.execute(query)}
        for name, digest in there.items():
            if records[name].digest != digest:
                raise AlreadyExists(f"the record {name[:80]} is there with other content")
        last = _last(connection, scope, source)
        new = [(name, one) for name, one in records.items() if name not in there]
        rows = [
            {**scope._asdict(), "source": source, "number": number, "record": name, "create_time": now, **vars(one)}
            for number, (name, one) in enumerate(new, last + 1)
        ]
        if rows:
            connection.execute(insert(_record), rows)
        return len(rows)

    async def page(self, scope: Scope, source: str, after: int, count: int) -> Sequence[tuple[int, bytes]]:
        """Records behind a number, in their order."""
        here = within(_record, scope) & (_record.c.source == source) & (_record.c.number > after)
        query = select(_record.c.number, _record.c.body).where(here).order_by(_record.c.number).limit(count)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(row.number, row.body) for row in rows]

    async def last(self, scope: Scope, source: str) -> int:
        """The number of the last record; 0 without one."""
        return await self._db.read(lambda connection: _last(connection, scope, source))

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the records of each project of all tenants."""
        which = _record.c.tenant, _record.c.project
        query = select(*which, func.sum(func.length(_record.c.body)).label("size")).group_by(*which)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}


def _last(connection: Connection, scope: Scope, source: str) -> int:
    here = within(_record, scope) & (_record.c.source == source)
    return int(connection.execute(select(func.max(_record.c.number)).where(here)).scalar() or 0)
