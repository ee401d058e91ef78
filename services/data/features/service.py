"""The use cases of feature sets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.service import DataSets
from services.data.features import domain, steps
from services.data.features.domain import FeatureSet, FeatureSetVersion, Fit, RowRange
from services.data.features.runner import FittingRunner
from services.data.features.store import Store
from services.data.metering.domain import CpuBudget
from services.kit.auth import Principal, Scope
from services.kit.blobs import Blobs
from services.kit.db import Once
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted


class FeatureSets:
    """The use cases."""

    def __init__(
        self, store: Store, data_sets: DataSets, blobs: Blobs, runner: FittingRunner, now: Callable[[], datetime]
    ) -> None:
        self._store, self._data_sets, self._blobs = store, data_sets, blobs
        self._runner, self._now = runner, now

    async def create(self, scope: Scope, made: FeatureSet, once: Once | None) -> FeatureSet:
        """Raises invalid_value, already_exists."""
        steps.check_steps(made.steps, made.label, made.key)
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
        principal: Principal,
        name: str,
        version: int,
        train: RowRange | None,
        once: Once | None,
        budget: CpuBudget,
    ) -> Operation:
        """Begins a fitting on a version of its data set, the newest for 0; answers with the operation.

        Raises not_found, unknown_version, invalid_value, also when the steps do not fit the version's columns, and
        forbidden for masked columns that the caller does not see.
        """
        await self._store.recall(once)
        scope = principal.scope
        found = await self._store.get(scope, name)
        read = {found.label, found.key, *(column for step in found.steps for column in step.columns.values())}
        read |= {train.column} if train else set()
        await self._data_sets.check_seen(principal, found.data_set, read)
        location = await self._data_sets.locate(scope, found.data_set, version)
        columns = location.version.columns
        inputs = steps.inputs_of(found.steps, found.label, found.key, columns)
        if train:
            domain.check_range(train, columns)

        def fit(operation: str) -> Fit:
            return Fit(
                operation,
                feature_set=name,
                data_set=found.data_set,
                data_set_version=location.version.version,
                train=train,
                steps=found.steps,
                label=found.label,
                key=found.key,
                inputs=inputs,
                create_time=self._now(),
            )

        operation = await self._store.begin(scope, fit, name, once, budget)
        self._runner.begin(scope, fit(operation.operation))
        return operation

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the graphs of each project of all tenants."""
        await self._store.sizes.fill(self._blobs.size)
        return await self._store.kept()
