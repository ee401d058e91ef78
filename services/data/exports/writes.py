"""The use case of writing into databases of others."""

from collections.abc import Sequence
from dataclasses import replace

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.parents import check_permitted
from services.data.datasets.queries import Queries, Table
from services.data.datasets.service import DataSets
from services.data.exports.domain import Pinned, Write, check_apart, check_target
from services.data.exports.runner import WriteRunner
from services.data.exports.store import WriteStore
from services.data.metering.domain import CpuBudget
from services.data.schema import quoted
from services.data.sources.service import Sources
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import InvalidValue, Violation

READ = "data_sets.read"


class TableWrites:
    """Begins writes."""

    def __init__(
        self, store: WriteStore, sources: Sources, data_sets: DataSets, queries: Queries, runner: WriteRunner
    ) -> None:
        self._store, self._sources, self._data_sets = store, sources, data_sets
        self._queries, self._runner = queries, runner

    async def write(
        self,
        principal: Principal,
        asked: Write,
        table: Table | None,
        tables: Sequence[Table],
        once: Once | None,
        budget: CpuBudget,
    ) -> Operation:
        """Begins to write the rows of `table`, or of the query over `tables`, at their versions of now.

        Raises invalid_value, forbidden, not_found, unknown_version, sql_not_allowed, failed_precondition, unavailable.
        """
        await self._store.recall(once)
        check_target(asked.table, asked.mode, asked.key)
        if bool(table) == bool(asked.sql) or bool(asked.sql) != bool(tables):
            rule = "must be set, or sql with its tables, and not both"
            raise InvalidValue(f"data_set {rule}", [Violation("/data_set", rule)])
        if table:
            asked, tables = replace(asked, sql=f"SELECT * FROM {quoted(table.data_set)}"), [table]
        scope, hidden = principal.scope, dict[str, tuple[str, ...]]()
        async with self._sources.writable(scope, asked.source) as (source, _):
            check_apart(asked.table, source)
        for one in tables:
            await check_permitted(self._data_sets, principal, READ, one.data_set)
            hidden[one.data_set] = tuple(await self._data_sets.hidden(principal, one.data_set))
        plan = await self._queries.plan(scope, asked.sql, tables, hidden)
        pinned = [
            Pinned(one.alias or one.data_set, one.data_set, number)
            for one, number in zip(tables, plan.numbers, strict=True)
        ]
        asked = replace(asked, tables=tuple(pinned), hidden=hidden)

        def make(operation: str) -> Write:
            return replace(asked, operation=operation)

        operation = await self._store.begin(scope, asked.source, make, once, budget)
        self._runner.begin(scope, make(operation.operation))
        return operation
