"""The RPCs of data sets."""

import asyncio
from collections.abc import Callable

from aimass.v1 import datasets_pb2 as pb
from services.data.datasets.branches import Branches
from services.data.datasets.catalogue import Catalogue
from services.data.datasets.comparing import Comparisons
from services.data.datasets.domain import DataSetVersion
from services.data.datasets.masking import NOTHING, Hidden, masked, veiled
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
    """aimass.v1.DataSets."""

    def __init__(
        self,
        data_sets: DataSets,
        queries: Queries,
        comparisons: Comparisons,
        catalogue: Catalogue,
        versions: Versions,
        branches: Branches,
    ) -> None:
        self._data_sets, self._queries, self._catalogue = data_sets, queries, catalogue
        self._versions, self._comparisons, self._branches = versions, comparisons, branches

    async def GetDataSet(self, request: pb.GetDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.get(call.scope, request.data_set))

    async def ListDataSets(self, request: pb.ListDataSetsRequest, call: Call) -> pb.ListDataSetsResponse:
        found = await self._data_sets.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        data_sets = [data_set_to_wire(data_set, shorten=True) for data_set in found.items]
        return pb.ListDataSetsResponse(data_sets=data_sets, next_page_token=found.next_token)

    async def SearchCatalogue(self, request: pb.SearchCatalogueRequest, call: Call) -> pb.SearchCatalogueResponse:
        page = await self._catalogue.search(call.scope, request.query, request.page_size, request.page_token)
        data_sets = [data_set_to_wire(data_set, shorten=True) for data_set in page.items]
        return pb.SearchCatalogueResponse(data_sets=data_sets, next_page_token=page.next_token)

    async def UpdateDataSet(self, request: pb.UpdateDataSetRequest, call: Call) -> pb.DataSet:
        values = changes_from_wire(request)
        return data_set_to_wire(await self._catalogue.update(call.scope, request.data_set, values, call.etag))

    async def MaskColumns(self, request: pb.MaskColumnsRequest, call: Call) -> pb.DataSet:
        columns = list(request.columns)
        return data_set_to_wire(await self._catalogue.mask(call.scope, request.data_set, columns, call.etag))

    async def GetDataSetVersion(self, request: pb.GetDataSetVersionRequest, call: Call) -> pb.DataSetVersion:
        number = await self._data_sets.number(call.scope, request.data_set, which_from_wire(request))
        found = await self._data_sets.version(call.scope, request.data_set, number)
        return version_to_wire(veiled(found, await self._data_sets.hidden(call.principal, request.data_set)))

    async def ListDataSetVersions(
        self, request: pb.ListDataSetVersionsRequest, call: Call
    ) -> pb.ListDataSetVersionsResponse:
        found = await self._data_sets.versions(call.scope, request.data_set, request.page_size, request.page_token)
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        versions = [version_to_wire(veiled(version, hidden), shorten=True) for version in found.items]
        return pb.ListDataSetVersionsResponse(versions=versions, next_page_token=found.next_token)

    async def ReadRows(self, request: pb.ReadRowsRequest, call: Call) -> pb.ReadRowsResponse:
        columns, number = list(request.columns), request.version
        if not request.page_token:  # which keeps to the version of the first page
            number = await self._data_sets.number(call.scope, request.data_set, which_from_wire(request))
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        found = await self._data_sets.rows(
            call.scope, request.data_set, number, columns, request.page_size, request.page_token, hidden
        )
        answer = pb.ReadRowsResponse(next_page_token=found.next_token)
        await asyncio.to_thread(add_rows, found.items, answer)
        return answer

    async def ListQuarantine(self, request: pb.ListQuarantineRequest, call: Call) -> pb.ListQuarantineResponse:
        found = await self._data_sets.quarantine(
            call.scope, request.data_set, request.version, request.page_size, request.page_token
        )
        # A record is as it was read: nobody can say where in it the values of a column are.
        hidden = {"record"} if await self._data_sets.hidden(call.principal, request.data_set) else NOTHING
        rows = [pb.QuarantinedRow(**row) for row in masked(found.items, hidden)]
        return pb.ListQuarantineResponse(rows=rows, next_page_token=found.next_token)

    async def QueryDataSets(self, request: pb.QueryDataSetsRequest, call: Call) -> pb.QueryDataSetsResponse:
        tables = [Table(table.alias, table.data_set, which_from_wire(table)) for table in request.tables]
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        names = {table.data_set for table in request.tables}
        hidden = {name: await self._data_sets.hidden(call.principal, name) for name in names}
        found = await self._queries.ask(
            call.scope,
            request.sql,
            tables,
            (request.max_rows, request.page_token),
            call.remaining(),
            budget,
            reservation,
            hidden,
        )
        answer = pb.QueryDataSetsResponse(schema=schema_to_wire(found.columns), truncated=found.truncated)
        answer.next_page_token = found.next_token
        answer.reads.extend(pb.TableRead(**read._asdict()) for read in found.reads)
        await asyncio.to_thread(add_rows, found.rows, answer)
        return answer

    async def DiffDataSet(self, request: pb.DiffDataSetRequest, call: Call) -> pb.DataSetDiff:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        versions, page = (request.base_version, request.version), (request.page_size, request.page_token)
        hidden, key = await self._data_sets.hidden(call.principal, request.data_set), list(request.key)
        found = await self._comparisons.diff(
            call.scope,
            request.data_set,
            versions,
            key,
            page,
            call.remaining(),
            budget,
            reservation,
            hidden,
            request.with_parent,
        )
        return await asyncio.to_thread(diff_to_wire, found)

    async def RollBackDataSet(self, request: pb.RollBackDataSetRequest, call: Call) -> pb.DataSetVersion:
        answer = _answering(await self._data_sets.hidden(call.principal, request.data_set))
        once = call.once(answer)
        made = await self._versions.roll_back(call.scope, request.data_set, request.version, call.etag, once)
        return answer((made,))

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
        deleted = await self._data_sets.delete(call.scope, request.data_set, call.etag)
        await self._queries.forget(call.scope, request.data_set)
        return data_set_to_wire(deleted)

    async def UndeleteDataSet(self, request: pb.UndeleteDataSetRequest, call: Call) -> pb.DataSet:
        return data_set_to_wire(await self._data_sets.undelete(call.scope, request.data_set))

    async def BranchDataSet(self, request: pb.BranchDataSetRequest, call: Call) -> pb.DataSetVersion:
        hidden, which = await self._data_sets.hidden(call.principal, request.data_set), which_from_wire(request)
        answer = _answering(hidden)
        wanted = request.data_set, request.branch, which, request.description
        return answer((await self._branches.make(call.scope, *wanted, call.once(answer)),))

    async def MergeDataSetBranch(self, request: pb.MergeDataSetBranchRequest, call: Call) -> pb.DataSetVersion:
        # All that is hidden in the branch is so in the data set from then on.
        answer = _answering(await self._data_sets.hidden(call.principal, request.branch))
        wanted = request.data_set, request.branch, request.replace
        return answer((await self._branches.merge(call.scope, *wanted, call.etag, call.once(answer)),))

    async def ListDataSetBranches(
        self, request: pb.ListDataSetBranchesRequest, call: Call
    ) -> pb.ListDataSetBranchesResponse:
        page = await self._branches.list(call.scope, request.data_set, request.page_size, request.page_token)
        data_sets = [data_set_to_wire(branch, shorten=True) for branch in page.items]
        return pb.ListDataSetBranchesResponse(data_sets=data_sets, next_page_token=page.next_token)

    async def LocateDataSetVersion(self, request: pb.GetDataSetVersionRequest, call: Call) -> pb.DataSetLocation:
        found = await self._data_sets.locate(call.scope, request.data_set, request.version)
        return location_to_wire(self._data_sets.placed(call.scope, found))


def _answering(hidden: Hidden) -> Callable[[tuple[DataSetVersion, ...]], pb.DataSetVersion]:
    """Says what a commit of one data set has made, to who must not see some columns."""
    return lambda made: version_to_wire(veiled(made[0], hidden))
