"""The use cases of data sets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from sqlalchemy.engine import Connection

from services.data.datasets import events, places
from services.data.datasets.divider import Divider
from services.data.datasets.domain import (
    QUARANTINE,
    DataSet,
    DataSetVersion,
    Lineage,
    LineageNode,
    Location,
    NewVersion,
    Which,
    WrittenFile,
    check_which,
    extended,
    next_version,
)
from services.data.datasets.effects import Inspector, Refused, Undivided, check_divided, keeping, of_one, refusing
from services.data.datasets.evolution import check_evolution
from services.data.datasets.masking import NOTHING, UNMASK, Hidden, hidden_from, is_hidden, masked
from services.data.datasets.places import Row
from services.data.datasets.store import Added, AllEffects, Effects, Store
from services.data.datasets.tables import RowRange, Tables
from services.data.schema import Column, check_columns
from services.kit import pages
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, Forbidden
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted
from services.kit.space import Space

# Seconds before a commit is tried again that another instance overtook, or whose store was away.
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_PASSING = (Code.CONFLICT, Code.UNAVAILABLE)


class DataSets:
    """The use cases."""

    inspector: Inspector | None = None
    divider: Divider
    forget: Callable[[Connection, Scope, str], None] | None = None  # in the transaction that deletes a data set

    def __init__(self, store: Store, tables: Tables, now: Callable[[], datetime], space: Space) -> None:
        """`space` is the disk that runs write their files to."""
        self._store, self._tables, self._now, self.is_there = store, tables, now, store.is_there
        self.parent, self.check_newest, self.placed = store.parent, store.check_newest, tables.placed
        # Raises storage_full where no run may write now.
        self.check_space = space.check
        self._locks: WeakValueDictionary[tuple[Scope, str], asyncio.Lock] = WeakValueDictionary()

    async def prepare(
        self, scope: Scope, data_set: str, run: str, landed_from: str = "", masked_columns: tuple[str, ...] = ()
    ) -> Path:
        """The folder for the Parquet files of a run, empty; makes the data set if it is new, with these masks.

        `landed_from`: the source whose raw records land. Raises failed_precondition when the data set is deleted or
        something else writes it, or when the run has been committed; storage_full.
        """
        self.check_space()
        await self._store.ensure(scope, data_set, self._now(), landed_from, masked_columns)
        if await self._store.by_run(scope, data_set, run):
            raise FailedPrecondition(f"the run {run} has added its version to {data_set}")
        return await self._tables.prepare(scope, data_set, run)

    async def recover(self, scope: Scope, data_set: str, run: str) -> NewVersion | None:
        """After a crash: what the run had handed to `commit`, to be handed to it again; None: the run starts anew."""
        return await self._tables.recall(scope, data_set, run)

    async def discard(self, scope: Scope, data_set: str, run: str) -> None:
        """Removes the files of a run that failed or was cancelled; those of a committed one stay."""
        if not await self._store.by_run(scope, data_set, run):
            await self._tables.discard(scope, data_set, run)

    async def commit(
        self, scope: Scope, new: NewVersion, effects: Effects | None = None, once: Once | None = None
    ) -> DataSetVersion:
        """Adds a version: Delta log, then row, effects and event in one transaction. A second time changes nothing.

        Raises failed_precondition for a deleted data set and for appended columns that do not fit. Once begun it goes
        to its end, also when the caller is cancelled: half of it must not run beside the next one.
        """
        return (await self.commit_all(scope, (new,), effects and of_one(effects), once))[0]

    async def commit_all(
        self,
        scope: Scope,
        news: Sequence[NewVersion],
        effects: AllEffects | None = None,
        once: Once | None = None,
    ) -> tuple[DataSetVersion, ...]:
        """The same for several data sets of one run: all versions, the effects and the events, or none of them.

        What `recover` gives back is written down in this order, and before any log is: if it is there for the last data
        set, it is there for all.
        """
        for new in news:
            check_columns(new.columns)
        return await asyncio.shield(self._commit(scope, news, effects and refusing(effects), once))

    async def _commit(
        self, scope: Scope, news: Sequence[NewVersion], effects: AllEffects | None, once: Once | None
    ) -> tuple[DataSetVersion, ...]:
        async with contextlib.AsyncExitStack() as stack:
            for name in sorted({new.data_set for new in news}):  # in one order for all, so that none waits for another
                await stack.enter_async_context(self._lock(scope, name))
            if self.inspector:
                news = [new if new.raw else await self.inspector.inspected(scope, new, self._now()) for new in news]
                effects = keeping(self.inspector, scope, news, effects)
            for pause in _PAUSES:
                try:
                    return await self._attempt(scope, news, effects, once)
                except Refused as refused:
                    raise refused.failure from None
                except Undivided as found:
                    news = [await self.divider.divided(scope, *each) for each in zip(news, found.layouts, strict=True)]
                    continue
                except Failure as failure:
                    if failure.code not in _PASSING or pause == _PAUSES[-1]:
                        raise
                await asyncio.sleep(pause)
        raise Failure(Code.CONFLICT, f"{news[0].data_set} is divided otherwise each time its rows have been divided")

    async def _attempt(
        self, scope: Scope, news: Sequence[NewVersion], effects: AllEffects | None, once: Once | None
    ) -> tuple[DataSetVersion, ...]:
        """Files, logs and rows on top of what is there now. Raises conflict when another instance was faster."""
        done = [await self._store.by_run(scope, new.data_set, new.run) for new in news]
        if all(done):
            return tuple(version for version in done if version)
        heads = [await self._store.head(scope, new.data_set) for new in news]
        check_divided(heads, news)
        # Beside the loop: a wide table takes tens of milliseconds.
        now = self._now()
        versions = [
            await asyncio.to_thread(next_version, head, new, now) for head, new in zip(heads, news, strict=True)
        ]
        kept = [await self._tables.keep(scope, new) for new in news]
        added = []
        for head, new, version in zip(heads, kept, versions, strict=True):
            files = (*(head.files if new.append else ()), *new.files)
            number = await self._tables.write(scope, new, version.columns, files)
            added.append(Added(replace(version, delta_version=number), new))
        return await self._store.add(scope, added, partial(events.version_added, scope), effects, once)

    def _lock(self, scope: Scope, data_set: str) -> asyncio.Lock:
        """One commit of a data set at a time; a lock lives as long as somebody holds or awaits it."""
        return self._locks.setdefault((scope, data_set), asyncio.Lock())

    def link(self, connection: Connection, scope: Scope, parents: Iterable[LineageNode], child: LineageNode) -> None:
        """Adds lineage of a thing of another slice (`feature_set`), in that slice's transaction."""
        self._store.link(connection, scope, parents, child)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the files of each project of all tenants."""
        return await self._store.kept()

    async def locate(self, scope: Scope, data_set: str, version: int = 0) -> Location:
        """Where a version lies; the newest for 0. Raises not_found, unknown_version."""
        found, files = await self._store.located(scope, data_set, version)
        return Location(self._tables.uri(scope, data_set), found.delta_version, files, found)

    @contextlib.asynccontextmanager
    async def local(self, scope: Scope, location: Location) -> AsyncIterator[Location]:
        """A version as a child of this machine reads it, while the context lasts: its URI is a folder.

        Raises digest_mismatch and unavailable when the files are elsewhere.
        """
        async with self._tables.local(scope, location) as here:
            yield here

    async def get(self, scope: Scope, data_set: str) -> DataSet:
        """Raises not_found."""
        return await self._store.get(scope, data_set)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[DataSet]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def version(self, scope: Scope, data_set: str, version: int) -> DataSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""
        return await self._store.version(scope, data_set, version)

    async def number(self, scope: Scope, data_set: str, which: Which) -> int:
        """Of a version that is said in some way; 0 for the newest. Raises not_found, unknown_version, invalid_value."""
        check_which(which)
        return await self._store.number(scope, data_set, which) if which.tag or which.as_of else which.version

    async def whole(self, scope: Scope, data_set: str, version: int) -> tuple[DataSetVersion, tuple[WrittenFile, ...]]:
        """A version with all that a new one needs of it, and its files. Raises not_found, unknown_version."""
        return await self._store.whole(scope, data_set, version)

    async def hidden(self, principal: Principal, data_set: str) -> frozenset[str]:
        """The columns whose values a caller must not see. Raises not_found."""
        if principal.may(UNMASK):  # of all
            return NOTHING
        return hidden_from(principal, await self._store.get(principal.scope, data_set))

    async def hidden_in(self, principal: Principal, data_sets: Iterable[str]) -> frozenset[str]:
        """The same of several data sets at once, deleted ones among them; of one that is not there, none."""
        found = [] if principal.may(UNMASK) else await self._store.those(principal.scope, data_sets)
        return NOTHING.union(*(hidden_from(principal, one) for one in found))

    def mask_as(
        self, connection: Connection, scope: Scope, source: str, output: str, origins: Mapping[str, Sequence[str]]
    ) -> None:
        """Masks columns of a data set that are made of masked ones of another, in the transaction of a commit.

        `origins` are columns of the source by the column made of them.
        """
        self._store.mask_as(connection, scope, source, output, origins)

    async def check_seen(self, principal: Principal, data_set: str, columns: Iterable[str] | None = None) -> None:
        """Raises forbidden for who does not see all columns, or all of these; not_found."""
        hidden = await self.hidden(principal, data_set)
        if hidden and (columns is None or any(is_hidden(name, hidden) for name in columns)):
            raise Forbidden(f"columns of {data_set} are masked: {UNMASK} is not permitted")

    async def has_run(self, scope: Scope, data_set: str, run: str) -> bool:
        """Whether a run has added its version."""
        return bool(await self._store.by_run(scope, data_set, run))

    def folder(self, scope: Scope, data_set: str, run: str) -> Path:
        """Where the files of a run lie until it is committed."""
        return self._tables.folder(scope, data_set, run)

    async def check_columns(self, scope: Scope, data_set: str, columns: Sequence[Column]) -> None:
        """Raises failed_precondition for columns of which no rows can be appended to the newest version."""
        try:
            newest = await self._store.version(scope, data_set, 0)
        except Failure as failure:
            if failure.code in (Code.NOT_FOUND, Code.UNKNOWN_VERSION):
                return
            raise
        refused = (await self._store.get(scope, data_set)).refused_changes
        check_evolution(data_set, refused, newest.columns, columns)
        extended(newest.columns, columns, data_set)

    async def versions(self, scope: Scope, data_set: str, page_size: int, page_token: str) -> Page[DataSetVersion]:
        """Newest first. Raises not_found."""
        return await self._store.versions(scope, data_set, page_size, page_token)

    async def lineage(self, scope: Scope, data_set: str, version: int) -> Lineage:
        """Raises not_found, unknown_version."""
        return await self._store.lineage(scope, data_set, version)

    async def delete(self, scope: Scope, data_set: str, etag: str) -> DataSet:
        """Hides it; a second time changes nothing. Raises not_found, etag_mismatch."""
        now = self._now()
        return await self._store.change(scope, data_set, lambda found: deleted(found, data_set, etag, now), self.forget)

    async def undelete(self, scope: Scope, data_set: str) -> DataSet:
        """Brings it back; a second time changes nothing. Raises not_found."""
        return await self._store.change(scope, data_set, lambda found: undeleted(found, self._now()))

    async def rows(
        self,
        scope: Scope,
        data_set: str,
        version: int,
        columns: Sequence[str],
        page_size: int,
        page_token: str,
        hidden: Hidden = NOTHING,
    ) -> Page[Row]:
        """Rows in stored order as JSON values, NULL in hidden columns.

        A token keeps to the version that its first page read.

        Raises not_found, unknown_version, invalid_value for a column that is not there.
        """
        size, (number, start) = pages.size(page_size), places.place(version, page_token)
        found, files = await self._store.located(scope, data_set, number)
        chosen = places.choose(found, columns)
        rows = await self._tables.read(scope, data_set, RowRange(files, chosen, start, size))
        return places.page(masked(rows, hidden), found.version, start, found.rows)

    async def quarantine(self, scope: Scope, data_set: str, version: int, page_size: int, page_token: str) -> Page[Row]:
        """The quarantined rows of a version: record, reason, origin. Raises as `rows` does."""
        size, (number, start) = pages.size(page_size), places.place(version, page_token)
        found, files = await self._store.located(scope, data_set, number, quarantine=True)
        rows = await self._tables.read(scope, data_set, RowRange(files, QUARANTINE, start, size))
        return places.page(rows, found.version, start, sum(file.rows for file in files))
