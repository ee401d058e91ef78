"""The RPCs of expectations."""

from aimass.v1 import expectations_pb2 as pb
from services.data.datasets.service import DataSets
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

    def __init__(self, expectations: DataSetExpectations, data_sets: DataSets) -> None:
        self._expectations, self._data_sets = expectations, data_sets

    async def SetExpectations(self, request: pb.SetExpectationsRequest, call: Call) -> pb.DataSetExpectations:
        items = expectations_from_wire(request)
        await self._data_sets.check_seen(call.principal, request.data_set, [item.column for item in items])
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        found = await self._expectations.set(call.scope, request.data_set, items, call.etag)
        return expectations_to_wire(found, hidden)

    async def GetExpectations(self, request: pb.GetExpectationsRequest, call: Call) -> pb.DataSetExpectations:
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        return expectations_to_wire(await self._expectations.get(call.scope, request.data_set), hidden)

    async def LearnExpectations(self, request: pb.LearnExpectationsRequest, call: Call) -> pb.LearnExpectationsResponse:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        found = await self._expectations.learn(
            call.scope, request.data_set, request.version, call.remaining(), budget, reservation
        )
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        return pb.LearnExpectationsResponse(expectations=[expectation_to_wire(item, hidden) for item in found])

    async def ListChecks(self, request: pb.ListChecksRequest, call: Call) -> pb.ListChecksResponse:
        page = await self._expectations.checks(call.scope, request.data_set, request.page_size, request.page_token)
        hidden = await self._data_sets.hidden(call.principal, request.data_set)
        checks = [check_to_wire(check, hidden) for check in page.items]
        return pb.ListChecksResponse(checks=checks, next_page_token=page.next_token)
