"""The RPCs of rule sets."""

from aimass.v1 import rule_sets_pb2 as pb
from services.data.rule_sets.service import RuleSets
from services.data.rule_sets.wire import drafts_of, match_of, rule_set_to_wire, trial_to_wire
from services.kit.rpc import Call


class RuleSetsApi:
    """aimass.v1.RuleSets."""

    def __init__(self, rule_sets: RuleSets) -> None:
        self._rule_sets = rule_sets

    async def CreateRuleSet(self, request: pb.CreateRuleSetRequest, call: Call) -> pb.RuleSet:
        once, said = call.once(rule_set_to_wire), (request.rule_set, request.source, request.data_set)
        match, drafts = match_of(request.match), drafts_of(request.rules)
        return rule_set_to_wire(await self._rule_sets.create(call.scope, *said, match, drafts, once))

    async def CreateRuleSetVersion(self, request: pb.CreateRuleSetVersionRequest, call: Call) -> pb.RuleSet:
        once, match, drafts = call.once(rule_set_to_wire), match_of(request.match), drafts_of(request.rules)
        return rule_set_to_wire(await self._rule_sets.extend(call.scope, request.rule_set, match, drafts, once))

    async def GetRuleSet(self, request: pb.GetRuleSetRequest, call: Call) -> pb.RuleSet:
        return rule_set_to_wire(await self._rule_sets.get(call.scope, request.rule_set, request.version))

    async def ListRuleSets(self, request: pb.ListRuleSetsRequest, call: Call) -> pb.ListRuleSetsResponse:
        page = await self._rule_sets.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        found = [rule_set_to_wire(view) for view in page.items]
        return pb.ListRuleSetsResponse(rule_sets=found, next_page_token=page.next_token)

    async def TestRuleSet(self, request: pb.TestRuleSetRequest, call: Call) -> pb.TestRuleSetResponse:
        landed_for = call.principal if request.landed else None
        asked = request.rule_set, request.version, request.records
        trial = await self._rule_sets.test(call.scope, *asked, landed_for)
        return trial_to_wire(trial)

    async def ActivateRuleSet(self, request: pb.ActivateRuleSetRequest, call: Call) -> pb.RuleSet:
        etag = request.etag or call.etag
        return rule_set_to_wire(await self._rule_sets.activate(call.scope, request.rule_set, request.version, etag))

    async def DeleteRuleSet(self, request: pb.DeleteRuleSetRequest, call: Call) -> pb.RuleSet:
        return rule_set_to_wire(await self._rule_sets.delete(call.scope, request.rule_set, call.etag))

    async def UndeleteRuleSet(self, request: pb.UndeleteRuleSetRequest, call: Call) -> pb.RuleSet:
        return rule_set_to_wire(await self._rule_sets.undelete(call.scope, request.rule_set))
