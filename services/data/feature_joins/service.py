"""The use case of joining features."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.service import DataSets
from services.data.feature_joins import domain
from services.data.feature_joins.domain import Join, JoinedView, Wanted
from services.data.feature_joins.runner import JoinRunner
from services.data.feature_joins.store import JoinStore
from services.data.feature_views.defining import check_fit
from services.data.feature_views.service import FeatureViews
from services.data.metering.domain import CpuBudget
from services.data.schema import Column
from services.kit.auth import Principal
from services.kit.db import Once


class FeatureJoins:
    """The use case."""

    def __init__(
        self,
        store: JoinStore,
        views: FeatureViews,
        data_sets: DataSets,
        runner: JoinRunner,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._views, self._data_sets = store, views, data_sets
        self._runner, self._now = runner, now

    async def join(
        self,
        principal: Principal,
        output: str,
        rows: tuple[str, int, str],
        wanted: Sequence[Wanted],
        once: Once | None,
        budget: CpuBudget,
    ) -> Operation:
        """Begins to join features to the `rows` (data set, version, column of times); answers with the operation.

        Raises not_found, unknown_version, invalid_value, failed_precondition, storage_full; forbidden for who does not
        see all columns that are read: the output is not masked.
        """
        await self._store.recall(once)
        self._data_sets.check_space()
        data_set, number, event_time = rows
        scope = principal.scope
        await self._data_sets.check_seen(principal, data_set)
        version = await self._data_sets.version(scope, data_set, number)
        domain.check_time(event_time, version.columns, data_set)
        views = [
            await self._view(principal, one, version.columns, f"/views/{index}") for index, one in enumerate(wanted)
        ]
        made = Join("", output, data_set, version.version, version.columns, event_time, tuple(views), self._now())
        domain.check_output(made)
        operation = await self._store.begin(scope, output, lambda name: replace(made, operation=name), once, budget)
        self._runner.begin(scope, replace(made, operation=operation.operation))
        return operation

    async def _view(self, principal: Principal, wanted: Wanted, columns: Sequence[Column], at: str) -> JoinedView:
        scope = principal.scope
        found, _ = await self._views.version(scope, wanted.feature_view, wanted.version)
        data_set = found.definition.data_set
        version = await self._data_sets.version(scope, data_set, wanted.data_set_version)
        check_fit(found, version.columns)
        view = domain.joined(wanted, found, version.version, columns, at)
        read = [*found.definition.keys, view.event_time, *(column.name for column in view.features)]
        await self._data_sets.check_seen(principal, data_set, found.reads if found.graph else read)
        return view
