"""The use cases of sources."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, Definition, FilesSource
from services.data.reading.places import Places
from services.data.reading.samples import Sample, Tried
from services.data.sources import domain
from services.data.sources.domain import Change, Source
from services.data.sources.store import SourceStore
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import InvalidValue
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted

_RECORDS, _MOST = 20, 100  # of a preview


class Sources:
    """The use cases."""

    def __init__(self, store: SourceStore, places: Places, now: Callable[[], datetime]) -> None:
        self._store, self._places, self._now = store, places, now

    async def create(
        self, scope: Scope, name: str, description: str, definition: Definition, once: Once | None
    ) -> Source:
        """Registers a source that can be opened. Raises invalid_value, egress_denied, already_exists."""
        await self._store.recall(once)
        await self.look(scope, definition)
        now = self._now()
        return await self._store.create(scope, Source(name, description, definition, now, now), once)

    async def look(self, scope: Scope, definition: Definition) -> None:
        """Opens what is described. Raises invalid_value, egress_denied."""
        async with self.place(scope, definition) as place:
            await asyncio.to_thread(connector(definition).look, place)

    @contextlib.asynccontextmanager
    async def place(self, scope: Scope, definition: Definition) -> AsyncIterator[Place]:
        """Where a source lies while the context lasts, if its project may read it.

        Raises invalid_value, egress_denied.
        """
        domain.check(definition)
        digest = definition.upload_digest if isinstance(definition, FilesSource) else ""
        if digest and not await self._store.has_digest(scope, digest):
            raise InvalidValue(f"no upload was committed as {digest}")
        async with self._places.of(scope.tenant, definition) as place:
            yield place

    async def get(self, scope: Scope, name: str) -> Source:
        """Raises not_found, also for a deleted one."""
        return await self._store.get(scope, name)

    def existing(self, connection: Connection, scope: Scope, name: str) -> Source:
        """The same in the caller's transaction, for the slices that pin a source."""
        return self._store.existing(connection, scope, name)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[Source]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def update(self, scope: Scope, name: str, change: Change, etag: str) -> Source:
        """Changes a source; a new place is looked at first. Raises not_found, etag_mismatch, invalid_value."""
        before = await self._store.get(scope, name)
        domain.changed(before, change, etag, self._now())
        if change.definition:
            await self.look(scope, change.definition)
        return await self._store.change(scope, name, lambda found: domain.changed(found, change, etag, self._now()))

    async def delete(self, scope: Scope, name: str, etag: str) -> Source:
        """Hides a source. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> Source:
        """Brings a source back. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()), deleted=True)

    async def preview(self, scope: Scope, definition: Definition, records: int) -> Sample:
        """The first records. Raises invalid_value, egress_denied, limit_exceeded."""
        if not 0 <= records <= _MOST:
            raise InvalidValue(f"records must be between 1 and {_MOST}")
        async with self.place(scope, definition) as place:
            return await asyncio.to_thread(connector(definition).preview, place, records or _RECORDS)

    async def tries(self, scope: Scope, source: Source, compiled: Compiled, records: int) -> Sequence[Tried]:
        """The first records with what extracts them. Raises invalid_value, egress_denied, limit_exceeded."""
        async with self.place(scope, source.definition) as place:

            def read() -> Sequence[Tried]:
                found = connector(source.definition).tries(place, compiled, records)
                return [tried for tried, _ in zip(found, range(records), strict=False)]

            return await asyncio.to_thread(read)
