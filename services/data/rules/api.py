"""The RPCs of rules."""

from aimass.v1 import rules_pb2 as pb
from services.data.discovery.service import Discoveries
from services.data.discovery.wire import discovery_to_wire, joins_to_wire
from services.data.metering.domain import CpuBudget
from services.data.rules.service import Rules
from services.data.rules.wire import definition_of, rule_to_wire, trial_to_wire
from services.kit.rpc import Call


class RulesApi:
    """aimass.v1.Rules."""

    def __init__(self, rules: Rules, discoveries: Discoveries) -> None:
        self._rules, self._discoveries = rules, discoveries

    async def CreateRule(self, request: pb.CreateRuleRequest, call: Call) -> pb.Rule:
        once, definition = call.once(rule_to_wire), definition_of(request.definition)
        made = await self._rules.create(call.scope, request.rule, request.source, request.data_set, definition, once)
        return rule_to_wire(made)

    async def CreateRuleVersion(self, request: pb.CreateRuleVersionRequest, call: Call) -> pb.Rule:
        once, definition = call.once(rule_to_wire), definition_of(request.definition)
        return rule_to_wire(await self._rules.extend(call.scope, request.rule, definition, once))

    async def GetRule(self, request: pb.GetRuleRequest, call: Call) -> pb.Rule:
        return rule_to_wire(await self._rules.get(call.scope, request.rule, request.version))

    async def ListRules(self, request: pb.ListRulesRequest, call: Call) -> pb.ListRulesResponse:
        page = await self._rules.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        return pb.ListRulesResponse(rules=[rule_to_wire(rule) for rule in page.items], next_page_token=page.next_token)

    async def TestRule(self, request: pb.TestRuleRequest, call: Call) -> pb.TestRuleResponse:
        landed_for = call.principal if request.landed else None
        asked = request.rule, request.version, request.records
        return trial_to_wire(await self._rules.test(call.scope, *asked, landed_for))

    async def DiscoverRules(self, request: pb.DiscoverRulesRequest, call: Call) -> pb.DiscoverRulesResponse:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        sample = request.source, request.records
        landed_for = call.principal if request.landed else None
        found = await self._discoveries.discover(
            call.scope, *sample, call.remaining(), budget, reservation, request.check_urls, landed_for
        )
        return discovery_to_wire(found)

    async def DiscoverJoins(self, request: pb.DiscoverJoinsRequest, call: Call) -> pb.DiscoverJoinsResponse:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        sample = request.sources, request.records
        found = await self._discoveries.joins(call.scope, *sample, call.remaining(), budget, reservation)
        return joins_to_wire(*found)

    async def ActivateRule(self, request: pb.ActivateRuleRequest, call: Call) -> pb.Rule:
        etag = request.etag or call.etag
        return rule_to_wire(await self._rules.activate(call.scope, request.rule, request.version, etag))

    async def DeleteRule(self, request: pb.DeleteRuleRequest, call: Call) -> pb.Rule:
        return rule_to_wire(await self._rules.delete(call.scope, request.rule, call.etag))

    async def UndeleteRule(self, request: pb.UndeleteRuleRequest, call: Call) -> pb.Rule:
        return rule_to_wire(await self._rules.undelete(call.scope, request.rule))
