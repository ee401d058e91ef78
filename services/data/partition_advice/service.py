"""The use case of advice about partitions."""

from collections.abc import Callable
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.domain import DataSetVersion
from services.data.datasets.service import DataSets
from services.data.metering.domain import CpuBudget
from services.data.partition_advice.domain import DEFAULT_SECONDS, Advising
from services.data.partition_advice.noting import QueryHistory
from services.data.partition_advice.runner import AdviceRunner
from services.data.partition_advice.store import AdviceStore
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure

_VERSIONS = 20  # that say how often rows are appended


class PartitionAdvice:
    """The use case."""

    def __init__(
        self,
        store: AdviceStore,
        history: QueryHistory,
        data_sets: DataSets,
        runner: AdviceRunner,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._history, self._data_sets, self._runner, self._now = store, history, data_sets, runner, now

    async def advise(self, principal: Principal, data_set: str, once: Once | None, budget: CpuBudget) -> Operation:
        """Begins to look for the best way to divide a data set; answers with the operation.

        Raises not_found, failed_precondition for one without a version, invalid_value.
        """
        await self._store.recall(once)
        scope = principal.scope
        found = await self._data_sets.get(scope, data_set)
        try:
            version = await self._data_sets.version(scope, data_set, 0)
        except Failure as failure:
            if failure.code is Code.UNKNOWN_VERSION:
                raise FailedPrecondition(f"{data_set} has no version yet: there are no rows to look at") from None
            raise
        masked = tuple(name.lower() for name in found.masked_columns)
        history = tuple(await self._history.asked(scope, data_set))
        appended, now = await self._appended(scope, version), self._now()

        def advising(operation: str) -> Advising:
            return Advising(operation, data_set, version.version, masked, history, appended, now)

        budget = budget._replace(cpu_seconds=budget.cpu_seconds or DEFAULT_SECONDS)
        operation = await self._store.begin(scope, data_set, advising, once, budget)
        self._runner.begin(scope, advising(operation.operation))
        return operation

    async def _appended(self, scope: Scope, newest: DataSetVersion) -> tuple[int, ...]:
        """The rows that each of the last versions added to those before it, up to one that did otherwise."""
        page = await self._data_sets.versions(scope, newest.data_set, _VERSIONS, "")
        appended = [version for version in page.items if version.first_version < version.version]
        return tuple(version.rows_added for version in appended if version.rows_added)
