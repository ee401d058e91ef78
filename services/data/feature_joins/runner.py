"""Runs joins of features: a child writes the rows, then version and operation end in one transaction.

A join is a row until it has ended. After a crash what its child has written is committed, or it is done again.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, Location, NewVersion
from services.data.datasets.service import DataSets
from services.data.feature_joins.domain import Join
from services.data.feature_joins.store import JoinStore
from services.data.feature_joins.wire import join_to_wire
from services.data.feature_views.runner import graph_file
from services.data.metering.service import Metering
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits
from services.kit.timestamps import uuid7

_JOIN, _WORK = TypeAdapter(Join), "services.data.feature_joins.work"
_BUCKET = 250_000  # rows that are joined in memory together


class JoinRunner(OpenRunner[Join]):
    """Runs one at a time."""

    def __init__(
        self,
        store: JoinStore,
        data_sets: DataSets,
        blobs: Blobs,
        around: tuple[Metering, Callable[[], datetime], Spawn],
        limits: Limits,
    ) -> None:
        """`blobs` give the folder for buckets, and graphs."""
        self._metering, _, spawn = around
        super().__init__(store, spawn, at_once=1)
        self._store, self._data_sets, self._blobs, self._limits = store, data_sets, blobs, limits

    async def _discard(self, scope: Scope, work: Join) -> None:
        await self._data_sets.discard(scope, work.output, work.operation)

    async def _do(self, scope: Scope, work: Join) -> None:
        new = await self._data_sets.recover(scope, work.output, work.operation) or await self._compute(scope, work)

        def effects(connection: Connection, made: DataSetVersion) -> None:
            response = join_to_wire(work.output, made.version, made.rows, new.notes["found"])
            self._store.end(connection, scope, work.operation, response)

        await self._data_sets.commit(scope, new, effects)

    async def _compute(self, scope: Scope, work: Join) -> NewVersion:
        output = await self._data_sets.prepare(scope, work.output, work.operation)
        scratch = self._blobs.scratch(scope.tenant) / uuid7()
        scratch.mkdir()

        async def tell(message: Mapping[str, Any]) -> None:
            await self._operations.progress(scope, work.operation, message["progress"], "joining", message["message"])

        read = [(work.data_set, work.data_set_version)]
        read += [(view.data_set, view.data_set_version) for view in work.views]
        try:
            async with AsyncExitStack() as stack:
                files = []
                for name, version in read:
                    found = await self._data_sets.locate(scope, name, version)
                    files.append(_files(await stack.enter_async_context(self._data_sets.local(scope, found))))
                graphs = [await graph_file(stack, self._blobs, scope, view.graph) for view in work.views]
                request = {
                    "join": _JOIN.dump_python(work, mode="json"),
                    "files": files[0],
                    "view_files": files[1:],
                    "graph_files": list(map(str, graphs)),
                    "folder": str(output),
                    "scratch": str(scratch),
                    "bucket_rows": _BUCKET,
                }
                result = await self._metering.run(scope, work.operation, _WORK, request, self._limits, tell)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return NewVersion(
            data_set=work.output,
            run=work.operation,
            files=parquet.from_json(result["files"]),
            columns=work.outputs,
            append=False,
            parents=tuple(dict.fromkeys([*(LineageNode("data_set", *each) for each in read), *_fitted(work)])),
            statistics=statistics.from_json(result["statistics"]),
            notes={"found": result["found"]},
        )


def _fitted(work: Join) -> list[LineageNode]:
    return [LineageNode("feature_set", *view.feature_set) for view in work.views if view.feature_set]


def _files(location: Location) -> list[tuple[str, int]]:
    return [(str(Path(location.uri) / file.path), file.rows) for file in location.files]
