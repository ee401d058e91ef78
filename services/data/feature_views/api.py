"""The RPCs of feature views."""

from collections.abc import Callable
from datetime import datetime

from aimass.v1 import feature_views_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.feature_joins.service import FeatureJoins
from services.data.feature_joins.wire import wanted_from_wire
from services.data.feature_views.reading import Reading
from services.data.feature_views.service import FeatureViews
from services.data.feature_views.wire import (
    definition_from_wire,
    keys_from_wire,
    microseconds,
    rows_to_wire,
    version_to_wire,
    view_to_wire,
)
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call


class FeatureViewsApi:
    """aimass.v1.FeatureViews."""

    def __init__(self, views: FeatureViews, reading: Reading, joins: FeatureJoins, now: Callable[[], datetime]) -> None:
        self._views, self._reading, self._joins, self._now = views, reading, joins, now

    async def CreateFeatureView(self, request: pb.CreateFeatureViewRequest, call: Call) -> pb.FeatureView:
        once, definition = call.once(view_to_wire), definition_from_wire(request.definition)
        made = await self._views.create(call.scope, request.feature_view, request.description, definition, once)
        return view_to_wire(made)

    async def CreateFeatureViewVersion(
        self, request: pb.CreateFeatureViewVersionRequest, call: Call
    ) -> pb.FeatureViewVersion:
        once, definition = call.once(version_to_wire), definition_from_wire(request.definition)
        return version_to_wire(await self._views.extend(call.scope, request.feature_view, definition, once))

    async def GetFeatureView(self, request: pb.GetFeatureViewRequest, call: Call) -> pb.FeatureView:
        return view_to_wire(await self._views.get(call.scope, request.feature_view))

    async def ListFeatureViews(self, request: pb.ListFeatureViewsRequest, call: Call) -> pb.ListFeatureViewsResponse:
        page = await self._views.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        return pb.ListFeatureViewsResponse(feature_views=map(view_to_wire, page.items), next_page_token=page.next_token)

    async def GetFeatureViewVersion(
        self, request: pb.GetFeatureViewVersionRequest, call: Call
    ) -> pb.FeatureViewVersion:
        found, lag = await self._views.version(call.scope, request.feature_view, request.version)
        return version_to_wire(found, lag, self._now())

    async def MaterialiseFeatureView(self, request: pb.MaterialiseFeatureViewRequest, call: Call) -> Operation:
        start = microseconds(request.since) if request.HasField("since") else None
        until = microseconds(request.until) if request.HasField("until") else None
        numbers, budget = (request.version, request.data_set_version), CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._views.materialise(
            call.principal, request.feature_view, numbers, (start, until), call.once(), budget
        )

    async def ReadFeatures(self, request: pb.ReadFeaturesRequest, call: Call) -> pb.ReadFeaturesResponse:
        keys = keys_from_wire(request.keys)
        found = await self._reading.read(
            call.principal, request.feature_view, request.version, keys, list(request.features)
        )
        return rows_to_wire(*found)

    async def JoinFeatures(self, request: pb.JoinFeaturesRequest, call: Call) -> Operation:
        rows = (request.data_set, request.data_set_version, request.event_time)
        wanted, budget = wanted_from_wire(request.views), CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._joins.join(call.principal, request.output, rows, wanted, call.once(), budget)

    async def DeleteFeatureView(self, request: pb.DeleteFeatureViewRequest, call: Call) -> pb.FeatureView:
        return view_to_wire(await self._views.delete(call.scope, request.feature_view, call.etag))

    async def UndeleteFeatureView(self, request: pb.UndeleteFeatureViewRequest, call: Call) -> pb.FeatureView:
        return view_to_wire(await self._views.undelete(call.scope, request.feature_view))
