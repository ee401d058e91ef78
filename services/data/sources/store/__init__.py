"""Where sources and uploads are kept."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    false,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.reading.kinds import source_from_json, to_json
from services.data.sources import domain
from services.data.sources.domain import Source
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.sizes import Sizes
from services.kit.statements import Claim, one

_source = scoped(
    "source",
    schema.metadata,
    Column("source", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("definition", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
    Column("secret", LargeBinary),
    Column("landed", Boolean, nullable=False, server_default=false()),
)
_upload = scoped(
    "upload",
    schema.metadata,
    Column("upload", String(36), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    # Bytes, once it is committed; what was before there were sizes has none until it is asked for.
    Column("size", BigInteger),
    Index("upload_digest", "tenant", "project", "digest"),
)
_ONE, _NEW = one(_source, "source"), Claim(_source)
_LOCKED = one(_source, "source").with_for_update()
_DIGEST = one(_upload, "digest").limit(1)


class SourceStore:
    """The tables of sources."""

    def __init__(self, db: Database, tell: Callable[[Scope, Source], Event]) -> None:
        """`tell` makes the event of a change."""
        self._db, self._tell = db, tell
        self.recall, self.write = db.recall, db.write
        self.sizes = Sizes(db, _upload, _upload.c.upload, _upload.c.digest != "")

    async def create(self, scope: Scope, source: Source, once: Once | None) -> Source:
        """Keeps a new source. Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> Source:
            if not _NEW.first(connection, scope._asdict() | _values(source)):
                raise AlreadyExists(f"the source {source.source} exists already")
            schema.outbox.add(connection, [self._tell(scope, source)])
            return source

        return await self._db.write(work, once)

    async def get(self, scope: Scope, name: str) -> Source:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: self.existing(connection, scope, name))

    def existing(self, connection: Connection, scope: Scope, name: str) -> Source:
        """The same in the caller's transaction."""
        return domain.existing(_load(connection, scope, name), name)

    def known(self, connection: Connection, scope: Scope, name: str) -> Source:
        """The same, also a deleted one. Raises not_found."""
        if (found := _load(connection, scope, name)) is None:
            raise NotFound(f"there is no source {name}")
        return found

    def locked(self, connection: Connection, scope: Scope, name: str) -> Source:
        """A source that nobody else locks until the transaction ends. Raises not_found."""
        row = connection.execute(_LOCKED, {**scope._asdict(), "source": name}).first()
        return domain.existing(_read(row) if row else None, name)

    async def change(
        self,
        scope: Scope,
        name: str,
        decide: Callable[[Source], Source],
        deleted: bool = False,
        check: Callable[[Connection, Source, Source], None] = lambda *_: None,
    ) -> Source:
        """Replaces a source by what `decide` makes of it; with `deleted`, also a deleted one.

        Raises not_found, and what `check` says to the source before and after.
        """

        def work(connection: Connection) -> Source:
            before = _load(connection, scope, name)
            if before is None or (before.delete_time and not deleted):
                raise NotFound(f"there is no source {name}")
            after = decide(before)
            check(connection, before, after)
            if after != before:
                here = within(_source, scope) & (_source.c.source == name)
                connection.execute(update(_source).where(here).values(**_values(after)))
                schema.outbox.add(connection, [self._tell(scope, after)])
            return after

        return await self._db.run(work)

    async def list(self, scope: Scope, page_size: int, page_token: str, deleted: bool) -> Page[Source]:
        """By name."""
        query = select(_source).where(within(_source, scope))
        if not deleted:
            query = query.where(_source.c.delete_time.is_(None))
        return await listed(self._db, query, _source.c.source, _read, page_size, page_token)

    async def secrets(self) -> Sequence[tuple[Scope, Source]]:
        """All sources with a password, of all tenants, also deleted ones."""
        query = select(_source).where(_source.c.secret.is_not(None))
        with tenancy.everybody():
            rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(Scope(row.tenant, row.project), _read(row)) for row in rows]

    async def renew_secret(self, scope: Scope, name: str, old: bytes, new: bytes) -> bool:
        """Replaces a password, if it is still the old one: that the source was changed meanwhile is kept."""
        here = within(_source, scope) & (_source.c.source == name) & (_source.c.secret == old)
        changed = update(_source).where(here).values(secret=new)
        with tenancy.everybody():
            return await self._db.run(lambda connection: bool(connection.execute(changed).rowcount))

    async def add_upload(self, scope: Scope, upload: str, now: datetime, once: Once | None, answer: Any) -> Any:
        """Stores that an upload belongs to this project."""

        def work(connection: Connection) -> Any:
            values = {"upload": upload, "digest": "", "create_time": now}
            connection.execute(insert(_upload).values(**scope._asdict(), **values))
            return answer

        return await self._db.run(work, once)

    async def upload_time(self, scope: Scope, upload: str) -> datetime:
        """When an upload of this project was opened. Raises not_found."""
        here = within(_upload, scope) & (_upload.c.upload == upload)
        row = await self._db.read(lambda connection: connection.execute(select(_upload).where(here)).first())
        if row is None:
            raise NotFound(f"there is no upload {upload}")
        time: datetime = row.create_time
        return time

    async def note_digest(self, scope: Scope, upload: str, digest: str, size: int) -> None:
        """Stores the digest and the size of a committed upload: from now on the project may read it."""
        changed = update(_upload).where(within(_upload, scope) & (_upload.c.upload == upload))
        await self._db.run(lambda c: c.execute(changed.values(digest=digest, size=size)) and None)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the uploads of each project; what was uploaded twice is there once."""
        which = _upload.c.tenant, _upload.c.project
        each = select(*which, func.max(_upload.c.size).label("size")).group_by(*which, _upload.c.digest).subquery()
        query = select(each.c.tenant, each.c.project, func.sum(each.c.size)).group_by(each.c.tenant, each.c.project)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}

    async def has_digest(self, scope: Scope, digest: str) -> bool:
        """True if this project has committed an upload of this digest."""
        asked = {**scope._asdict(), "digest": digest}
        return await self._db.read(lambda connection: connection.execute(_DIGEST, asked).first()) is not None


def _load(connection: Connection, scope: Scope, name: str) -> Source | None:
    row = connection.execute(_ONE, {**scope._asdict(), "source": name}).first()
    return _read(row) if row else None


def _values(source: Source) -> dict[str, Any]:
    return {
        "source": source.source,
        "description": source.description,
        "definition": to_json(source.definition),
        "generation": source.generation,
        "create_time": source.create_time,
        "update_time": source.update_time,
        "delete_time": source.delete_time,
        "secret": source.sealed or None,
        "landed": source.landed,
    }


def _read(row: Row[Any]) -> Source:
    return Source(
        row.source,
        row.description,
        source_from_json(row.definition),
        row.create_time,
        row.update_time,
        row.delete_time,
        row.generation,
        row.secret or b"",
        row.landed,
    )
