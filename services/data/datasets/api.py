"""The RPCs of data sets."""

import asyncio

from aimass.v1 import datasets_pb2 as pb
from services.data.datasets.queries import Queries, Table
from services.data.datasets.service import DataSets
from services.data.datasets.wire import (
    add_rows,
    data_set_to_wire,
    lineage_to_wire,
    location_to_wire,
    version_to_wire,
)
from services.data.metering.domain import CpuBudget
from services.data.wire import schema_to_wire
from services.kit.rpc import Call


class DataSetsApi:
    """aimass.v1.DataSets"""

    def __init__(self, data_sets: DataSets, queries: Queries) -> None:
        self._data_sets, self._queries = data_sets, queries

    async def GetDataSet(self, request: pb.GetDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.get(call.scope, request.data_set))

    async def ListDataSets(self, request: pb.ListDataSetsRequest, call: Call) -> pb.ListDataSetsResponse:
        found = await self._data_sets.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        data_sets = [data_set_to_wire(data_set) for data_set in found.items]
        return pb.ListDataSetsResponse(data_sets=data_sets, next_page_token=found.next_token)

    async def GetDataSetVersion(self, request: pb.GetDataSetVersionRequest, call: Call) -> pb.DataSetVersion:
        return version_to_wire(await self._data_sets.version(call.scope, request.data_set, request.version))

    async def ListDataSetVersions(
        self, request: pb.ListDataSetVersionsRequest, call: Call
    ) -> pb.ListDataSetVersionsResponse:
        found = await self._data_sets.versions(call.scope, request.data_set, request.page_size, request.page_token)
        versions = [version_to_wire(version) for version in found.items]
        return pb.ListDataSetVersionsResponse(versions=versions, next_page_token=found.next_token)

    async def ReadRows(self, request: pb.ReadRowsRequest, call: Call) -> pb.ReadRowsResponse:
        columns = list(request.columns)
        found = await self._data_sets.rows(
            call.scope, request.data_set, request.version, columns, request.page_size, request.page_token
        )
        answer = pb.ReadRowsResponse(next_page_token=found.next_token)
        await asyncio.to_thread(add_rows, found.items, answer)
        return answer

    async def ListQuarantine(self, request: pb.ListQuarantineRequest, call: Call) -> pb.ListQuarantineResponse:
        found = await self._data_sets.quarantine(
            call.scope, request.data_set, request.version, request.page_size, request.page_token
        )
        rows = [pb.QuarantinedRow(**row) for row in found.items]
        return pb.ListQuarantineResponse(rows=rows, next_page_token=found.next_token)

    async def QueryDataSets(self, request: pb.QueryDataSetsRequest, call: Call) -> pb.QueryDataSetsResponse:
        tables = [Table(table.alias, table.data_set, table.version) for table in request.tables]
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        found = await self._queries.ask(
            call.scope, request.sql, tables, request.max_rows, call.remaining(), budget, reservation
        )
        answer = pb.QueryDataSetsResponse(schema=schema_to_wire(found.columns), truncated=found.truncated)
        await asyncio.to_thread(add_rows, found.rows, answer)
        return answer

    async def GetLineage(self, request: pb.GetLineageRequest, call: Call) -> pb.Lineage:
        return lineage_to_wire(await self._data_sets.lineage(call.scope, request.data_set, request.version))

    async def DeleteDataSet(self, request: pb.DeleteDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.delete(call.scope, request.data_set, call.etag))

    async def UndeleteDataSet(self, request: pb.UndeleteDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.undelete(call.scope, request.data_set))

    async def LocateDataSetVersion(self, request: pb.GetDataSetVersionRequest, call: Call) -> pb.DataSetLocation:
        return location_to_wire(await self._data_sets.locate(call.scope, request.data_set, request.version))
