"""The RPCs of Limits, and their events."""

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import limits_pb2 as pb
from services.gateway.limiting.domain import COUNTS, LEVELS, Terms
from services.gateway.limiting.events import limit_to_wire
from services.gateway.limiting.service import Limiting
from services.kit.inbox import Delivery
from services.kit.rpc import Call

_LEVELS = {pb.LimitLevel.Value(f"LIMIT_LEVEL_{level.upper()}"): level for level in LEVELS}
_COUNTS = {pb.LimitCount.Value(f"LIMIT_COUNT_{counts.upper()}"): counts for counts in COUNTS}


class LimitsApi:
    """Servicer of aimass.v1.Limits."""

    def __init__(self, limits: Limiting) -> None:
        self._limits = limits

    async def SetLimit(self, request: pb.SetLimitRequest, call: Call) -> pb.Limit:
        terms = Terms(
            _LEVELS.get(request.level, ""),
            _COUNTS.get(request.counts, COUNTS[0]),
            request.rate,
            request.burst,
            request.in_project,
            request.object,
        )
        etag = call.etag or request.etag
        return limit_to_wire(await self._limits.set(call.principal, request.limit, terms, request.tenant, etag))

    async def GetLimit(self, request: pb.GetLimitRequest, call: Call) -> pb.Limit:
        return limit_to_wire(await self._limits.get(call.principal, request.limit, request.tenant))

    async def ListLimits(self, request: pb.ListLimitsRequest, call: Call) -> pb.ListLimitsResponse:
        page = await self._limits.list(call.principal, request.tenant, request.page_size, request.page_token)
        return pb.ListLimitsResponse(limits=map(limit_to_wire, page.items), next_page_token=page.next_token)

    async def DeleteLimit(self, request: pb.DeleteLimitRequest, call: Call) -> pb.Limit:
        return limit_to_wire(await self._limits.delete(call.principal, request.limit, request.tenant, call.etag))

    async def changed(self, message: events.LimitChanged, delivery: Delivery) -> None:
        """Another gateway, or this one, changed a limit."""
        await self._limits.following.reload()
