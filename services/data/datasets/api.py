"""The RPCs of data sets."""

import asyncio

from aimass.v1 import datasets_pb2 as pb
from services.data.datasets.catalogue import Catalogue
from services.data.datasets.comparing import Comparisons
from services.data.datasets.domain import DataSetVersion
from services.data.datasets.queries import Queries, Table
from services.data.datasets.service import DataSets
from services.data.datasets.versions import Versions
from services.data.datasets.wire import (
    add_events,
    add_rows,
    changes_from_wire,
    data_set_to_wire,
    diff_to_wire,
    lineage_to_wire,
    location_to_wire,
    tag_to_wire,
    version_to_wire,
    which_from_wire,
)
from services.data.metering.domain import CpuBudget
from services.data.wire import schema_to_wire
from services.kit.rpc import Call


class DataSetsApi:
    """aimass.v1.DataSets"""

    def __init__(
        self,
        data_sets: DataSets,
        queries: Queries,
        versions: Versions,
        comparisons: Comparisons,
        catalogue: Catalogue,
    ) -> None:
        self._data_sets, self._queries, self._catalogue = data_sets, queries, catalogue
        self._versions, self._comparisons = versions, comparisons

    async def GetDataSet(self, request: pb.GetDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.get(call.scope, request.data_set))

    async def ListDataSets(self, request: pb.ListDataSetsRequest, call: Call) -> pb.ListDataSetsResponse:
        found = await self._data_sets.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        data_sets = [data_set_to_wire(data_set) for data_set in found.items]
        return pb.ListDataSetsResponse(data_sets=data_sets, next_page_token=found.next_token)

    async def SearchCatalogue(self, request: pb.SearchCatalogueRequest, call: Call) -> pb.SearchCatalogueResponse:
        page = await self._catalogue.search(call.scope, request.query, request.page_size, request.page_token)
        return pb.SearchCatalogueResponse(data_sets=map(data_set_to_wire, page.items), next_page_token=page.next_token)

    async def UpdateDataSet(self, request: pb.UpdateDataSetRequest, call: Call) -> pb.DataSet:
        values = changes_from_wire(request)
        return data_set_to_wire(await self._catalogue.update(call.scope, request.data_set, values, call.etag))

    async def GetDataSetVersion(self, request: pb.GetDataSetVersionRequest, call: Call) -> pb.DataSetVersion:
        number = await self._data_sets.number(call.scope, request.data_set, which_from_wire(request))
        return version_to_wire(await self._data_sets.version(call.scope, request.data_set, number))

    async def ListDataSetVersions(
        self, request: pb.ListDataSetVersionsRequest, call: Call
    ) -> pb.ListDataSetVersionsResponse:
        found = await self._data_sets.versions(call.scope, request.data_set, request.page_size, request.page_token)
        versions = [version_to_wire(version) for version in found.items]
        return pb.ListDataSetVersionsResponse(versions=versions, next_page_token=found.next_token)

    async def ReadRows(self, request: pb.ReadRowsRequest, call: Call) -> pb.ReadRowsResponse:
        columns, number = list(request.columns), request.version
        if not request.page_token:  # which keeps to the version of the first page
            number = await self._data_sets.number(call.scope, request.data_set, which_from_wire(request))
        found = await self._data_sets.rows(
            call.scope, request.data_set, number, columns, request.page_size, request.page_token
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
        tables = [Table(table.alias, table.data_set, which_from_wire(table)) for table in request.tables]
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        found = await self._queries.ask(
            call.scope, request.sql, tables, request.max_rows, call.remaining(), budget, reservation
        )
        answer = pb.QueryDataSetsResponse(schema=schema_to_wire(found.columns), truncated=found.truncated)
        await asyncio.to_thread(add_rows, found.rows, answer)
        return answer

    async def DiffDataSet(self, request: pb.DiffDataSetRequest, call: Call) -> pb.DataSetDiff:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        versions, page = (request.base_version, request.version), (request.page_size, request.page_token)
        found = await self._comparisons.diff(
            call.scope, request.data_set, versions, list(request.key), page, call.remaining(), budget, reservation
        )
        return await asyncio.to_thread(diff_to_wire, found)

    async def RollBackDataSet(self, request: pb.RollBackDataSetRequest, call: Call) -> pb.DataSetVersion:
        once = call.once(_first_to_wire)
        return version_to_wire(
            await self._versions.roll_back(call.scope, request.data_set, request.version, call.etag, once)
        )

    async def SetDataSetTag(self, request: pb.SetDataSetTagRequest, call: Call) -> pb.DataSetTag:
        return tag_to_wire(
            await self._versions.set_tag(call.scope, request.data_set, request.tag, request.version, call.etag)
        )

    async def GetDataSetTag(self, request: pb.GetDataSetTagRequest, call: Call) -> pb.DataSetTag:
        return tag_to_wire(await self._versions.get_tag(call.scope, request.data_set, request.tag))

    async def ListDataSetTags(self, request: pb.ListDataSetTagsRequest, call: Call) -> pb.ListDataSetTagsResponse:
        page = await self._versions.list_tags(call.scope, request.data_set, request.page_size, request.page_token)
        return pb.ListDataSetTagsResponse(tags=map(tag_to_wire, page.items), next_page_token=page.next_token)

    async def DeleteDataSetTag(self, request: pb.DeleteDataSetTagRequest, call: Call) -> pb.DataSetTag:
        return tag_to_wire(await self._versions.delete_tag(call.scope, request.data_set, request.tag, call.etag))

    async def GetLineage(self, request: pb.GetLineageRequest, call: Call) -> pb.Lineage:
        return lineage_to_wire(await self._data_sets.lineage(call.scope, request.data_set, request.version))

    async def ExportLineage(self, request: pb.ExportLineageRequest, call: Call) -> pb.ExportLineageResponse:
        page = await self._catalogue.open_lineage(
            call.scope, request.data_set, request.version, request.page_size, request.page_token
        )
        answer = pb.ExportLineageResponse(next_page_token=page.next_token)
        await asyncio.to_thread(add_events, page.items, answer)
        return answer

    async def DeleteDataSet(self, request: pb.DeleteDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.delete(call.scope, request.data_set, call.etag))

    async def UndeleteDataSet(self, request: pb.UndeleteDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.undelete(call.scope, request.data_set))

    async def LocateDataSetVersion(self, request: pb.GetDataSetVersionRequest, call: Call) -> pb.DataSetLocation:
        return location_to_wire(await self._data_sets.locate(call.scope, request.data_set, request.version))


def _first_to_wire(made: tuple[DataSetVersion, ...]) -> pb.DataSetVersion:
    """The answer to a commit of one version."""
    return version_to_wire(made[0])
