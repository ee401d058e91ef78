"""Work that has not ended, as rows of a table: begun with its operation, done by one process, ended once."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Table, delete, insert, select
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.db import Database, Once, within
from services.kit.errors import Code, Failure
from services.kit.leased_work import Leased, LeasedWork, Spawn
from services.kit.schema import Schema

T = TypeVar("T")
B = TypeVar("B")
L = TypeVar("L", bound=Leased)


class Names(NamedTuple):
    """What a kind of work is called: the method that begins it, the collection of what it is about, and its name in
    failures."""

    method: str
    collection: str
    work: str


class OpenWork(Generic[T, B]):
    """A table with a row for each piece of work that has not ended: its `operation`, and its `definition`, a `T`."""

    def __init__(
        self,
        schema: Schema,
        db: Database,
        table: Table,
        form: type[T],
        names: Names,
        begun: Callable[[Connection, Scope, str, B], None],
    ) -> None:
        """`begun` is told of each operation and the budget of its work, in the transaction that makes it."""
        self.schema, self._db, self._table, self._form = schema, db, table, TypeAdapter[T](form)
        self._names, self._begun = names, begun
        self.recall = db.recall
        # Asked every other second: made once.
        self._unfinished = select(table).order_by(table.c.operation)

    async def begin(self, scope: Scope, name: str, make: Callable[[str], T], once: Once | None, budget: B) -> Operation:
        """Keeps the work on `name` that `make` makes for the id of an operation, which is returned.

        Raises invalid_value.
        """
        return await self._db.run(lambda connection: self.add(connection, scope, name, make, budget), once)

    def add(
        self,
        connection: Connection,
        scope: Scope,
        name: str,
        make: Callable[[str], T],
        budget: B,
        **columns: Any,
    ) -> Operation:
        """The same in the caller's transaction, with what else a row has."""
        method, resource = f"aimass.v1.{self._names.method}", f"{self._names.collection}/{name}"
        operation = self.schema.operations.create(connection, scope, method, resource)
        self._begun(connection, scope, operation.operation, budget)
        definition = self._form.dump_python(make(operation.operation), mode="json")
        row = {**scope._asdict(), **columns, "operation": operation.operation, "definition": definition}
        connection.execute(insert(self._table).values(row))
        return operation

    async def unfinished(self) -> Sequence[tuple[Scope, T]]:
        """The work of all tenants that has not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(self._unfinished).all())
        return [(Scope(row.tenant, row.project), self._form.validate_python(row.definition)) for row in rows]

    async def finish(self, scope: Scope, operation: str, response: Message) -> None:
        """Ends work that has made nothing but its answer. Raises as `take` does."""
        await self._db.run(lambda connection: self.end(connection, scope, operation, response))

    def end(self, connection: Connection, scope: Scope, operation: str, response: Message) -> None:
        """Ends work in the transaction of what it made. Raises as `take` does."""
        self.take(connection, scope, operation)
        self.schema.operations.end(connection, scope, operation, response)

    def take(self, connection: Connection, scope: Scope, operation: str) -> None:
        """Takes work whose operation the caller ends in this transaction.

        Raises fence_stale when another process does it by now, cancelled when it has ended in the meantime.
        """
        if not self._taken(connection, scope, operation):
            raise Failure(Code.CANCELLED, f"the {self._names.work} has ended")

    async def give_up(self, scope: Scope, operation: str, failure: Failure | None) -> None:
        """Ends work once without what it was to make: with a failure, or as cancelled. Raises fence_stale."""

        def work(connection: Connection) -> None:
            if self._taken(connection, scope, operation):
                self.schema.operations.end(connection, scope, operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)

    def here(self, scope: Scope, operation: str) -> ColumnElement[bool]:
        """The condition that finds a row."""
        return within(self._table, scope) & (self._table.c.operation == operation)

    def _taken(self, connection: Connection, scope: Scope, operation: str) -> bool:
        self.schema.tenure.check(connection, operation)
        return connection.execute(delete(self._table).where(self.here(scope, operation))).rowcount > 0


class OpenRunner(LeasedWork[L]):
    """Does the work of such a table."""

    def __init__(self, open_work: OpenWork[L, Any], spawn: Spawn, at_once: int) -> None:
        super().__init__(open_work.schema, spawn, at_once)
        self._open = open_work

    async def _unfinished(self) -> Sequence[tuple[Scope, L]]:
        return await self._open.unfinished()

    async def _give_up(self, scope: Scope, work: L, failure: Failure | None) -> None:
        # First the end, which no commit of this work gets past; then its files.
        await self._open.give_up(scope, work.operation, failure)
        await self._discard(scope, work)

    async def _discard(self, scope: Scope, work: L) -> None:
        """Removes what work that is given up has written; nothing, where nobody says otherwise."""
