"""Where joins of features that are under way are kept."""

from collections.abc import Callable, Sequence

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, ColumnElement, String, delete, insert, select
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.feature_joins.domain import Join
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, scoped, within
from services.kit.errors import Code, Failure

# A row is a join that has not ended.
join = scoped(
    "feature_join",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_JOIN = TypeAdapter(Join)
# Asked every other second: made once.
_UNFINISHED = select(join).order_by(join.c.operation)


class JoinStore:
    """The table."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def begin(
        self, scope: Scope, make: Callable[[str], Join], output: str, once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Keeps a join and its operation, which is returned. Raises invalid_value."""

        def work(connection: Connection) -> Operation:
            method, resource = "aimass.v1.FeatureViews/JoinFeatures", f"data-sets/{output}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "pipeline", budget)
            kept = _JOIN.dump_python(make(operation.operation), mode="json")
            row = {"operation": operation.operation, "definition": kept}
            connection.execute(insert(join).values({**scope._asdict(), **row}))
            return operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Join]]:
        """The joins of all tenants that have not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(each.tenant, each.project), _JOIN.validate_python(each.definition)) for each in rows]

    def end(self, connection: Connection, scope: Scope, operation: str, response: Message) -> None:
        """Ends a join in the transaction of its version. Raises fence_stale; cancelled for one that has ended."""
        schema.tenure.check(connection, operation)
        if not connection.execute(delete(join).where(_is(scope, operation))).rowcount:
            raise Failure(Code.CANCELLED, "the join has ended")
        schema.operations.end(connection, scope, operation, response)

    async def give_up(self, scope: Scope, operation: str, failure: Failure | None) -> None:
        """Ends a join once without a version: with a failure, or as cancelled. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, operation)
            if connection.execute(delete(join).where(_is(scope, operation))).rowcount:
                schema.operations.end(connection, scope, operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _is(scope: Scope, operation: str) -> ColumnElement[bool]:
    return within(join, scope) & (join.c.operation == operation)
