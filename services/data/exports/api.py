"""The RPCs of exports."""

from collections.abc import AsyncIterator
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from aimass.v1 import exports_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.datasets.domain import Which
from services.data.datasets.queries import Table
from services.data.datasets.service import DataSets
from services.data.datasets.wire import which_from_wire
from services.data.exports.domain import Write
from services.data.exports.service import Asked, Exports
from services.data.exports.writes import TableWrites
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call

ARROW, TAR = "application/vnd.apache.arrow.stream", "application/x-tar"


class ExportsApi:
    """aimass.v1.Exports."""

    def __init__(self, exports: Exports, data_sets: DataSets, writes: TableWrites) -> None:
        self._exports, self._data_sets, self._writes = exports, data_sets, writes

    async def StreamQuery(self, request: pb.StreamQueryRequest, call: Call) -> AsyncIterator[HttpBody]:
        tables = [Table(table.alias, table.data_set, which_from_wire(table)) for table in request.tables]
        names = {table.data_set for table in tables}
        hidden = {name: await self._data_sets.hidden(call.principal, name) for name in names}
        async for piece in self._exports.query(_asked(request, call), request.sql, tables, hidden):
            yield HttpBody(content_type=ARROW, data=piece)

    async def StreamVersion(self, request: pb.StreamVersionRequest, call: Call) -> AsyncIterator[HttpBody]:
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        asked, which, columns = _asked(request, call), which_from_wire(request), list(request.columns)
        async for piece in self._exports.version(asked, request.data_set, which, columns, hidden):
            yield HttpBody(content_type=ARROW, data=piece)

    async def StreamDeltaTable(self, request: pb.StreamVersionRequest, call: Call) -> AsyncIterator[HttpBody]:
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        asked, which, columns = _asked(request, call), which_from_wire(request), list(request.columns)
        async for piece in self._exports.delta_table(asked, request.data_set, which, columns, hidden):
            yield HttpBody(content_type=TAR, data=piece)

    async def WriteTable(self, request: pb.WriteTableRequest, call: Call) -> Operation:
        mode = pb.WriteMode.Name(request.mode) if request.mode in pb.WriteMode.values() else ""
        mode = mode.removeprefix("WRITE_MODE_").lower()
        asked = Write("", request.source, request.table, mode, tuple(request.key), request.sql, ())
        table = Table("", request.data_set, Which(request.version)) if request.data_set else None
        tables = [Table(one.alias, one.data_set, which_from_wire(one)) for one in request.tables]
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._writes.write(call.principal, asked, table, tables, call.once(), budget)


def _asked(request: Any, call: Call) -> Asked:
    budget = CpuBudget(call.principal.id, request.cpu_seconds)
    return Asked(call.scope, request.max_rows, call.remaining(), budget, call.metadata.get("reservation", ""))
