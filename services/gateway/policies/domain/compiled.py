"""Compiled rules: those of a method are looked up, their conditions are closures."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.gateway.access import networks
from services.gateway.policies.domain.rules import ANY, DAYS, Effect, Facts, Rule, What, When, Who

Test = Callable[[Facts], bool]
Texts = Callable[[str], bool]
_MOST = 1000  # pairs of permission and method that are remembered


class _Ready(NamedTuple):
    """A rule: all of `about` must fit; then it refuses if all `conditions` hold, or, for `only`, if one does not."""

    name: str
    about: tuple[Test, ...]
    conditions: tuple[Test, ...]
    only: bool

    def refuses(self, facts: Facts) -> bool:
        if not all(test(facts) for test in self.about):
            return False
        return self.only != all(test(facts) for test in self.conditions)


class Compiled:
    """The rules of a version."""

    def __init__(self, rules: Sequence[Rule], version: int = 0) -> None:
        self.version = version
        self._rules = [(_permitted(rule.what), _named(rule.what.methods), _ready(rule)) for rule in rules]
        self._about: dict[tuple[str, str], tuple[_Ready, ...]] = {}

    def refusing(self, facts: Facts) -> str:
        """The name of the first rule that refuses a request; empty: none does."""
        key = facts.permission, facts.method
        if (rules := self._about.get(key)) is None:
            rules = self._find(*key)
        for rule in rules:
            if rule.refuses(facts):
                return rule.name
        return ""

    def _find(self, permission: str, method: str) -> tuple[_Ready, ...]:
        if len(self._about) >= _MOST:
            self._about.clear()
        found = tuple(rule for may, named, rule in self._rules if may(permission) and named(method))
        self._about[permission, method] = found
        return found


def _named(patterns: Sequence[str]) -> Texts:
    """Whether a name is one of some, or begins as one that ends with `*`; none: every name is."""
    if not patterns:
        return lambda name: True
    exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
    begins = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return lambda name: name in exact or name.startswith(begins)


def _permitted(what: What) -> Texts:
    """Matches patterns of permissions as those of roles."""
    named, excepted = _named(what.permissions), _named(what.except_permissions)
    if not what.except_permissions:
        return named
    return lambda permission: named(permission) and not excepted(permission)


def _ready(rule: Rule) -> _Ready:
    conditions = (*_times(rule.when), *_places(rule.networks), *_amounts(rule))
    return _Ready(rule.name, (*_callers(rule.who), *_things(rule.what)), conditions, rule.effect is Effect.ALLOW_ONLY)


def _callers(who: Who) -> list[Test]:
    found: list[Test] = []
    kinds, roles, groups = frozenset(who.kinds), frozenset(who.roles), frozenset(who.groups)
    named, excepted = _named(who.principals), _named(who.except_principals)
    if who.principals:
        found.append(lambda facts: named(facts.principal))
    if who.except_principals:
        found.append(lambda facts: not excepted(facts.principal))
    if kinds:
        found.append(lambda facts: facts.kind in kinds)
    if roles:
        found.append(lambda facts: not roles.isdisjoint(facts.roles))
    if groups:
        found.append(lambda facts: not groups.isdisjoint(facts.groups))
    return found


def _things(what: What) -> list[Test]:
    found: list[Test] = []
    objects, projects, models = _named(what.objects), _named(what.projects), _named(what.models)
    if what.objects:
        found.append(lambda facts: bool(facts.thing) and objects(facts.thing))
    if what.projects:
        found.append(lambda facts: projects(facts.project))
    if what.models:
        found.append(lambda facts: bool(facts.model) and models(facts.model))
    found += [_labelled(*label) for label in what.labels]
    return found


def _labelled(name: str, value: str) -> Test:
    if value == ANY:
        return lambda facts: name in facts.labels
    return lambda facts: facts.labels.get(name) == value


def _times(when: When) -> list[Test]:
    found: list[Test] = []
    if first := when.not_before:
        found.append(lambda facts: facts.time >= first)
    if last := when.not_after:
        found.append(lambda facts: facts.time < last)
    if when.days or when.hours:
        found.append(_clock(ZoneInfo(when.zone), when))
    return found


def _clock(zone: ZoneInfo, when: When) -> Test:
    """A table of the week's days, each with the minutes that are meant."""
    parts = tuple(hours.minutes for hours in when.hours) or ((0, 24 * 60),)
    week = tuple(parts if not when.days or day in when.days else () for day in DAYS)

    def holds(facts: Facts) -> bool:
        there = facts.time.astimezone(zone)
        minute = there.hour * 60 + there.minute
        return any(first <= minute < last for first, last in week[there.weekday()])

    return holds


def _places(ranges: Sequence[str]) -> list[Test]:
    if not ranges:
        return []
    known = tuple(ranges)
    return [lambda facts: networks.inside(known, facts.address)]


def _amounts(rule: Rule) -> list[Test]:
    found: list[Test] = []
    if rows := rule.rows:
        found.append(lambda facts: rows.has(facts.rows))
    if size := rule.bytes:
        found.append(lambda facts: size.has(facts.bytes))
    if cost := rule.cost:
        found.append(lambda facts: cost.has(facts.cost))
    return found
