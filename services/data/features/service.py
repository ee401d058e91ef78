"""What one does with feature sets."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.domain import LineageNode
from services.data.datasets.service import DataSets
from services.data.features import domain, events
from services.data.features.domain import FeatureSet, FeatureSetVersion, Fit, Fitted, RowRange
from services.data.features.store import Store
from services.data.features.wire import version_to_wire
from services.data.generations import deleted, undeleted
from services.data.metering.domain import CpuBudget
from services.data.metering.service import Metering
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.db import Once
from services.kit.errors import Failure
from services.kit.leased_work import LeasedWork, Spawn
from services.kit.leases import Tenure
from services.kit.operations import Operations
from services.kit.pages import Page
from services.kit.process import Limits
from services.kit.timestamps import uuid7

_FIT, _WORK = TypeAdapter(Fit), "services.data.features.work"


class FeatureSets(LeasedWork[Fit]):
    """The use cases. A fitting is a row until it has ended: after a crash `resume` takes it up."""

    def __init__(
        self,
        store: Store,
        data_sets: DataSets,
        blobs: Blobs,
        metering: Metering,
        operations: Operations,
        tenure: Tenure,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: Limits,
    ) -> None:
        super().__init__(operations, tenure, spawn, at_once=1)  # a fitting takes both cores and much memory
        self._store, self._data_sets, self._blobs, self._metering = store, data_sets, blobs, metering
        self._now, self._limits = now, limits

    async def create(self, scope: Scope, made: FeatureSet, once: Once | None) -> FeatureSet:
        """Raises invalid_value, already_exists."""
        domain.check_steps(made.steps, made.label, made.key)
        now = self._now()
        return await self._store.create(scope, replace(made, create_time=now, update_time=now), once)

    async def get(self, scope: Scope, name: str) -> FeatureSet:
        """Raises not_found."""
        return await self._store.get(scope, name)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[FeatureSet]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def version(self, scope: Scope, name: str, number: int) -> FeatureSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""
        return await self._store.version(scope, name, number)

    async def delete(self, scope: Scope, name: str, etag: str) -> FeatureSet:
        """Hides it; a second time changes nothing. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> FeatureSet:
        """Brings it back; a second time changes nothing. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()))

    async def fit(
        self,
        scope: Scope,
        name: str,
        version: int,
        train: RowRange | None,
        once: Once | None,
        budget: CpuBudget,
    ) -> Operation:
        """Begins a fitting on a version of its data set, the newest for 0; answers with the operation.

        Raises not_found, unknown_version, and invalid_value, also when the steps do not fit the version's columns.
        """
        await self._store.recall(once)
        found = await self._store.get(scope, name)
        location = await self._data_sets.locate(scope, found.data_set, version)
        columns = location.version.columns
        inputs = domain.inputs_of(found.steps, found.label, found.key, columns)
        if train:
            domain.check_range(train, columns)

        def fit(operation: str) -> Fit:
            pinned = location.version.version
            what = (found.data_set, pinned, train, found.steps, found.label, found.key, inputs)
            return Fit(operation, name, *what, self._now())

        operation = await self._store.begin(scope, fit, name, once, budget)
        self.begin(scope, fit(operation.operation))
        return operation

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the graphs of each project of all tenants."""
        await self._store.sizes.fill(self._blobs.size)
        return await self._store.kept()

    async def _unfinished(self) -> Sequence[tuple[Scope, Fit]]:
        return await self._store.unfinished()

    async def _do(self, scope: Scope, fit: Fit) -> None:
        await self._finish(scope, fit, await self._work(scope, fit))

    async def _give_up(self, scope: Scope, fit: Fit, failure: Failure | None) -> None:
        await self._store.give_up(scope, fit, failure)

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
            return Fitted(result["rows"], tuple(result["outputs"]), digest, size)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _finish(self, scope: Scope, fit: Fit, what: Fitted) -> None:
        def decide(found: FeatureSet) -> Any:
            after, version = domain.fitted(found, fit, what, self._now())
            return after, version, [events.fitted(scope, after, version, self._now())], version_to_wire(version)

        def also(connection: Connection, version: FeatureSetVersion) -> None:
            parents = [LineageNode("data_set", version.data_set, version.data_set_version)]
            child = LineageNode("feature_set", version.feature_set, version.version)
            self._data_sets.link(connection, scope, parents, child)

        await self._store.finish(scope, fit, what.size, decide, also)
