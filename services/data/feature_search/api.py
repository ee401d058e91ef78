"""The RPC of feature search."""

from aimass.v1 import feature_search_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.feature_search.service import FeatureSearches
from services.data.feature_search.wire import wanted_from_wire
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call


class FeatureSearchesApi:
    """aimass.v1.FeatureSearches."""

    def __init__(self, searches: FeatureSearches) -> None:
        self._searches = searches

    async def SearchFeatures(self, request: pb.SearchFeaturesRequest, call: Call) -> Operation:
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        wanted = wanted_from_wire(request)
        return await self._searches.search(call.principal, wanted, request.data_set_version, call.once(), budget)
