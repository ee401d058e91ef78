"""Materialises feature views: a child reads rows and writes pages, each of which is stored in one transaction.

How far a run is stands in the transaction of its rows. Killed at any point it goes on behind them, and a page that is
stored twice changes nothing.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from services.data.datasets.service import DataSets
from services.data.feature_views.covering import Cover, Covers
from services.data.feature_views.domain import Entry, Graph, Progress, Run
from services.data.feature_views.online import Online
from services.data.feature_views.places import Place, Step
from services.data.feature_views.store import Store
from services.data.feature_views.store.rows import RowStore
from services.data.feature_views.wire import materialisation_to_wire
from services.data.feature_views.work import read_page
from services.data.metering.service import Metering
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.db import Database
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits
from services.kit.timestamps import uuid7

_RUN, _WORK = TypeAdapter(Run), "services.data.feature_views.work"


class Materialiser(OpenRunner[Run]):
    """Runs one at a time: a run keeps the database busy."""

    def __init__(
        self,
        database: Database,
        store: Store,
        rows: RowStore,
        data_sets: DataSets,
        online: Online,
        covers: Covers,
        blobs: Blobs,
        around: tuple[Metering, Callable[[], datetime], Spawn],
        limits: Limits,
    ) -> None:
        """`blobs` give the folder for pages on their way, and graphs."""
        self._metering, self._now, spawn = around
        super().__init__(store.runs, spawn, at_once=1)
        self._db, self._store, self._rows, self._data_sets = database, store, rows, data_sets
        self._online, self._covers, self._blobs, self._limits = online, covers, blobs, limits

    async def _do(self, scope: Scope, work: Run) -> None:
        place = Place(scope, work.feature_view, work.version)
        cover = await self._covers.of(place)
        found = await self._data_sets.locate(scope, work.data_set, work.data_set_version)
        folder = self._blobs.scratch(scope.tenant) / uuid7()
        folder.mkdir()
        progress = await self._store.progress(scope, work.operation)
        _, version = await self._store.version(scope, work.feature_view, lambda view: work.version, deleted=True)
        # A sweep may have dropped the rows before this run was begun; not since then.
        skip = work.skip if version.coverage.data_set_version else 0

        async def take(message: Mapping[str, Any]) -> None:
            nonlocal progress
            progress = progress.plus(message["counts"], message["position"], message["newest"])
            path = folder / message["page"]
            entries = await asyncio.to_thread(_entries, path, work, cover)
            step = await self._keep(place, work.operation, entries, progress)
            await self._online.put(place, step, entries)
            path.unlink()
            share = progress.position / max(1, found.version.rows)
            await self._operations.progress(scope, work.operation, share, "materialising", f"{progress.rows} rows")

        try:
            async with AsyncExitStack() as stack:
                location = await stack.enter_async_context(self._data_sets.local(scope, found))
                request = {
                    **_RUN.dump_python(work, mode="json"),
                    "graph_file": str(await graph_file(stack, self._blobs, scope, work.graph)),
                    "files": [(str(Path(location.uri) / file.path), file.rows) for file in location.files],
                    "after": max(progress.position, skip),
                    "folder": str(folder),
                }
                await self._metering.run(scope, work.operation, _WORK, request, self._limits, take)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        await self._store.finish(scope, work, self._now(), materialisation_to_wire)

    async def _keep(self, place: Place, operation: str, entries: Sequence[Entry], progress: Progress) -> Step:
        now = self._now()

        def keep(connection: Connection) -> Step:
            self._rows.put(connection, place, entries)
            return self._store.advance(connection, place, operation, progress, now)

        return await self._db.run(keep)


async def graph_file(stack: AsyncExitStack, blobs: Blobs, scope: Scope, graph: Graph | None) -> Path:
    """The file of a graph for as long as the stack is open; nowhere for none. Raises not_found, digest_mismatch."""
    return await stack.enter_async_context(blobs.local(scope.tenant, graph.digest)) if graph else Path()


def _entries(path: Path, work: Run, cover: Cover) -> list[Entry]:
    """The rows of a page as they are stored."""
    found = []
    for name, time, position, value in read_page(path):
        key = cover.hash(name)
        found.append(Entry(key, time, work.data_set_version, position, cover.sealed(key, time, value)))
    return found
