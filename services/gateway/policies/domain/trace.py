"""Explains decisions: each rule with the comparisons of its conditions. Slower than `compiled`, with equal results."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.gateway.access.networks import inside
from services.gateway.policies.domain.rules import ANY, DAYS, Effect, Facts, Rule, What, When, Who


class Comparison(NamedTuple):
    """A value of a rule, that of the request, and whether they match."""

    condition: str
    expected: str
    found: str
    holds: bool


class Trace(NamedTuple):
    """The evaluation of a rule."""

    rule: Rule
    refuses: bool
    comparisons: tuple[Comparison, ...]


def trace(rule: Rule, facts: Facts) -> Trace:
    """Evaluates a rule for a request."""
    about = (*_who(rule.who, facts), *_what(rule.what, facts))
    conditions = (*_when(rule.when, facts), *_where(rule.networks, facts), *_amount(rule, facts))
    meant, held = all(one.holds for one in about), all(one.holds for one in conditions)
    refuses = meant and (held if rule.effect is Effect.DENY else not held)
    return Trace(rule, refuses, about + conditions)


def _who(who: Who, facts: Facts) -> Iterator[Comparison]:
    yield from _listed("who.principals", who.principals, facts.principal)
    yield from _listed("who.except_principals", who.except_principals, facts.principal, unless=True)
    yield from _listed("who.kinds", who.kinds, facts.kind)
    yield from _shared("who.roles", who.roles, facts.roles)
    yield from _shared("who.groups", who.groups, facts.groups)


def _what(what: What, facts: Facts) -> Iterator[Comparison]:
    yield from _listed("what.permissions", what.permissions, facts.permission)
    yield from _listed("what.except_permissions", what.except_permissions, facts.permission, unless=True)
    yield from _listed("what.methods", what.methods, facts.method)
    yield from _listed("what.objects", what.objects, facts.thing, named=True)
    yield from _listed("what.projects", what.projects, facts.project)
    yield from _listed("what.models", what.models, facts.model, named=True)
    for name, value in what.labels:
        has = facts.labels.get(name)
        yield Comparison(f"what.labels.{name}", value, has or "", has is not None and value in (ANY, has))


def _when(when: When, facts: Facts) -> Iterator[Comparison]:
    moment = facts.time.isoformat()
    if when.not_before:
        yield Comparison("when.not_before", when.not_before.isoformat(), moment, facts.time >= when.not_before)
    if when.not_after:
        yield Comparison("when.not_after", when.not_after.isoformat(), moment, facts.time < when.not_after)
    if not (when.days or when.hours):
        return
    there = facts.time.astimezone(ZoneInfo(when.zone))
    if when.days:
        day = DAYS[there.weekday()]
        yield Comparison("when.days", ", ".join(when.days), f"{day} in {when.zone}", day in when.days)
    if when.hours:
        clock = f"{there.hour:02}:{there.minute:02}"
        times = ", ".join(f"{hours.start}-{hours.end}" for hours in when.hours)
        held = any(hours.start <= clock < hours.end for hours in when.hours)
        yield Comparison("when.hours", times, f"{clock} in {when.zone}", held)


def _where(networks: Sequence[str], facts: Facts) -> Iterator[Comparison]:
    if networks:
        held = inside(tuple(networks), facts.address)
        yield Comparison("where.networks", ", ".join(networks), facts.address, held)


def _amount(rule: Rule, facts: Facts) -> Iterator[Comparison]:
    for name, bounds, has in (
        ("rows", rule.rows, facts.rows),
        ("bytes", rule.bytes, facts.bytes),
        ("cost", rule.cost, facts.cost),
    ):
        if bounds:
            yield Comparison(f"how_much.{name}", str(bounds), str(has), bounds.has(has))


def _listed(
    condition: str, patterns: Sequence[str], value: str, unless: bool = False, named: bool = False
) -> Iterator[Comparison]:
    """`unless`: none may fit; `named`: what is empty never fits."""
    if patterns:
        fits = any(value == one or (one.endswith("*") and value.startswith(one[:-1])) for one in patterns)
        yield Comparison(condition, ", ".join(patterns), value, fits != unless and bool(value or not named))


def _shared(condition: str, wanted: Sequence[str], has: Sequence[str]) -> Iterator[Comparison]:
    if wanted:
        yield Comparison(condition, ", ".join(wanted), ", ".join(has), any(one in wanted for one in has))
