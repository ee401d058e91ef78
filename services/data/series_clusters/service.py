"""The use case of clustering series."""

from collections.abc import Callable
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.service import DataSets
from services.data.metering.domain import CpuBudget
from services.data.series_clusters import domain
from services.data.series_clusters.domain import Clustering, Wanted
from services.data.series_clusters.runner import ClusteringRunner
from services.data.series_clusters.store import ClusteringStore
from services.kit.auth import Principal
from services.kit.db import Once


class SeriesClusters:
    """The use case."""

    def __init__(
        self, store: ClusteringStore, data_sets: DataSets, runner: ClusteringRunner, now: Callable[[], datetime]
    ) -> None:
        self._store, self._data_sets, self._runner, self._now = store, data_sets, runner, now

    async def cluster(self, principal: Principal, wanted: Wanted, once: Once | None, budget: CpuBudget) -> Operation:
        """Begins a clustering; answers with the operation.

        Raises not_found, unknown_version, invalid_value, storage_full; forbidden for who does not see the columns that
        are read: the output is not masked.
        """
        await self._store.recall(once)
        self._data_sets.check_space()
        domain.check(wanted)
        scope = principal.scope
        version = await self._data_sets.version(scope, wanted.data_set, wanted.data_set_version)
        keys, time, column = domain.read_of(wanted, version.columns)
        await self._data_sets.check_seen(principal, wanted.data_set, [*wanted.keys, time.name, column.name])

        def clustering(operation: str) -> Clustering:
            return Clustering(operation, wanted, version.version, keys, time, column, self._now())

        operation = await self._store.begin(scope, wanted.output, clustering, once, budget)
        self._runner.begin(scope, clustering(operation.operation))
        return operation
