"""Where rewrites under way are kept."""

from collections.abc import Callable

from sqlalchemy import JSON, Column, String
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.datasets.laying import Laying
from services.data.datasets.wire import data_set_to_wire
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.data.partitions.domain import Rewrite
from services.kit.auth import Scope
from services.kit.db import Database, Once, scoped
from services.kit.errors import match_etag
from services.kit.open_work import Names, OpenWork

rewrite = scoped(
    "data_set_rewrite",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_NAMES = Names("Partitions/RepartitionDataSet", "data-sets", "rewrite")


class RewriteStore(OpenWork[Rewrite, CpuBudget]):
    """The table, and the data sets whose layouts change with its rows."""

    def __init__(self, db: Database, laying: Laying) -> None:
        super().__init__(schema, db, rewrite, Rewrite, _NAMES, metering.counting("pipeline"))
        self._laying = laying

    async def begin_at(
        self,
        scope: Scope,
        data_set: str,
        etag: str,
        make: Callable[[str], Rewrite],
        once: Once | None,
        budget: CpuBudget,
    ) -> Operation:
        """Keeps the rewrite of a data set that still has this etag. Raises invalid_value, etag_mismatch."""

        def work(connection: Connection) -> Operation:
            match_etag(etag, self._laying.current(connection, scope, data_set).generation, data_set)
            return self.add(connection, scope, data_set, make, budget)

        return await self._db.run(work, once)

    async def lay_out(self, scope: Scope, asked: Rewrite) -> bool:
        """Ends the rewrite of a data set without a version: it says how the first one will be. False: it has one.

        Raises failed_precondition for a deleted data set, fence_stale, cancelled.
        """

        def work(connection: Connection) -> bool:
            laid = self._laying.lay_out(connection, scope, asked.data_set, asked.layout)
            if laid:
                self.end_as(connection, scope, asked)
            return laid

        return await self._db.run(work)

    def end_as(self, connection: Connection, scope: Scope, asked: Rewrite) -> None:
        """Ends a rewrite with its data set as it is now, in the caller's transaction. Raises as `take` does."""
        answer = data_set_to_wire(self._laying.current(connection, scope, asked.data_set))
        self.end(connection, scope, asked.operation, answer)
