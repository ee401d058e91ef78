"""Where it is kept who may read which digest."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import BigInteger, Column, String, func, insert, select, update
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.registry.artifacts.domain import Upload
from services.registry.database import schema

_upload = scoped(
    "upload",
    schema.metadata,
    Column("upload", String(36), primary_key=True),
    Column("create_time", UtcDateTime, nullable=False),
)
_artifact = scoped(
    "artifact",
    schema.metadata,
    Column("digest", String(71), primary_key=True),
    Column("create_time", UtcDateTime, nullable=False),
    # Bytes, once somebody asked for them.
    Column("size", BigInteger),
)


class Store:
    """Uploads and artifacts. One method, one transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def recall(self, once: Once | None) -> None:
        """Raises Replay when the call has had its effect already: before work that a repeat can be spared."""
        await self._db.recall(once)

    async def begin(self, scope: Scope, upload: Upload, once: Once | None) -> Upload:
        row = {**scope._asdict(), "upload": upload.upload, "create_time": upload.create_time}

        def work(connection: Connection) -> Upload:
            connection.execute(insert(_upload).values(row))
            return upload

        return await self._db.run(work, once)

    async def upload(self, scope: Scope, upload: str) -> Upload | None:
        query = select(_upload).where(within(_upload, scope) & (_upload.c.upload == upload))
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return Upload(row.upload, row.create_time) if row else None

    async def known(self, scope: Scope, digests: Iterable[str]) -> set[str]:
        """Those of the digests that the scope may read."""
        query = select(_artifact.c.digest).where(within(_artifact, scope) & _artifact.c.digest.in_(set(digests)))
        return set(await self._db.read(lambda connection: connection.execute(query).scalars().all()))

    async def record(self, scope: Scope, digests: Iterable[str], now: datetime) -> None:
        """Lets the scope read digests; a second time changes nothing."""
        wanted = set(digests)

        def work(connection: Connection) -> None:
            here = within(_artifact, scope) & _artifact.c.digest.in_(wanted)
            there = set(connection.execute(select(_artifact.c.digest).where(here)).scalars())
            rows = [{**scope._asdict(), "digest": digest, "create_time": now} for digest in sorted(wanted - there)]
            if rows:
                connection.execute(insert(_artifact), rows)

        await self._db.run(work)

    async def unmeasured(self, limit: int) -> list[tuple[Scope, str]]:
        """Digests of all tenants whose size is not known."""
        query = select(_artifact).where(_artifact.c.size.is_(None)).limit(limit)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(Scope(row.tenant, row.project), row.digest) for row in rows]

    async def measured(self, scope: Scope, digest: str, size: int) -> None:
        """Keeps what a digest has."""
        here = within(_artifact, scope) & (_artifact.c.digest == digest)
        await self._db.write(lambda c: c.execute(update(_artifact).where(here).values(size=size)) and None)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of each project; nobody who writes waits for the sum."""
        which = _artifact.c.tenant, _artifact.c.project
        query = select(*which, func.sum(_artifact.c.size)).group_by(*which)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}

    async def tell(self, events: Iterable[Event]) -> None:
        """Says all of them or none."""
        said = list(events)
        await self._db.run(lambda connection: schema.outbox.add(connection, said))
