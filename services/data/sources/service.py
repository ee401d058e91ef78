"""The use cases of sources."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from services.data.reading.connector import PartLag
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import (
    Compiled,
    Definition,
    FilesSource,
    PushedSource,
    SqlSource,
    compiled_to_json,
    to_json,
)
from services.data.reading.landed import LandedRecords
from services.data.reading.places import Places
from services.data.reading.samples import Sample, Tried
from services.data.reading.sqlite import Table
from services.data.sources import domain
from services.data.sources.domain import Change, Source
from services.data.sources.pushes import Pushes
from services.data.sources.store import SourceStore
from services.data.sources.work import sample_from_json, table_from_json, tried_from_json
from services.kit import process
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue
from services.kit.pages import Page
from services.kit.process import Limits
from services.kit.resources import deleted, undeleted
from services.kit.secrets import Vault

_RECORDS, _MOST = 20, 100  # of a preview
_WORK, _LIMITS = "services.data.sources.work", Limits(seconds=25.0, memory_mib=768)


Opening = Callable[[Principal, Source, int], AbstractAsyncContextManager[tuple[LandedRecords, Place]]]


class Sources:
    """The use cases."""

    def __init__(
        self, store: SourceStore, pushes: Pushes, places: Places, vault: Vault, now: Callable[[], datetime]
    ) -> None:
        """`vault` encrypts secrets."""
        self._store, self._places, self._vault, self._now = store, places, vault, now
        self.pushes = pushes
        # Opens the records of a source that landed last, for a caller.
        self.landed: Opening | None = None
        # Whether a source was extracted, or is just now.
        self.was_read: Callable[[Connection, Scope, str], bool] = lambda *_: False

    async def create(
        self,
        scope: Scope,
        name: str,
        description: str,
        definition: Definition,
        once: Once | None,
        landed: bool = False,
    ) -> Source:
        """Registers a source that can be opened. Raises invalid_value, egress_denied, already_exists."""
        await self._store.recall(once)
        domain.check_landed(name, landed)
        await self.look(scope, definition)
        now, sealed = self._now(), self._seal(scope, name, definition)
        made = Source(name, description, domain.without_secret(definition), now, now, sealed=sealed, landed=landed)
        return await self._store.create(scope, made, once)

    def _seal(self, scope: Scope, name: str, definition: Definition) -> bytes:
        password = domain.secret_of(definition)
        return self._vault.seal(password.encode(), context_of(scope, name, definition)) if password else b""

    async def look(self, scope: Scope, definition: Definition, name: str = "") -> None:
        """Opens what is described. Raises invalid_value, egress_denied, unavailable, failed_precondition."""
        reader = connector(definition)
        async with self.place(scope, definition, name, most=1) as place:
            if reader.apart:
                await self._ask(definition, place, ask="look")
            else:
                await asyncio.to_thread(reader.look, place)

    @staticmethod
    async def _ask(definition: Definition | LandedRecords, place: Place, **asked: Any) -> Any:
        """What a child says to it."""
        said = definition.to_json() if isinstance(definition, LandedRecords) else to_json(definition)
        return await process.run(_WORK, {"source": said, "place": place.to_json(), **asked}, _LIMITS)

    @contextlib.asynccontextmanager
    async def sample(
        self, scope: Scope, source: Source, records: int, landed_for: Principal | None = None
    ) -> AsyncIterator[tuple[Definition | LandedRecords, Place]]:
        """Where the first records of a source lie, or, for a caller, those that landed last of it.

        Raises as `place` does; failed_precondition where none have landed, forbidden.
        """
        if landed_for is None:
            async with self.place(scope, source.definition, source.source, most=records) as place:
                yield source.definition, place
            return
        assert self.landed
        async with self.landed(landed_for, source, records) as found:
            yield found

    @contextlib.asynccontextmanager
    async def place(
        self,
        scope: Scope,
        definition: Definition,
        name: str = "",
        cursor: Mapping[str, Any] | None = None,
        most: int = 0,
    ) -> AsyncIterator[Place]:
        """Where a source lies while the context lasts, if its project may read it.

        `name` is of the saved source that has the secret, if it has the same server, or the pushed records:
        those behind the cursor, and no more than `most`. Raises invalid_value, egress_denied, unavailable.
        """
        domain.check(definition)
        if isinstance(definition, PushedSource) and name:
            after = int((cursor or {}).get("after", 0))
            async with self.pushes.exported(scope, name, after, most) as path:
                yield Place(path.parent, (path.name,))
            return
        digest = definition.upload_digest if isinstance(definition, FilesSource) else ""
        if digest and not await self._store.has_digest(scope, digest):
            raise InvalidValue(f"no upload was committed as {digest}")
        async with self._places.of(scope.tenant, definition) as place:
            yield place._replace(secret=await self._secret(scope, definition, name)) if place.address else place

    @contextlib.asynccontextmanager
    async def writable(self, scope: Scope, name: str) -> AsyncIterator[tuple[SqlSource, Place]]:
        """The database of a source to write to, and where it lies while the context lasts.

        Raises not_found, failed_precondition for what is no database, egress_denied for a file that other tenants read.
        """
        definition = (await self._store.get(scope, name)).definition
        if not isinstance(definition, SqlSource):
            raise FailedPrecondition(f"the source {name} is no SQL database")
        async with self.place(scope, definition, name) as place:
            if not definition.remote and not self._places.owns(scope.tenant, place):
                raise Failure(Code.EGRESS_DENIED, "the folder of the file is not of this tenant alone")
            yield definition, place

    async def _secret(self, scope: Scope, definition: Definition, name: str) -> str:
        """The secret of a server: as it was just said, or as it is stored for this server. Empty without one."""
        if said := domain.secret_of(definition):
            return said
        sealed = (await self._store.get(scope, name)).sealed if name else b""
        try:
            return self._vault.open(sealed, context_of(scope, name, definition)).decode() if sealed else ""
        except ValueError:
            raise FailedPrecondition(f"the secret of the source {name} is of another server: set it again") from None

    async def get(self, scope: Scope, name: str) -> Source:
        """Raises not_found, also for a deleted one."""
        return await self._store.get(scope, name)

    def existing(self, connection: Connection, scope: Scope, name: str) -> Source:
        """The same in the caller's transaction, for the slices that pin a source."""
        return self._store.existing(connection, scope, name)

    def known(self, connection: Connection, scope: Scope, name: str) -> Source:
        """The same, also a deleted one: what landed of it is there. Raises not_found."""
        return self._store.known(connection, scope, name)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[Source]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def update(self, scope: Scope, name: str, change: Change, etag: str) -> Source:
        """Changes a source; a new place is looked at first. Raises not_found, etag_mismatch, invalid_value."""
        before = await self._store.get(scope, name)
        domain.changed(before, change, etag, self._now())
        if definition := change.definition:
            same = domain.server_of(definition) == domain.server_of(before.definition)
            await self.look(scope, definition, name if same else "")
            sealed = self._seal(scope, name, definition)
            change = replace(change, definition=domain.without_secret(definition), sealed=sealed)

        def check(connection: Connection, found: Source, after: Source) -> None:
            if found.landed != after.landed and self.was_read(connection, scope, name):
                raise FailedPrecondition(
                    f"{name} was extracted before, so landed cannot be changed: records would be read twice;"
                    " make another source of the same place"
                )

        return await self._store.change(
            scope, name, lambda found: domain.changed(found, change, etag, self._now()), check=check
        )

    async def delete(self, scope: Scope, name: str, etag: str) -> Source:
        """Hides a source. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> Source:
        """Brings a source back. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()), deleted=True)

    async def preview(self, scope: Scope, definition: Definition, records: int, name: str = "") -> Sample:
        """The first records; `name` as in `place`. Raises invalid_value, egress_denied, limit_exceeded."""
        if not 0 <= records <= _MOST:
            raise InvalidValue(f"records must be between 1 and {_MOST}")
        reader = connector(definition)
        async with self.place(scope, definition, name, most=records or _RECORDS) as place:
            if reader.apart:
                return sample_from_json(await self._ask(definition, place, ask="preview", records=records or _RECORDS))
            return await asyncio.to_thread(reader.preview, place, records or _RECORDS)

    async def preview_landed(self, principal: Principal, source: Source, records: int) -> Sample:
        """The same of what landed last of a source. Raises as `sample` does."""
        if not 0 <= records <= _MOST:
            raise InvalidValue(f"records must be between 1 and {_MOST}")
        most = records or _RECORDS
        async with self.sample(principal.scope, source, most, principal) as (where, place):
            return sample_from_json(await self._ask(where, place, ask="preview", records=most))

    async def lag(self, scope: Scope, source: Source, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """What a source has behind a cursor; None where that is not known. Raises what opening it does."""
        reader = connector(source.definition)
        if isinstance(source.definition, PushedSource):
            return [await self.pushes.lag(scope, source.source, int(cursor.get("after", 0)))]
        async with self.place(scope, source.definition, source.source) as place:
            if not reader.apart:
                return await asyncio.to_thread(reader.lag, place, cursor)
            found = (await self._ask(source.definition, place, ask="lag", cursor=cursor))["parts"]
        return None if found is None else [PartLag(*part) for part in found]

    async def describe(self, scope: Scope, source: Source) -> Table:
        """The table of a source that is on a server. Raises what opening it does."""
        async with self.place(scope, source.definition, source.source) as place:
            return table_from_json(await self._ask(source.definition, place, ask="describe"))

    async def prepare(self, scope: Scope, source: Source, compiled: Compiled) -> None:
        """Has that server compile a checked statement. Raises invalid_value, with what it says."""
        async with self.place(scope, source.definition, source.source) as place:
            await self._ask(source.definition, place, ask="prepare", compiled=compiled_to_json(compiled))

    async def tries(
        self, scope: Scope, source: Source, compiled: Compiled, records: int, landed_for: Principal | None = None
    ) -> Sequence[Tried]:
        """Records as `sample` has them, with what extracts them. Raises as that does, limit_exceeded."""
        reader = connector(source.definition)
        async with self.sample(scope, source, records, landed_for) as (where, place):
            if reader.apart or landed_for:
                asked = {"ask": "tries", "compiled": compiled_to_json(compiled), "records": records}
                found = await self._ask(where, place, **asked)
                return [tried_from_json(reader, compiled, one) for one in found["tried"]]

            def read() -> Sequence[Tried]:
                return [tried for tried, _ in zip(reader.tries(place, compiled, records), range(records), strict=False)]

            return await asyncio.to_thread(read)


def context_of(scope: Scope, name: str, definition: Definition) -> str:
    """What a secret is sealed with: it opens for this source and this server only."""
    return f"source/{scope.tenant}/{scope.project}/{name}/{domain.server_of(definition)}"
