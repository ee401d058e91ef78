"""The RPCs of feature sets."""

from datetime import UTC, datetime

from aimass.v1 import features_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.features.domain import FeatureSet
from services.data.features.service import FeatureSets
from services.data.features.wire import feature_set_to_wire, range_from_wire, steps_from_wire, version_to_wire
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call

_NEVER = datetime.fromtimestamp(0, UTC)  # the service sets the times


class FeatureSetsApi:
    """aimass.v1.FeatureSets."""

    def __init__(self, feature_sets: FeatureSets) -> None:
        self._feature_sets = feature_sets

    async def CreateFeatureSet(self, request: pb.CreateFeatureSetRequest, call: Call) -> pb.FeatureSet:
        made = FeatureSet(
            request.feature_set,
            request.description,
            request.data_set,
            request.label,
            request.key,
            steps_from_wire(request.steps),
            latest_version=0,
            generation=1,
            create_time=_NEVER,
            update_time=_NEVER,
        )
        once = call.once(feature_set_to_wire)
        return feature_set_to_wire(await self._feature_sets.create(call.scope, made, once))

    async def GetFeatureSet(self, request: pb.GetFeatureSetRequest, call: Call) -> pb.FeatureSet:
        return feature_set_to_wire(await self._feature_sets.get(call.scope, request.feature_set))

    async def ListFeatureSets(self, request: pb.ListFeatureSetsRequest, call: Call) -> pb.ListFeatureSetsResponse:
        page = await self._feature_sets.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        found = [feature_set_to_wire(item) for item in page.items]
        return pb.ListFeatureSetsResponse(feature_sets=found, next_page_token=page.next_token)

    async def FitFeatureSet(self, request: pb.FitFeatureSetRequest, call: Call) -> Operation:
        train = range_from_wire(request.train) if request.HasField("train") else None
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._feature_sets.fit(
            call.principal, request.feature_set, request.data_set_version, train, call.once(), budget
        )

    async def GetFeatureSetVersion(self, request: pb.GetFeatureSetVersionRequest, call: Call) -> pb.FeatureSetVersion:
        return version_to_wire(await self._feature_sets.version(call.scope, request.feature_set, request.version))

    async def DeleteFeatureSet(self, request: pb.DeleteFeatureSetRequest, call: Call) -> pb.FeatureSet:
        return feature_set_to_wire(await self._feature_sets.delete(call.scope, request.feature_set, call.etag))

    async def UndeleteFeatureSet(self, request: pb.UndeleteFeatureSetRequest, call: Call) -> pb.FeatureSet:
        return feature_set_to_wire(await self._feature_sets.undelete(call.scope, request.feature_set))
