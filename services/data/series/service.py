"""The use cases of series sets."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.domain import DataSetVersion
from services.data.datasets.service import DataSets
from services.data.metering.domain import CpuBudget
from services.data.series import domain
from services.data.series.domain import Run, SeriesSet, SeriesSetVersion
from services.data.series.runner import SeriesRunner
from services.data.series.store import Store
from services.kit.auth import Principal, Scope
from services.kit.blobs import Blobs
from services.kit.db import Once
from services.kit.errors import Code, Failure
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted
from services.kit.timestamps import uuid7


class SeriesSets:
    """The use cases."""

    def __init__(
        self, store: Store, data_sets: DataSets, blobs: Blobs, runner: SeriesRunner, now: Callable[[], datetime]
    ) -> None:
        self._store, self._data_sets, self._blobs = store, data_sets, blobs
        self._runner, self._now = runner, now
        # Bytes of the states of each project of all tenants.
        self.kept = store.kept

    async def create(self, scope: Scope, made: SeriesSet, once: Once | None) -> SeriesSet:
        """Raises invalid_value, already_exists."""
        domain.check(made)
        now = self._now()
        return await self._store.create(scope, replace(made, create_time=now, update_time=now), once)

    async def get(self, scope: Scope, name: str) -> SeriesSet:
        """Raises not_found."""
        return await self._store.get(scope, name)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[SeriesSet]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def version(self, scope: Scope, name: str, number: int) -> SeriesSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""
        return await self._store.version(scope, name, number)

    async def delete(self, scope: Scope, name: str, etag: str) -> SeriesSet:
        """Hides it; a second time changes nothing. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> SeriesSet:
        """Brings it back; a second time changes nothing. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()))

    @contextlib.asynccontextmanager
    async def state(self, scope: Scope, version: SeriesSetVersion) -> AsyncIterator[Path]:
        """What a run kept for later rows, as a file while the context lasts: `state` and `online` read it."""
        async with self._blobs.local(scope.tenant, version.digest) as path:
            yield path

    async def run(
        self, principal: Principal, name: str, version: int, rebuild: bool, once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Begins a run on a version of its data set, the newest for 0; answers with the operation.

        Raises not_found, unknown_version, invalid_value, in_progress, storage_full, failed_precondition for a data set
        without a version or a deleted output, and forbidden for who does not see all columns of the data set: what is
        made of them is not masked.
        """
        await self._store.recall(once)
        self._data_sets.check_space()
        scope = principal.scope
        found = await self._store.get(scope, name)
        await self._data_sets.check_seen(principal, found.data_set)
        source = await self._data_sets.version(scope, found.data_set, version)
        read = domain.read_of(found, source.columns)
        wanted = Run(
            operation="",
            run=uuid7(),
            series_set=name,
            data_set=found.data_set,
            data_set_version=source.version,
            output=found.output,
            keys=read.keys,
            time=read.time,
            inputs=read.inputs,
            features=found.features,
            create_time=self._now(),
        )
        follows = 0 if rebuild else await self._follows(scope, found, wanted, source)

        def begun(operation: str) -> Run:
            return replace(wanted, operation=operation, follows=follows)

        operation = await self._store.begin(scope, begun, name, once, budget)
        self._runner.begin(scope, begun(operation.operation))
        return operation

    async def _follows(self, scope: Scope, found: SeriesSet, wanted: Run, source: DataSetVersion) -> int:
        """The version that the run may go on from; 0 for none."""
        if not found.latest_version:
            return 0
        last = await self._store.version(scope, found.series_set, 0)
        try:
            output = await self._data_sets.get(scope, found.output)
        except Failure as failure:
            if failure.code is not Code.NOT_FOUND:
                raise
            return 0
        grown = domain.goes_on(last, wanted, source.first_version, output.latest_version)
        return last.version if grown else 0
