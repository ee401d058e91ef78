"""Where uploads, and who may read which digest, are kept."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import BigInteger, Column, String, func, insert, select
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.sizes import Sizes
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
    # Bytes; what was recorded before there were sizes has none until it is asked for.
    Column("size", BigInteger),
)


class Store:
    """Uploads and artifacts. One method, one transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall
        self.sizes = Sizes(db, _artifact, _artifact.c.digest)

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

    async def record(self, scope: Scope, sizes: Mapping[str, int], now: datetime) -> None:
        """Lets the scope read digests, which have so many bytes; a second time changes nothing."""

        def work(connection: Connection) -> None:
            here = within(_artifact, scope) & _artifact.c.digest.in_(sizes)
            there = set(connection.execute(select(_artifact.c.digest).where(here)).scalars())
            new, what = sorted(sizes.keys() - there), {**scope._asdict(), "create_time": now}
            if new:
                connection.execute(insert(_artifact), [{**what, "digest": one, "size": sizes[one]} for one in new])

        await self._db.run(work)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of each project; nobody who writes waits for the sum."""
        which = _artifact.c.tenant, _artifact.c.project
        query = select(*which, func.sum(_artifact.c.size)).group_by(*which)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}

    async def tell(self, events: Iterable[Event]) -> None:
        """Publishes all of them or none."""
        batch = list(events)
        await self._db.run(lambda connection: schema.outbox.add(connection, batch))
