"""Policies between the domain and the wire."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from aimass.v1 import policies_pb2 as pb
from services.gateway.policies.domain.rules import (
    DAYS,
    Active,
    Decision,
    Effect,
    Example,
    Facts,
    Hours,
    Range,
    Rule,
    Version,
    What,
    When,
    Who,
)
from services.gateway.policies.domain.trace import Comparison, Trace
from services.kit.errors import InvalidValue, Violation, invalid
from services.kit.timestamps import from_wire, to_wire

EFFECTS = {Effect.DENY: pb.POLICY_EFFECT_DENY, Effect.ALLOW_ONLY: pb.POLICY_EFFECT_ALLOW_ONLY}
_KINDS = {"key": pb.CALLER_KIND_KEY, "user": pb.CALLER_KIND_USER}
_DAYS = {day: number for number, day in enumerate(DAYS, start=1)}


def rules_from_wire(rules: Iterable[pb.PolicyRule]) -> tuple[Rule, ...]:
    """Raises invalid_value for an enum's value that is none."""
    return tuple(_rule(rule, f"/rules/{index}") for index, rule in enumerate(rules))


def _rule(rule: pb.PolicyRule, at: str) -> Rule:
    who, what, when, much = rule.who, rule.what, rule.when, rule.how_much
    lists = {name: tuple(getattr(who, name)) for name in ("principals", "except_principals", "roles", "groups")}
    kinds = tuple(_known(_KINDS, kind, f"{at}/who/kinds/{n}") for n, kind in enumerate(who.kinds))
    about = ("permissions", "except_permissions", "methods", "objects", "projects", "models")
    labels = tuple(sorted(what.labels.items()))
    hours = tuple(Hours(one.__getattribute__("from"), one.to) for one in when.hours)
    days = tuple(_known(_DAYS, day, f"{at}/when/days/{n}") for n, day in enumerate(when.days))
    return Rule(
        rule.name,
        _known(EFFECTS, rule.effect, f"{at}/effect"),
        Who(**lists, kinds=kinds),
        What(**{name: tuple(getattr(what, name)) for name in about}, labels=labels),
        When(when.zone, days, hours, from_wire(when.not_before), from_wire(when.not_after)),
        tuple(rule.where.networks),
        _range(much.rows) if much.HasField("rows") else None,
        _range(much.bytes) if much.HasField("bytes") else None,
        _range(much.cost) if much.HasField("cost") else None,
        rule.description,
    )


def _known(words: Mapping[Any, int], value: int, at: str) -> Any:
    for word, number in words.items():
        if number == value:
            return word
    raise InvalidValue(f"{at[1:].replace('/', '.')} is unknown", [Violation(at, "must be one of the contract's")])


def _range(bounds: pb.PolicyRange) -> Range:
    return Range(bounds.min, bounds.max)


def rule_to_wire(rule: Rule) -> pb.PolicyRule:
    """A rule as callers see it."""
    who, what, when = rule.who, rule.what, rule.when
    sent = pb.PolicyRule(name=rule.name, description=rule.description, effect=EFFECTS[rule.effect])
    if who != Who():
        kinds = [_KINDS[kind] for kind in who.kinds]
        sent.who.CopyFrom(pb.PolicyWho(**vars(who) | {"kinds": kinds}))
    if what != What():
        sent.what.CopyFrom(pb.PolicyWhat(**vars(what) | {"labels": dict(what.labels)}))
    if when != When():
        sent.when.CopyFrom(_when_to_wire(when))
    if rule.networks:
        sent.where.networks.extend(rule.networks)
    for name, bounds in (("rows", rule.rows), ("bytes", rule.bytes), ("cost", rule.cost)):
        if bounds:
            getattr(sent.how_much, name).CopyFrom(pb.PolicyRange(min=bounds.least, max=bounds.most))
    return sent


def _when_to_wire(when: When) -> pb.PolicyWhen:
    return pb.PolicyWhen(
        zone=when.zone,
        days=[_DAYS[day] for day in when.days],  # type: ignore[misc]
        hours=[pb.PolicyHours(**{"from": hours.start, "to": hours.end}) for hours in when.hours],
        not_before=to_wire(when.not_before),
        not_after=to_wire(when.not_after),
    )


def facts_from_wire(request: pb.PolicyRequest, now: datetime) -> Facts:
    """A request; what it does not say of time and project is now and `default`."""
    return Facts(
        request.principal,
        request.permission,
        from_wire(request.time) or now,
        request.method,
        request.object,
        request.project or "default",
        tuple(request.roles),
        tuple(request.groups),
        dict(request.labels),
        request.address,
        request.rows,
        request.bytes,
        request.cost or 1,
    )


def facts_to_wire(facts: Facts) -> pb.PolicyRequest:
    """A request as callers see it."""
    return pb.PolicyRequest(
        principal=facts.principal,
        roles=facts.roles,
        groups=facts.groups,
        permission=facts.permission,
        method=facts.method,
        object=facts.thing,
        project=facts.project,
        labels=facts.labels,
        time=to_wire(facts.time),
        address=facts.address,
        rows=facts.rows,
        bytes=facts.bytes,
        cost=facts.cost,
    )


def examples_from_wire(examples: Iterable[pb.PolicyExample], now: datetime) -> tuple[Example, ...]:
    """Raises invalid_value for an outcome that no rule has."""
    found = []
    for index, example in enumerate(examples):
        if example.outcome not in (pb.POLICY_OUTCOME_ALLOWED, pb.POLICY_OUTCOME_REFUSED):
            rule = "must be POLICY_OUTCOME_ALLOWED or POLICY_OUTCOME_REFUSED"
            raise invalid(f"/examples/{index}/outcome", rule)
        timeless = not example.request.HasField("time")
        allowed = example.outcome == pb.POLICY_OUTCOME_ALLOWED
        found.append(Example(example.name, facts_from_wire(example.request, now), allowed, timeless))
    return tuple(found)


def example_to_wire(example: Example) -> pb.PolicyExample:
    """An example as callers see it."""
    request = facts_to_wire(example.facts)
    if example.timeless:
        request.ClearField("time")
    return pb.PolicyExample(name=example.name, request=request, outcome=outcome(example.allowed))


def outcome(allowed: bool) -> pb.PolicyOutcome.ValueType:
    """What rules come to."""
    return pb.POLICY_OUTCOME_ALLOWED if allowed else pb.POLICY_OUTCOME_REFUSED


def decision_to_wire(decision: Decision) -> pb.Decision:
    """What was decided, as callers see it."""
    return pb.Decision(
        decision=decision.decision,
        request=facts_to_wire(decision.facts),
        outcome=outcome(not decision.rule),
        rule=decision.rule,
        version=decision.version,
    )


def change_to_wire(decision: Decision, rule: str) -> pb.DecisionChange:
    """A decision that would be another by a rule, or by none."""
    return pb.DecisionChange(decision=decision_to_wire(decision), outcome=outcome(not rule), rule=rule)


def version_to_wire(version: Version, active: int = 0) -> pb.PolicyVersion:
    """A version as callers see it; `active` is the number of the active one."""
    return pb.PolicyVersion(
        version=version.version,
        description=version.description,
        rules=map(rule_to_wire, version.rules),
        examples=map(example_to_wire, version.examples),
        warnings=[pb.PolicyWarning(rule=doubt.rule, text=doubt.text) for doubt in version.doubts],
        principal=version.principal,
        create_time=to_wire(version.create_time),
        test_time=to_wire(version.test_time),
        active=version.version == active,
    )


def active_to_wire(active: Active) -> pb.ActivePolicies:
    """Which version is active, as callers and listeners see it."""
    return pb.ActivePolicies(
        version=active.version,
        principal=active.principal,
        activate_time=to_wire(active.activate_time),
        etag=str(active.generation),
    )


def trace_to_wire(trace: Trace) -> pb.PolicyTrace:
    """What a rule comes to, as callers see it."""
    return pb.PolicyTrace(
        rule=trace.rule.name,
        effect=EFFECTS[trace.rule.effect],
        refuses=trace.refuses,
        comparisons=map(_comparison, trace.comparisons),
    )


def _comparison(made: Comparison) -> pb.PolicyComparison:
    return pb.PolicyComparison(**made._asdict())
