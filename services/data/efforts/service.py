"""What long work uses of processors: bounded before, kept while it lasts, said once when it has ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.efforts import domain, events, store
from services.data.efforts.domain import Effort, Order
from services.kit import process
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.process import Limits
from services.kit.spent import Spent
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
_KEEP = 5.0  # seconds between two times that what runs is kept: a crash loses no more
Json = dict[str, Any]


def begin(connection: Connection, scope: Scope, operation: str, kind: str, order: Order) -> None:
    """Keeps who asked for what, in the transaction that makes the operation. Raises invalid_value."""
    store.add(connection, scope, domain.ordered(operation, kind, order))


def ended(connection: Connection, scope: Scope, operation: str) -> None:
    """Says what an operation used, in the transaction that ends it."""
    if effort := store.find(connection, scope, operation):
        schema.outbox.add(connection, [events.work_ended(scope, effort, schema.operations.now())])


class Efforts:
    """Runs children for operations."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def run(
        self,
        scope: Scope,
        operation: str,
        module: str,
        request: Json,
        limits: Limits,
        progress: Callable[[Json], Awaitable[None]] | None = None,
    ) -> Json:
        """`process.run`, with what is left to the operation. Raises limit_exceeded also when it has used that up."""
        found = await self.of(scope, operation)
        if found and found.left <= 0:
            raise Failure(Code.LIMIT_EXCEEDED, "the work has used up the processor time that it was given")
        limits = replace(limits, cpu_milliseconds=found.left) if found else limits
        child, spent = uuid7(), Spent()
        keeping = asyncio.ensure_future(self._keep_for_ever(scope, operation, child, spent))
        try:
            return await process.run(module, request, limits, progress, spent)
        finally:
            keeping.cancel()
            await self._keep(scope, operation, child, spent)

    async def once(
        self, scope: Scope, effort: Effort, reservation: str, module: str, request: Json, limits: Limits
    ) -> Json:
        """`process.run` for work that is over when it has answered, however; what it used is said at once."""
        spent, name = Spent(), reservation or uuid7()
        try:
            limits = replace(limits, cpu_milliseconds=effort.left)
            return await process.run(module, request, limits, None, spent)
        finally:
            done = replace(effort, children={name: spent.cpu_milliseconds})
            event = events.work_ended(scope, done, schema.operations.now(), name)
            try:
                await self._db.run(lambda connection: schema.outbox.add(connection, [event]))
            except Failure as failure:
                log.warning("what a query has used is not said: %s", failure)

    async def of(self, scope: Scope, operation: str) -> Effort | None:
        """What the work of an operation may use and has used, as far as it is kept."""
        return await self._db.read(lambda connection: store.find(connection, scope, operation))

    async def _keep_for_ever(self, scope: Scope, operation: str, child: str, spent: Spent) -> None:
        while True:
            await asyncio.sleep(_KEEP)
            await self._keep(scope, operation, child, spent)

    async def _keep(self, scope: Scope, operation: str, child: str, spent: Spent) -> None:
        """Without the database the work goes on: what it used up to the next time is then not charged."""
        used = spent.cpu_milliseconds
        try:
            await self._db.run(lambda connection: store.keep(connection, scope, operation, child, used))
        except Failure as failure:
            log.warning("what %s has used is not kept: %s", operation, failure)
