"""Operations: stored, watched, cancelled. Each service has its own; ids are `<service>-<uuid7>`."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any

from google.protobuf.any_pb2 import Any as WireAny
from google.protobuf.message import Message
from sqlalchemy import MetaData, Select, insert, select, update
from sqlalchemy.engine import Connection

from aimass.v1 import operations_pb2 as pb
from services.kit.auth import Scope
from services.kit.db import Database, within
from services.kit.errors import Failure, NotFound, Unavailable
from services.kit.listing import listed
from services.kit.operation_rows import (
    CANCELLED,
    ENDED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    operation_table,
    to_message,
)
from services.kit.pages import Page
from services.kit.timestamps import to_wire, uuid7

log = logging.getLogger(__name__)


class Operations:
    """The operations of one service."""

    def __init__(self, service: str, metadata: MetaData) -> None:
        self._service = service
        self.table = operation_table(metadata)
        self._changed = asyncio.Condition()
        self._db: Database | None = None
        self._now: Callable[[], datetime] | None = None
        self.on_cancel: list[Callable[[Scope, str], Any]] = []
        # Writes what goes with the end of an operation, in its transaction.
        self.on_end: Callable[[Connection, Scope, str], None] = lambda connection, scope, name: None

    def bind(self, db: Database, now: Callable[[], datetime]) -> None:
        """Gives the database and the clock, once both are there."""
        self._db, self._now = db, now
        # A service that is started again in one process has another event loop.
        self._changed = asyncio.Condition()

    @property
    def db(self) -> Database:
        assert self._db, "bind was not called"
        return self._db

    def now(self) -> datetime:
        assert self._now, "bind was not called"
        return self._now()

    def create(self, connection: Connection, scope: Scope, method: str, resource: str) -> pb.Operation:
        """A pending operation, in the caller's transaction: the work it stands for is committed with it."""
        name, now = f"{self._service}-{uuid7()}", self.now()
        row = {
            **scope._asdict(),
            "operation": name,
            "state": PENDING,
            "method": method,
            "resource": resource,
            "progress": 0.0,
            "stage": "",
            "message": "",
            "cancel_requested": False,
            "create_time": now,
            "update_time": now,
        }
        connection.execute(insert(self.table).values(row))
        return pb.Operation(
            operation=name,
            state=pb.OPERATION_STATE_PENDING,
            method=method,
            resource=resource,
            create_time=to_wire(now),
            update_time=to_wire(now),
        )

    def set(self, connection: Connection, scope: Scope, name: str, **values: Any) -> bool:
        """Changes an operation that has not ended, in the caller's transaction; False for any other."""
        table = self.table
        here = within(table, scope) & (table.c.operation == name) & table.c.state.not_in(ENDED)
        return bool(connection.execute(update(table).where(here).values(**values, update_time=self.now())).rowcount)

    def end(
        self,
        connection: Connection,
        scope: Scope,
        name: str,
        response: Message | None = None,
        failure: Failure | None = None,
        cancelled: bool = False,
    ) -> None:
        """Ends an operation, in the caller's transaction: with a response, a failure, or as cancelled."""
        values: dict[str, Any] = {"end_time": self.now()}
        if cancelled:
            values |= {"state": CANCELLED}
        elif failure:
            violations = [{"pointer": v.pointer, "rule": v.rule} for v in failure.violations]
            error = pb.OperationError(code=failure.code.text, detail=failure.detail)
            for violation in violations:
                error.violations.add(**violation)
            values |= {"state": FAILED, "error": error.SerializeToString()}
        else:
            packed = WireAny()
            if response is not None:
                packed.Pack(response, "type.aimass.dev/")
            values |= {"state": SUCCEEDED, "progress": 1.0, "response": packed.SerializeToString()}
        if self.set(connection, scope, name, **values):
            self.on_end(connection, scope, name)

    async def progress(self, scope: Scope, name: str, progress: float, stage: str, message: str = "") -> None:
        """Stores how far the work is, and that it runs; without the database the work goes on."""
        values = {"state": RUNNING, "progress": progress, "stage": stage[:100], "message": message[:1000]}
        try:
            await self.db.write(lambda connection: self.set(connection, scope, name, **values))
        except Unavailable as failure:
            log.warning("the progress of %s is not stored: %s", name, failure)
        await self.tell()

    async def tell(self) -> None:
        """Wakes those who watch: for after a transaction that changed an operation."""
        async with self._changed:
            self._changed.notify_all()

    async def get(self, scope: Scope, name: str) -> pb.Operation:
        """Raises not_found."""
        table = self.table
        here = within(table, scope) & (table.c.operation == name)
        row = await self.db.read(lambda connection: connection.execute(select(table).where(here)).first())
        if row is None:
            raise NotFound(f"there is no operation {name}")
        return to_message(row)

    async def cancel(self, scope: Scope, name: str) -> pb.Operation:
        """Stores the request to cancel, and calls each of `on_cancel` with scope and operation. Raises not_found."""
        await self.get(scope, name)
        await self.db.write(lambda connection: self.set(connection, scope, name, cancel_requested=True))
        for hook in self.on_cancel:
            await hook(scope, name)
        await self.tell()
        return await self.get(scope, name)

    async def listen(self, held: Callable[[], Iterable[str]]) -> None:
        """Calls `on_cancel`, for ever, for requests to cancel work of this process that came to another one."""
        while not self.db.near:
            await asyncio.sleep(1.0)
            # Most leases are not of operations, and most processes have no operation under way.
            if names := [name for name in held() if "/" not in name]:
                wished = self.table.c.cancel_requested & self.table.c.state.in_((PENDING, RUNNING))
                query = select(self.table).where(wished & self.table.c.operation.in_(names))
                try:
                    await self._pass_on(query)
                except Failure as failure:
                    log.warning("requests to cancel cannot be read: %s", failure)

    async def _pass_on(self, query: Select[Any]) -> None:
        for row in await self.db.read(lambda connection: connection.execute(query).all()):
            for hook in self.on_cancel:
                await hook(Scope(row.tenant, row.project), row.operation)

    async def list(self, scope: Scope, page_size: int, page_token: str) -> Page[pb.Operation]:
        """Newest first."""
        query = select(self.table).where(within(self.table, scope))
        return await listed(
            self.db, query, self.table.c.operation, to_message, page_size, page_token, newest_first=True
        )

    async def changes(self, scope: Scope, name: str) -> AsyncIterator[pb.Operation]:
        """The operation as it stands, then each change, until it has ended."""
        seen = None
        while True:
            async with self._changed:
                operation = await self.get(scope, name)
                if operation == seen:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):  # not wait_for: Python 3.11's can lose a cancellation
                            await self._changed.wait()
                    continue
            seen = operation
            yield operation
            if operation.HasField("end_time"):
                return
