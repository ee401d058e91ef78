"""The RPCs of extractions."""

from aimass.v1 import extractions_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.extractions.domain import Extraction
from services.data.extractions.service import Extractions
from services.data.extractions.wire import asked_from_wire, cursor_to_wire, extraction_to_wire
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call


def _operation(begun: tuple[Extraction, Operation]) -> Operation:
    return begun[1]


class ExtractionsApi:
    """aimass.v1.Extractions."""

    def __init__(self, extractions: Extractions) -> None:
        self._extractions = extractions

    async def RunExtraction(self, request: pb.RunExtractionRequest, call: Call) -> Operation:
        once = call.once(_operation)
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        asked = asked_from_wire(request)
        _, operation = await self._extractions.run(call.principal, call.scope, request.rule, once, budget, asked)
        return operation

    async def RunRuleSet(self, request: pb.RunRuleSetRequest, call: Call) -> Operation:
        once = call.once(_operation)
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        asked = asked_from_wire(request)
        _, operation = await self._extractions.run_set(call.scope, request.rule_set, once, budget, asked)
        return operation

    async def GetExtraction(self, request: pb.GetExtractionRequest, call: Call) -> pb.Extraction:
        return extraction_to_wire(await self._extractions.get(call.scope, request.extraction))

    async def GetCursor(self, request: pb.GetCursorRequest, call: Call) -> pb.Cursor:
        return cursor_to_wire(await self._extractions.cursor(call.scope, request.rule))

    async def GetRuleSetCursor(self, request: pb.GetRuleSetCursorRequest, call: Call) -> pb.Cursor:
        return cursor_to_wire(await self._extractions.set_cursor(call.scope, request.rule_set))

    async def ListExtractions(self, request: pb.ListExtractionsRequest, call: Call) -> pb.ListExtractionsResponse:
        wanted = request.rule, request.rule_set, request.page_size, request.page_token
        page = await self._extractions.list(call.scope, *wanted)
        extractions = [extraction_to_wire(extraction) for extraction in page.items]
        return pb.ListExtractionsResponse(extractions=extractions, next_page_token=page.next_token)
