"""Processor time of long work: bounded before, stored while it runs, published once when it has ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.metering import domain, events, store
from services.data.metering.domain import CpuBudget, CpuUsage
from services.kit import process
from services.kit.auth import Scope
from services.kit.db import Database
from services.kit.errors import Code, Failure
from services.kit.process import Limits
from services.kit.spent import Spent
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
_KEEP = 5.0  # seconds between two writes of what runs has used: a crash loses no more
Json = dict[str, Any]
Progress = Callable[[Any], Awaitable[None]] | None
Run = Callable[[str, Json, Limits | None, Progress, Spent | None], Awaitable[Json]]


def begin(connection: Connection, scope: Scope, operation: str, kind: str, budget: CpuBudget) -> None:
    """Stores the budget, in the transaction that makes the operation. Raises invalid_value."""
    store.add(connection, scope, domain.unused(operation, kind, budget))


def counting(kind: str) -> Callable[[Connection, Scope, str, CpuBudget], None]:
    """`begin` for work of a kind."""
    return lambda connection, scope, operation, budget: begin(connection, scope, operation, kind, budget)


def ended(connection: Connection, scope: Scope, operation: str) -> None:
    """Publishes what an operation used, in the transaction that ends it."""
    if usage := store.find(connection, scope, operation):
        schema.outbox.add(connection, [events.work_ended(scope, usage, schema.operations.now())])


def waited_for(limits: Limits, seconds: float) -> Limits:
    """The limits of a child whose answer a caller waits for: it ends a second before the caller does."""
    return replace(limits, seconds=min(limits.seconds, max(seconds - 1, 1)))


class Metering:
    """Runs children within their budget and keeps what they use."""

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
        found = await self.usage(scope, operation)
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

    async def run_once(
        self,
        scope: Scope,
        usage: CpuUsage,
        reservation: str,
        module: str,
        request: Json,
        limits: Limits,
        progress: Progress = None,
        run: Run = process.run,
    ) -> Json:
        """`process.run` for work that is over when it has answered, however; what it used is published at once."""
        spent, name = Spent(), reservation or uuid7()
        try:
            limits = replace(limits, cpu_milliseconds=usage.left)
            return await run(module, request, limits, progress, spent)
        finally:
            await self._publish(scope, replace(usage, children={name: spent.cpu_milliseconds}), name)

    async def never_began(self, scope: Scope, usage: CpuUsage, reservation: str) -> None:
        """Says that what was reserved for such work is free."""
        if reservation:
            await self._publish(scope, usage, reservation)

    async def _publish(self, scope: Scope, usage: CpuUsage, reservation: str) -> None:
        event = events.work_ended(scope, usage, schema.operations.now(), reservation)
        try:
            await self._db.run(lambda connection: schema.outbox.add(connection, [event]))
        except Failure as failure:
            log.warning("the usage of work is not published: %s", failure)

    async def usage(self, scope: Scope, operation: str) -> CpuUsage | None:
        """What the work of an operation may use and has used, as far as it is stored."""
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
            log.warning("the usage of %s is not stored: %s", operation, failure)
