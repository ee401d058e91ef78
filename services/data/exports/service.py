"""The use cases of exports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from services.data.datasets import places
from services.data.datasets.domain import Which
from services.data.datasets.masking import Hidden, is_hidden
from services.data.datasets.queries import Queries, Table
from services.data.datasets.service import DataSets
from services.data.exports.pouring import Pour, poured
from services.data.metering.domain import DEFAULT_QUERY_SECONDS, CpuBudget, CpuUsage, unused
from services.data.metering.service import Metering, waited_for
from services.kit import process
from services.kit.auth import Scope
from services.kit.child import Json
from services.kit.errors import InvalidValue, Violation
from services.kit.turns import Turns

Run = Callable[[Json, Pour, str], Awaitable[None]]
_WORK, _DELTA = "services.data.exports.work", "services.data.exports.delta_work"


class Asked(NamedTuple):
    """Who asks for a stream, and what it may take: rows (0: all), seconds, processor time under a reservation."""

    scope: Scope
    max_rows: int
    seconds: float
    budget: CpuBudget
    reservation: str


class Exports:
    """Streams what other systems read. As many at a time as there are turns; others wait."""

    def __init__(
        self,
        data_sets: DataSets,
        queries: Queries,
        metering: Metering,
        limits: process.Limits,
        free: Turns,
        most_bytes: int,
    ) -> None:
        """`free` has as many turns as there may be streams at once; `most_bytes` one may have."""
        self._data_sets, self._queries, self._metering = data_sets, queries, metering
        self._limits, self._free, self._most = limits, free, most_bytes

    def query(
        self, asked: Asked, sql: str, tables: Sequence[Table], hidden: Mapping[str, Hidden]
    ) -> AsyncIterator[bytes]:
        """The result of a query as an Arrow stream; `hidden` are columns by data set that are NULL in it.

        Raises invalid_value, sql_not_allowed, query_invalid, not_found, unknown_version, limit_exceeded.
        """
        usage = _checked(asked)

        async def work(pour: Pour) -> None:
            plan = await self._queries.plan(asked.scope, sql, tables, hidden)
            async with self._turn(asked, usage) as run, self._queries.here(asked.scope, plan) as there:
                await run({"sql": plan.text, "tables": there}, pour, _WORK)
            self._queries.tell(asked.scope, plan)

        return poured(work)

    def version(
        self, asked: Asked, data_set: str, which: Which, columns: Sequence[str], hidden: Hidden, module: str = _WORK
    ) -> AsyncIterator[bytes]:
        """The rows of a version as an Arrow stream, in stored order, NULL in hidden columns.

        Raises invalid_value, not_found, unknown_version, limit_exceeded.
        """
        usage = _checked(asked)

        async def work(pour: Pour) -> None:
            stored = self._stored(asked.scope, data_set, which, columns, hidden)
            async with self._turn(asked, usage) as run, stored as rows:
                await run(rows, pour, module)

        return poured(work)

    def delta_table(
        self, asked: Asked, data_set: str, which: Which, columns: Sequence[str], hidden: Hidden
    ) -> AsyncIterator[bytes]:
        """The same rows as a Delta table in a tar archive. Raises as `version`."""
        return self.version(asked, data_set, which, columns, hidden, _DELTA)

    @contextlib.asynccontextmanager
    async def _stored(
        self, scope: Scope, data_set: str, which: Which, columns: Sequence[str], hidden: Hidden
    ) -> AsyncIterator[Json]:
        """The rows of a version as the child is told of them, while the context lasts."""
        number = await self._data_sets.number(scope, data_set, which)
        found = await self._data_sets.locate(scope, data_set, number)
        chosen = places.choose(found.version, columns)
        async with self._data_sets.local(scope, found) as here:
            yield {
                "files": [str(Path(here.uri) / file.path) for file in here.files],
                "columns": [(column.name, column.type.value, column.nullable) for column in chosen],
                "hidden": [column.name for column in chosen if is_hidden(column.name, hidden)],
                "data_set": data_set,
                "version": found.version.version,
                "time": found.version.create_time.timestamp(),
            }

    @contextlib.asynccontextmanager
    async def _turn(self, asked: Asked, usage: CpuUsage) -> AsyncIterator[Run]:
        """A turn, and what runs a child in it. For who leaves before that nothing stays reserved."""
        begun = False

        async def run(rows: Json, pour: Pour, module: str) -> None:
            nonlocal begun
            begun, request = True, {"rows": rows, "max_rows": asked.max_rows, "max_bytes": self._most}
            limits = waited_for(self._limits, asked.seconds)
            await self._metering.run_once(asked.scope, usage, asked.reservation, module, request, limits, pour)

        try:
            async with self._free.turn(asked.scope.tenant):
                yield run
        except asyncio.CancelledError:
            if not begun:
                await self._metering.never_began(asked.scope, usage, asked.reservation)
            raise


def _checked(asked: Asked) -> CpuUsage:
    """What it may use. Raises invalid_value."""
    if asked.max_rows < 0:
        raise InvalidValue("max_rows is negative", [Violation("/max_rows", "must not be negative")])
    return unused("", "query", asked.budget, DEFAULT_QUERY_SECONDS)
