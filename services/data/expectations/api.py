"""The RPCs of expectations."""

from aimass.v1 import expectations_pb2 as pb
from services.data.expectations.service import DataSetExpectations
from services.data.expectations.wire import (
    check_to_wire,
    expectation_to_wire,
    expectations_from_wire,
    expectations_to_wire,
)
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call


class ExpectationsApi:
    """aimass.v1.Expectations."""

    def __init__(self, expectations: DataSetExpectations) -> None:
        self._expectations = expectations

    async def SetExpectations(self, request: pb.SetExpectationsRequest, call: Call) -> pb.DataSetExpectations:
        items = expectations_from_wire(request)
        return expectations_to_wire(await self._expectations.set(call.scope, request.data_set, items, call.etag))

    async def GetExpectations(self, request: pb.GetExpectationsRequest, call: Call) -> pb.DataSetExpectations:
        return expectations_to_wire(await self._expectations.get(call.scope, request.data_set))

    async def LearnExpectations(self, request: pb.LearnExpectationsRequest, call: Call) -> pb.LearnExpectationsResponse:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        found = await self._expectations.learn(
            call.scope, request.data_set, request.version, call.remaining(), budget, reservation
        )
        return pb.LearnExpectationsResponse(expectations=map(expectation_to_wire, found))

    async def ListChecks(self, request: pb.ListChecksRequest, call: Call) -> pb.ListChecksResponse:
        page = await self._expectations.checks(call.scope, request.data_set, request.page_size, request.page_token)
        return pb.ListChecksResponse(checks=map(check_to_wire, page.items), next_page_token=page.next_token)
