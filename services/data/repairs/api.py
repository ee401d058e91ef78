"""The RPCs of repairs."""

from aimass.v1 import repairs_pb2 as pb
from aimass.v1.operations_pb2 import Operation
from services.data.metering.domain import CpuBudget
from services.data.repairs.service import Repairs
from services.data.repairs.wire import health_to_wire, policy_of, repair_to_wire
from services.kit.rpc import Call


class RepairsApi:
    """aimass.v1.Repairs."""

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs

    async def GetRuleHealth(self, request: pb.GetRuleHealthRequest, call: Call) -> pb.RuleHealth:
        return health_to_wire(await self._repairs.health(call.scope, request.rule))

    async def SetRepairPolicy(self, request: pb.SetRepairPolicyRequest, call: Call) -> pb.RuleHealth:
        return health_to_wire(await self._repairs.set_policy(call.scope, request.rule, policy_of(request.policy)))

    async def RepairRule(self, request: pb.RepairRuleRequest, call: Call) -> Operation:
        budget = CpuBudget(call.principal.id, request.cpu_seconds)
        return await self._repairs.repair(call.scope, request.rule, call.once(), budget)

    async def ListRepairs(self, request: pb.ListRepairsRequest, call: Call) -> pb.ListRepairsResponse:
        page = await self._repairs.list(call.scope, request.rule, request.page_size, request.page_token)
        return pb.ListRepairsResponse(repairs=map(repair_to_wire, page.items), next_page_token=page.next_token)
