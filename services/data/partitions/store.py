"""Where rewrites under way are kept."""

from collections.abc import Callable, Sequence

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, ColumnElement, String, delete, insert, select
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.datasets.laying import Laying
from services.data.datasets.wire import data_set_to_wire
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.data.partitions.domain import Rewrite
from services.kit.auth import Scope
from services.kit.db import Database, Once, scoped, within
from services.kit.errors import Code, Failure

# A row is a rewrite that has not ended.
rewrite = scoped(
    "data_set_rewrite",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_REWRITE = TypeAdapter(Rewrite)
# Asked every other second: made once.
_UNFINISHED = select(rewrite).order_by(rewrite.c.operation)


class RewriteStore:
    """The table, and the data sets whose layouts change with its rows."""

    def __init__(self, db: Database, laying: Laying) -> None:
        self._db, self._laying = db, laying
        self.recall = db.recall

    async def begin(
        self, scope: Scope, data_set: str, make: Callable[[str], Rewrite], once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Keeps a rewrite and its operation, which is returned. Raises invalid_value."""

        def work(connection: Connection) -> Operation:
            method, resource = "aimass.v1.Partitions/RepartitionDataSet", f"data-sets/{data_set}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "pipeline", budget)
            definition = _REWRITE.dump_python(make(operation.operation), mode="json")
            row = {"operation": operation.operation, "definition": definition}
            connection.execute(insert(rewrite).values({**scope._asdict(), **row}))
            return operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Rewrite]]:
        """The rewrites of all tenants that have not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _REWRITE.validate_python(row.definition)) for row in rows]

    async def lay_out(self, scope: Scope, asked: Rewrite) -> bool:
        """Ends the rewrite of a data set without a version: it says how the first one will be. False: it has one.

        Raises failed_precondition for a deleted data set, fence_stale, cancelled.
        """

        def work(connection: Connection) -> bool:
            laid = self._laying.lay_out(connection, scope, asked.data_set, asked.layout)
            if laid:
                self.finish(connection, scope, asked)
            return laid

        return await self._db.run(work)

    def finish(self, connection: Connection, scope: Scope, asked: Rewrite) -> None:
        """Ends a rewrite in the transaction of its version.

        Raises fence_stale when another process does it, cancelled when it has ended in the meantime.
        """
        schema.tenure.check(connection, asked.operation)
        if not connection.execute(delete(rewrite).where(_is(scope, asked))).rowcount:
            raise Failure(Code.CANCELLED, f"the rewrite of {asked.data_set} has ended")
        answer = data_set_to_wire(self._laying.current(connection, scope, asked.data_set))
        schema.operations.end(connection, scope, asked.operation, answer)

    async def give_up(self, scope: Scope, asked: Rewrite, failure: Failure | None) -> None:
        """Ends a rewrite once without a version: with a failure, or as cancelled. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, asked.operation)
            if connection.execute(delete(rewrite).where(_is(scope, asked))).rowcount:
                schema.operations.end(connection, scope, asked.operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _is(scope: Scope, asked: Rewrite) -> ColumnElement[bool]:
    return within(rewrite, scope) & (rewrite.c.operation == asked.operation)
