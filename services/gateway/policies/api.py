"""The RPCs of Policies, and their events."""

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import policies_pb2 as pb
from services.gateway.policies import wire
from services.gateway.policies.service import Explanation, Policies, Wanted
from services.gateway.roles.domain import Grant
from services.kit.errors import invalid
from services.kit.inbox import Delivery
from services.kit.rpc import Call
from services.kit.timestamps import to_wire


class PoliciesApi:
    """Servicer of aimass.v1.Policies."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def CreatePolicyVersion(self, request: pb.CreatePolicyVersionRequest, call: Call) -> pb.PolicyVersion:
        examples = wire.examples_from_wire(request.examples, call.now())
        wanted = Wanted(request.description, wire.rules_from_wire(request.rules), examples)
        return wire.version_to_wire(
            await self._policies.create(call.principal, wanted, call.once(wire.version_to_wire))
        )

    async def GetPolicyVersion(self, request: pb.GetPolicyVersionRequest, call: Call) -> pb.PolicyVersion:
        found = await self._policies.version(call.principal, request.version)
        return wire.version_to_wire(found, (await self._policies.active(call.principal)).version)

    async def ListPolicyVersions(
        self, request: pb.ListPolicyVersionsRequest, call: Call
    ) -> pb.ListPolicyVersionsResponse:
        page = await self._policies.versions(call.principal, request.page_size, request.page_token)
        active = (await self._policies.active(call.principal)).version
        found = [wire.version_to_wire(version, active) for version in page.items]
        return pb.ListPolicyVersionsResponse(versions=found, next_page_token=page.next_token)

    async def GetPolicies(self, request: pb.GetPoliciesRequest, call: Call) -> pb.ActivePolicies:
        return wire.active_to_wire(await self._policies.active(call.principal))

    async def TestPolicies(self, request: pb.TestPoliciesRequest, call: Call) -> pb.TestPoliciesResponse:
        made = await self._policies.test(call.principal, request.version, request.page_size, request.page_token)
        wrong = [
            pb.FailedExample(name=one.example.name, outcome=wire.outcome(not one.rule), rule=one.rule)
            for one in made.failed
        ]
        changed = [wire.change_to_wire(one.decision, one.rule) for one in made.changes.items]
        return pb.TestPoliciesResponse(
            version=made.version.version,
            failed_examples=wrong,
            test_time=to_wire(made.version.test_time),
            decisions=made.decisions,
            newly_refused=made.newly_refused,
            newly_allowed=made.newly_allowed,
            changes=changed,
            next_page_token=made.changes.next_token,
        )

    async def ListDecisions(self, request: pb.ListDecisionsRequest, call: Call) -> pb.ListDecisionsResponse:
        page = await self._policies.decisions(call.principal, request.page_size, request.page_token)
        found = map(wire.decision_to_wire, page.items)
        return pb.ListDecisionsResponse(decisions=found, next_page_token=page.next_token)

    async def ActivatePolicies(self, request: pb.ActivatePoliciesRequest, call: Call) -> pb.ActivePolicies:
        return wire.active_to_wire(await self._policies.activate(call.principal, request.version, request.etag))

    async def ExplainDecision(self, request: pb.ExplainDecisionRequest, call: Call) -> pb.DecisionExplanation:
        if request.HasField("request") == bool(request.decision):
            raise invalid("/request", "must be set, or a decision and not both")
        if request.decision:
            asked = await self._policies.recorded(call.principal, request.decision)
        else:
            asked = wire.facts_from_wire(request.request, call.now())
        return explanation_to_wire(await self._policies.explain(call.principal, asked, request.version))

    async def changed(self, message: events.PoliciesChanged, delivery: Delivery) -> None:
        """Another gateway, or this one, activated policies."""
        await self._policies.following.reload()


def explanation_to_wire(made: Explanation) -> pb.DecisionExplanation:
    """The decision on a request, and its reasons."""
    outcome, reason = _outcome(made)
    return pb.DecisionExplanation(
        outcome=outcome,
        reason=reason,
        version=made.version,
        rule=made.rule,
        permitted_by=[source for grant in made.permitted_by for source in _sources(grant)],
        rules=map(wire.trace_to_wire, made.rules),
        request=wire.facts_to_wire(made.facts),
    )


def _outcome(made: Explanation) -> tuple[pb.PolicyOutcome.ValueType, str]:
    wanted = f"{made.facts.permission} on {made.facts.thing or 'all objects'} in project {made.facts.project}"
    if not made.permitted_by:
        return pb.POLICY_OUTCOME_NOT_PERMITTED, f"nothing gives {made.facts.principal} {wanted}"
    if made.rule:
        return pb.POLICY_OUTCOME_REFUSED, f"the rule {made.rule} of policies version {made.version} refuses it"
    rules = f"no rule of policies version {made.version} refuses it" if made.version else "no policies are active"
    return pb.POLICY_OUTCOME_ALLOWED, f"{made.facts.principal} has {wanted}, and {rules}"


def _sources(grant: Grant) -> list[pb.PermissionSource]:
    return [pb.PermissionSource(permission=p, role=grant.role, binding=grant.binding) for p in grant.permissions]
