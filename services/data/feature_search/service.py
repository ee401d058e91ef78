"""The use case of feature search."""

from collections.abc import Callable
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.service import DataSets
from services.data.feature_search.domain import DEFAULT_SECONDS, Search, Wanted, read_columns
from services.data.feature_search.runner import SearchRunner
from services.data.feature_search.store import SearchStore
from services.data.metering.domain import CpuBudget
from services.kit.auth import Principal
from services.kit.db import Once


class FeatureSearches:
    """The use case."""

    def __init__(
        self, store: SearchStore, data_sets: DataSets, runner: SearchRunner, now: Callable[[], datetime]
    ) -> None:
        self._store, self._data_sets, self._runner, self._now = store, data_sets, runner, now

    async def search(
        self, principal: Principal, wanted: Wanted, version: int, once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Begins a search in a version, the newest for 0; answers with the operation.

        Raises not_found, unknown_version, invalid_value, and forbidden for masked columns that the caller does not see.
        """
        await self._store.recall(once)
        scope = principal.scope
        location = await self._data_sets.locate(scope, wanted.data_set, version)
        columns = read_columns(wanted, location.version.columns)
        read = {wanted.label, *(column.name for column in columns)} | ({wanted.train.column} if wanted.train else set())
        await self._data_sets.check_seen(principal, wanted.data_set, read)

        def search(operation: str) -> Search:
            return Search(operation, wanted, location.version.version, columns, self._now())

        budget = budget._replace(cpu_seconds=budget.cpu_seconds or DEFAULT_SECONDS)
        operation = await self._store.begin(scope, wanted.data_set, search, once, budget)
        self._runner.begin(scope, search(operation.operation))
        return operation
