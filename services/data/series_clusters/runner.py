"""Runs clusterings: a child reads, compares and writes, then version and operation end in one transaction.

A clustering is a row until it has ended. After a crash what its child has written is committed, or it is done again.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.series_clusters.domain import Clustering
from services.data.series_clusters.store import ClusteringStore
from services.data.series_clusters.wire import clusters_to_wire
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits
from services.kit.timestamps import uuid7

_CLUSTERING, _WORK = TypeAdapter(Clustering), "services.data.series_clusters.work"
_SORTING = 4  # a part of the memory of a child is for sorting


class ClusteringRunner(OpenRunner[Clustering]):
    """Runs one at a time."""

    def __init__(
        self,
        store: ClusteringStore,
        data_sets: DataSets,
        blobs: Blobs,
        metering: Metering,
        spawn: Spawn,
        limits: Limits,
    ) -> None:
        """`blobs` give the folder for sorting."""
        super().__init__(store, spawn, at_once=1)
        self._store, self._data_sets, self._blobs = store, data_sets, blobs
        self._metering, self._limits = metering, limits

    async def _discard(self, scope: Scope, work: Clustering) -> None:
        await self._data_sets.discard(scope, work.wanted.output, work.operation)

    async def _do(self, scope: Scope, work: Clustering) -> None:
        output = work.wanted.output
        new = await self._data_sets.recover(scope, output, work.operation) or await self._compute(scope, work)

        def effects(connection: Connection, made: DataSetVersion) -> None:
            response = clusters_to_wire(output, made.version, new.notes["found"])
            self._store.end(connection, scope, work.operation, response)

        await self._data_sets.commit(scope, new, effects)

    async def _compute(self, scope: Scope, work: Clustering) -> NewVersion:
        name, number = work.wanted.data_set, work.data_set_version
        found = await self._data_sets.locate(scope, name, number)
        folder = await self._data_sets.prepare(scope, work.wanted.output, work.operation)
        scratch = self._blobs.scratch(scope.tenant) / uuid7()
        scratch.mkdir()

        async def tell(message: Mapping[str, Any]) -> None:
            await self._operations.progress(scope, work.operation, message["progress"], name, message["message"])

        try:
            async with self._data_sets.local(scope, found) as location:
                request = {
                    "clustering": _CLUSTERING.dump_python(work, mode="json"),
                    "files": [str(Path(location.uri) / file.path) for file in location.files],
                    "folder": str(folder),
                    "scratch": str(scratch),
                    "sort_mib": max(self._limits.memory_mib // _SORTING, 1),
                }
                result = await self._metering.run(scope, work.operation, _WORK, request, self._limits, tell)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return NewVersion(
            data_set=work.wanted.output,
            run=work.operation,
            files=parquet.from_json(result["files"]),
            columns=work.outputs,
            append=False,
            parents=(LineageNode("data_set", name, number),),
            statistics=statistics.from_json(result["statistics"]),
            notes={"found": result["found"]},
        )
