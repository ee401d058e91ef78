"""Fits feature sets: a child fits the steps and writes the graph, then version and operation end in one transaction.

A fitting is a row until it has ended, and is done again after a crash.
"""

import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.datasets.domain import LineageNode
from services.data.datasets.service import DataSets
from services.data.features import events
from services.data.features.domain import FeatureSet, FeatureSetVersion, Fit, Fitted, Scaling
from services.data.features.store import Store
from services.data.features.wire import version_to_wire
from services.data.metering.service import Metering
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits
from services.kit.timestamps import uuid7

_FIT, _WORK = TypeAdapter(Fit), "services.data.features.work"


class FittingRunner(OpenRunner[Fit]):
    """Runs one at a time: a fitting takes both cores and much memory."""

    def __init__(
        self,
        store: Store,
        data_sets: DataSets,
        blobs: Blobs,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: Limits,
    ) -> None:
        super().__init__(store.fittings, spawn, at_once=1)
        self._store, self._data_sets, self._blobs, self._metering = store, data_sets, blobs, metering
        self._now, self._limits = now, limits

    async def _do(self, scope: Scope, fit: Fit) -> None:
        await self._finish(scope, fit, await self._work(scope, fit))

    async def _work(self, scope: Scope, fit: Fit) -> Fitted:
        found = await self._data_sets.locate(scope, fit.data_set, fit.data_set_version)
        folder = self._blobs.scratch(scope.tenant) / uuid7()
        folder.mkdir()

        async def tell(message: Mapping[str, Any]) -> None:
            await self._operations.progress(scope, fit.operation, message["progress"], "fitting", message["message"])

        try:
            graph = folder / "features.onnx"
            async with self._data_sets.local(scope, found) as location:
                files = [str(Path(location.uri) / file.path) for file in location.files]
                request = {**_FIT.dump_python(fit, mode="json"), "files": files, "graph": str(graph)}
                result = await self._metering.run(scope, fit.operation, _WORK, request, self._limits, tell)
            size = graph.stat().st_size
            digest = await self._blobs.adopt(scope.tenant, graph)
            scalings = tuple(Scaling(**one) for one in result["scalings"])
            return Fitted(result["rows"], tuple(result["outputs"]), digest, size, scalings)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _finish(self, scope: Scope, fit: Fit, what: Fitted) -> None:
        now = self._now()

        def effects(connection: Connection, after: FeatureSet, version: FeatureSetVersion) -> Message:
            parents = [LineageNode("data_set", version.data_set, version.data_set_version)]
            child = LineageNode("feature_set", version.feature_set, version.version)
            self._data_sets.link(connection, scope, parents, child)
            schema.outbox.add(connection, [events.fitted(scope, after, version, now)])
            return version_to_wire(version)

        await self._store.finish(scope, fit, what, now, effects)
