"""Where searches under way are kept. What one found is what its operation ends with."""

from collections.abc import Callable, Sequence

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, String, delete, insert, select
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.feature_search.domain import DEFAULT_SECONDS, Search
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, scoped, within
from services.kit.errors import Failure

# A row is a search that has not ended.
feature_search = scoped(
    "feature_search",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_SEARCH = TypeAdapter(Search)
# Asked every other second: made once.
_UNFINISHED = select(feature_search).order_by(feature_search.c.operation)


class SearchStore:
    """The table."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def begin(
        self, scope: Scope, data_set: str, search: Callable[[str], Search], once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Keeps a search and its operation, which is returned. Raises invalid_value."""
        budget = budget._replace(cpu_seconds=budget.cpu_seconds or DEFAULT_SECONDS)

        def work(connection: Connection) -> Operation:
            method, resource = "aimass.v1.FeatureSearches/SearchFeatures", f"data-sets/{data_set}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "discovery", budget)
            definition = _SEARCH.dump_python(search(operation.operation), mode="json")
            row = {"operation": operation.operation, "definition": definition}
            connection.execute(insert(feature_search).values({**scope._asdict(), **row}))
            return operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Search]]:
        """The searches of all tenants that have not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _SEARCH.validate_python(row.definition)) for row in rows]

    async def end(self, scope: Scope, search: Search, response: Message | None, failure: Failure | None = None) -> None:
        """Ends a search once: with what it found, with a failure, or as cancelled. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, search.operation)
            here = within(feature_search, scope) & (feature_search.c.operation == search.operation)
            if not connection.execute(delete(feature_search).where(here)).rowcount:
                return
            cancelled = response is None and failure is None
            schema.operations.end(connection, scope, search.operation, response, failure=failure, cancelled=cancelled)

        await self._db.run(work)
