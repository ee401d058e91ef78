"""The RPCs of series sets."""

from datetime import UTC, datetime

from aimass.v1 import series_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.metering.domain import CpuBudget
from services.data.series.domain import SeriesSet
from services.data.series.service import SeriesSets
from services.data.series.wire import features_from_wire, series_set_to_wire, version_to_wire
from services.data.series_clusters.service import SeriesClusters
from services.data.series_clusters.wire import wanted_from_wire
from services.kit.rpc import Call

_NEVER = datetime.fromtimestamp(0, UTC)  # the service sets the times


class SeriesSetsApi:
    """aimass.v1.SeriesSets."""

    def __init__(self, series_sets: SeriesSets, clusters: SeriesClusters) -> None:
        self._series_sets, self._clusters = series_sets, clusters

    async def CreateSeriesSet(self, request: pb.CreateSeriesSetRequest, call: Call) -> pb.SeriesSet:
        made = SeriesSet(
            request.series_set,
            request.description,
            request.data_set,
            request.output_data_set,
            tuple(request.keys),
            request.time,
            features_from_wire(request.features),
            latest_version=0,
            generation=1,
            create_time=_NEVER,
            update_time=_NEVER,
        )
        once = call.once(series_set_to_wire)
        return series_set_to_wire(await self._series_sets.create(call.scope, made, once))

    async def GetSeriesSet(self, request: pb.GetSeriesSetRequest, call: Call) -> pb.SeriesSet:
        return series_set_to_wire(await self._series_sets.get(call.scope, request.series_set))

    async def ListSeriesSets(self, request: pb.ListSeriesSetsRequest, call: Call) -> pb.ListSeriesSetsResponse:
        page = await self._series_sets.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        found = [series_set_to_wire(item) for item in page.items]
        return pb.ListSeriesSetsResponse(series_sets=found, next_page_token=page.next_token)

    async def RunSeriesSet(self, request: pb.RunSeriesSetRequest, call: Call) -> Operation:
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._series_sets.run(
            call.principal, request.series_set, request.data_set_version, request.rebuild, call.once(), budget
        )

    async def ClusterSeries(self, request: pb.ClusterSeriesRequest, call: Call) -> Operation:
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._clusters.cluster(call.principal, wanted_from_wire(request), call.once(), budget)

    async def GetSeriesSetVersion(self, request: pb.GetSeriesSetVersionRequest, call: Call) -> pb.SeriesSetVersion:
        return version_to_wire(await self._series_sets.version(call.scope, request.series_set, request.version))

    async def DeleteSeriesSet(self, request: pb.DeleteSeriesSetRequest, call: Call) -> pb.SeriesSet:
        return series_set_to_wire(await self._series_sets.delete(call.scope, request.series_set, call.etag))

    async def UndeleteSeriesSet(self, request: pb.UndeleteSeriesSetRequest, call: Call) -> pb.SeriesSet:
        return series_set_to_wire(await self._series_sets.undelete(call.scope, request.series_set))
