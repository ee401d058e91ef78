"""Probable mistakes in rules: one that can never apply, or is about the same as one before it."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from services.gateway.policies.domain.rules import ANY, DAYS, Doubt, Effect, Range, Rule, What, When, Who

_MOST = 100


class Kind(NamedTuple):
    """A kind of request: its permission, and the template of its object."""

    permission: str
    method: str
    resource: str
    cost: int = 1
    # It has rows and a version with labels.
    prediction: bool = False


def doubts(rules: Sequence[Rule], kinds: Sequence[Kind], now: datetime) -> tuple[Doubt, ...]:
    """At most 100, by rule."""
    found: list[Doubt] = []
    for index, rule in enumerate(rules):
        found += [Doubt(rule.name, text) for text in _own(rule, kinds, now)]
        found += _before(rule, rules[:index])
        if len(found) >= _MOST:
            break
    return tuple(found[:_MOST])


def _own(rule: Rule, kinds: Sequence[Kind], now: datetime) -> Iterator[str]:
    if rule.effect is Effect.ALLOW_ONLY and not rule.conditional:
        yield "can never apply: it allows only without a condition"
    if not any(_is_about(rule, kind) for kind in kinds):
        yield "can never apply: no request is what it is about"
    if _nobody(rule.who):
        yield "can never apply: no caller is whom it is about"
    if rule.when.not_after and rule.when.not_after <= now:
        ended = "can never apply" if rule.effect is Effect.DENY else "refuses all that it is about"
        yield f"{ended}: its time is over"


def _is_about(rule: Rule, kind: Kind) -> bool:
    what = rule.what
    if not _fits(what.permissions, kind.permission) or not _fits(what.methods, kind.method):
        return False
    if what.except_permissions and _fits(what.except_permissions, kind.permission):
        return False
    collection, _, named = kind.resource.partition("/")
    if (what.objects or what.models) and not named:
        return False
    if what.objects and collection not in {one.partition("/")[0] for one in what.objects}:
        return False
    if (what.models and collection != "models") or (what.labels and not kind.prediction):
        return False
    denies = rule.effect is Effect.DENY
    if denies and rule.rows and rule.rows.least and not kind.prediction:
        return False
    return not (denies and rule.cost and not rule.cost.has(kind.cost))


def _nobody(who: Who) -> bool:
    if who.kinds == ("key",) and who.groups:
        return True  # groups are what tokens name
    if who.principals and who.kinds and not any(one.partition(":")[0] in who.kinds for one in who.principals):
        return True
    return bool(who.principals and who.except_principals) and _within(who.principals, who.except_principals)


def _before(rule: Rule, others: Sequence[Rule]) -> Iterator[Doubt]:
    for other in others:
        if _hides(other, rule):
            yield Doubt(rule.name, f"can never decide: {other.name} before it refuses all of it")
            return
    for other in others:
        if _meets(other, rule):
            yield Doubt(rule.name, f"is about some of what {other.name} before it refuses, which is then named")


def _hides(first: Rule, second: Rule) -> bool:
    """Whether a rule refuses all that another would; False where that is not certain."""
    if not (_who_within(second.who, first.who) and _what_within(second.what, first.what)):
        return False
    if first.effect is Effect.DENY:
        # What the second refuses beside its conditions is everything, unless it denies.
        return _conditions_within(second, first) if second.effect is Effect.DENY else not first.conditional
    return second.effect is Effect.ALLOW_ONLY and _conditions_within(first, second)


def _who_within(inner: Who, outer: Who) -> bool:
    return (
        _within(inner.principals, outer.principals)
        and _still(outer.except_principals, inner.except_principals)
        and all(_subset(getattr(inner, name), getattr(outer, name)) for name in ("kinds", "roles", "groups"))
    )


def _what_within(inner: What, outer: What) -> bool:
    lists = ("permissions", "methods", "objects", "projects", "models")
    labels = dict(inner.labels)
    return (
        all(_within(getattr(inner, name), getattr(outer, name)) for name in lists)
        and _still(outer.except_permissions, inner.except_permissions)
        and all(name in labels and value in (ANY, labels[name]) for name, value in outer.labels)
    )


def _conditions_within(inner: Rule, outer: Rule) -> bool:
    return (
        _when_within(inner.when, outer.when)
        and _networks_within(inner.networks, outer.networks)
        and all(_range_within(getattr(inner, n), getattr(outer, n)) for n in ("rows", "bytes", "cost"))
    )


def _when_within(inner: When, outer: When) -> bool:
    if (outer.days or outer.hours) and inner.zone != outer.zone:
        return False
    if outer.not_before and not (inner.not_before and inner.not_before >= outer.not_before):
        return False
    if outer.not_after and not (inner.not_after and inner.not_after <= outer.not_after):
        return False
    hours = inner.hours and all(any(_hour_within(h, o) for o in _minutes(outer)) for h in _minutes(inner))
    return _subset(inner.days, outer.days) and bool(not outer.hours or hours)


def _minutes(when: When) -> list[tuple[int, int]]:
    return [hours.minutes for hours in when.hours] or [(0, 24 * 60)]


def _hour_within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _networks_within(inner: Sequence[str], outer: Sequence[str]) -> bool:
    if not outer:
        return True
    known = [ipaddress.ip_network(network) for network in outer]
    return bool(inner) and all(any(_subnet(ipaddress.ip_network(one), other) for other in known) for one in inner)


def _subnet(inner: object, outer: object) -> bool:
    same = type(inner) is type(outer)
    return same and bool(inner.subnet_of(outer))  # type: ignore[attr-defined]


def _range_within(inner: Range | None, outer: Range | None) -> bool:
    if outer is None:
        return True
    ends = inner is not None and (not outer.most or bool(inner.most and inner.most <= outer.most))
    return ends and inner is not None and inner.least >= outer.least


def _subset(inner: Sequence[str], outer: Sequence[str]) -> bool:
    return not outer or (bool(inner) and set(inner) <= set(outer))


def _still(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Whether the exceptions of one rule are exceptions of the other as well."""
    return not outer or (bool(inner) and _within(outer, inner))


def _within(inner: Sequence[str], outer: Sequence[str]) -> bool:
    """Whether patterns match nothing that others do not match; no patterns match everything."""
    return not outer or (bool(inner) and all(_fits(outer, one) for one in inner))


def _fits(patterns: Sequence[str], name: str) -> bool:
    """Whether patterns match a name, or all that a pattern matches; no patterns match everything."""
    begins = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return not patterns or name in patterns or name.startswith(begins)


def _meets(first: Rule, second: Rule) -> bool:
    """Whether both may refuse one request; True where that is not certain."""
    lists = ("permissions", "methods", "objects", "projects", "models")
    if not _share(first.who.principals, second.who.principals) or _apart(first.who.kinds, second.who.kinds):
        return False
    if not all(_share(getattr(first.what, name), getattr(second.what, name)) for name in lists):
        return False
    if _differ(dict(first.what.labels), dict(second.what.labels)):
        return False
    return Effect.ALLOW_ONLY in (first.effect, second.effect) or _together(first, second)


def _together(first: Rule, second: Rule) -> bool:
    """Whether the conditions of both can hold at once."""
    ranges = ((getattr(first, name), getattr(second, name)) for name in ("rows", "bytes", "cost"))
    if any(a and b and not (_reaches(a, b) and _reaches(b, a)) for a, b in ranges):
        return False
    if first.networks and second.networks:
        known = [ipaddress.ip_network(network) for network in second.networks]
        if not any(ipaddress.ip_network(one).overlaps(other) for one in first.networks for other in known):
            return False
    return _at_once(first.when, second.when) and _at_once(second.when, first.when)


def _at_once(first: When, second: When) -> bool:
    if first.not_after and second.not_before and first.not_after <= second.not_before:
        return False
    if not first.zone or first.zone != second.zone:
        return True
    both = set(first.days or DAYS) & set(second.days or DAYS)
    return bool(both) and any(a[0] < b[1] and b[0] < a[1] for a in _minutes(first) for b in _minutes(second))


def _reaches(first: Range, second: Range) -> bool:
    return not first.most or first.most >= second.least


def _apart(first: Sequence[str], second: Sequence[str]) -> bool:
    return bool(first and second) and not set(first) & set(second)


def _differ(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    return any(ANY not in (value, second.get(name, ANY)) and value != second[name] for name, value in first.items())


def _share(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether some name matches both lists of patterns; an empty list matches all."""
    if not first or not second:
        return True
    return any(_fits(first, one) for one in second) or any(_fits(second, one) for one in first)
