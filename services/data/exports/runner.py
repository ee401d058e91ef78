"""Writes tables: a child reads the rows and sends them. A write is kept until it has ended, else it is done again.

The database of the table says which work has written, in the transaction of its rows: done again, it writes nothing.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from aimass.v1.exports_pb2 import WriteTableResponse
from services.data.datasets.domain import Which
from services.data.datasets.queries import Queries, Table
from services.data.exports.domain import Write
from services.data.exports.store import WriteStore
from services.data.metering.service import Metering
from services.data.reading.kinds import to_json
from services.data.sources import writing
from services.data.sources.service import Sources
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits

log = logging.getLogger(__name__)
_WORK = "services.data.exports.write_work"
_BRIEF = Limits(seconds=30.0)
_PAUSES = (1.0, 5.0, 15.0, 60.0)  # seconds before a database that is away or locked is asked again


class WriteRunner(OpenRunner[Write]):
    """Runs as many at a time as there may be streams."""

    def __init__(
        self,
        store: WriteStore,
        sources: Sources,
        queries: Queries,
        metering: Metering,
        spawn: Spawn,
        limits: Limits,
        at_once: int,
        most_bytes: int,
    ) -> None:
        super().__init__(store, spawn, at_once)
        self._store, self._sources, self._queries, self._metering = store, sources, queries, metering
        self._limits, self._most = limits, most_bytes

    async def _do(self, scope: Scope, write: Write) -> None:
        for pause in (*_PAUSES, 0.0):
            try:
                rows = await self._attempt_once(scope, write)
                break
            except Failure as failure:
                if failure.code is not Code.UNAVAILABLE:
                    raise
                if not pause:  # what is away may be so for ever: nobody else goes on with this
                    raise FailedPrecondition(failure.detail) from None
            await self._operations.progress(scope, write.operation, 0.0, "waiting", "the database is away or locked")
            await asyncio.sleep(pause)
        answer = WriteTableResponse(source=write.source, table=write.table, rows=rows)
        # The rows are there, whatever becomes of us.
        await self._keep_end(write.operation, partial(self._store.finish, scope, write.operation, answer))

    async def _give_up(self, scope: Scope, write: Write, failure: Failure | None) -> None:
        try:
            await self._take_back(scope, write)
        except Failure as other:
            log.warning("what %s has left of its work is not taken back: %s", write.operation, other)
        await self._store.give_up(scope, write.operation, failure)

    async def _take_back(self, scope: Scope, write: Write) -> None:
        """What a child that was killed has left in a file, which nobody who only reads it could read."""
        async with self._sources.writable(scope, write.source) as (source, place):
            left = writing.leftover(source, place)
            if left is not None and await asyncio.to_thread(left.exists):
                request = {"place": place.to_json(), "seconds": _BRIEF.seconds}
                await process.run(_WORK, request, _BRIEF)

    async def _attempt_once(self, scope: Scope, write: Write) -> int:
        tables = [Table(one.alias, one.data_set, Which(one.version)) for one in write.tables]

        async def tell(message: Mapping[str, Any]) -> None:
            text = f"{message['rows']} rows sent to {write.table}"
            await self._operations.progress(scope, write.operation, 0.0, "writing", text)

        plan = await self._queries.plan(scope, write.sql, tables, write.hidden)
        async with self._queries.here(scope, plan) as there, self._sources.writable(scope, write.source) as found:
            definition, place = found
            request = {
                "rows": {"sql": plan.text, "tables": there},
                "source": to_json(definition),
                "place": place.to_json(),
                "table": write.table,
                "mode": write.mode,
                "key": write.key,
                "operation": write.operation,
                "seconds": self._limits.seconds,
                "max_bytes": self._most,
            }
            result = await self._metering.run(scope, write.operation, _WORK, request, self._limits, tell)
        return int(result["rows"])
