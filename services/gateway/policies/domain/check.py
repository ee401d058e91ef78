"""Whether rules can be meant as they are written; whatever cannot is named with a JSON pointer."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from services.gateway.access import networks
from services.gateway.policies.domain.rules import ANY, Example, Facts, Range, Rule, What, When, Who
from services.kit.errors import InvalidValue, Violation, pointer_part

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_BEGINNING = re.compile(r"([a-z][a-z0-9_-]{0,62}|[a-z][a-z0-9_-]{0,61}\*|\*)\Z")
_PATTERNS = {
    "principals": (
        re.compile(r"(key|user):[!-~]{0,320}\Z"),
        "must be as key:abcd1234, user:corp:alice, or key:*",
    ),
    "permissions": (re.compile(r"(\*|[a-z][a-z_]*\.(\*|[a-z][a-z_]*))\Z"), "must be *, models.* or models.get"),
    "methods": (
        re.compile(r"[A-Za-z][A-Za-z0-9_.]*/([A-Za-z]+|\*)\Z"),
        "must be as aimass.v1.Models/GetModel, or end with /*",
    ),
    "objects": (
        re.compile(r"[a-z][a-z-]{0,62}/([A-Za-z0-9._:/-]{1,80}|[A-Za-z0-9._:/-]{0,79}\*)\Z"),
        "must be an object as models/late, or models/fraud-*",
    ),
    "projects": (_BEGINNING, "must be a name, or the beginning of one and *"),
    "models": (_BEGINNING, "must be a name, or the beginning of one and *"),
    "roles": (_NAME, "must be the name of a role"),
    "groups": (re.compile(r"[^\0]+\Z"), "must not be empty"),
}
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z|24:00\Z")
_FIRST, _LAST = 1970, 9000  # years
_VALUE = re.compile(r"([A-Za-z0-9._-]{1,63}|\*)\Z")


def check(rules: Sequence[Rule], examples: Sequence[Example]) -> None:
    """Raises invalid_value with everything that cannot be meant."""
    found = [*_twice("rules", [rule.name for rule in rules]), *_twice("examples", [one.name for one in examples])]
    for index, rule in enumerate(rules):
        found += _rule(rule, f"/rules/{index}")
    timed = any(rule.when != When() for rule in rules)
    for index, example in enumerate(examples):
        found += _example(example, timed, f"/examples/{index}/request")
    _refuse(found)


def _refuse(found: Sequence[Violation]) -> None:
    if found:
        raise InvalidValue(f"{found[0].pointer[1:].replace('/', '.')} {found[0].rule}", found)


def _twice(kind: str, names: Sequence[str]) -> Iterator[Violation]:
    counted = Counter(names)
    for index, name in enumerate(names):
        if counted[name] > 1:
            yield Violation(f"/{kind}/{index}/name", "must be the only one of its name")


def _rule(rule: Rule, at: str) -> Iterator[Violation]:
    yield from _who(rule.who, f"{at}/who")
    yield from _what(rule.what, f"{at}/what")
    yield from _when(rule.when, f"{at}/when")
    for index, network in enumerate(rule.networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield Violation(f"{at}/where/networks/{index}", "must be a network as 10.0.0.0/8, with no bits of a host")
    for name, bounds in (("rows", rule.rows), ("bytes", rule.bytes), ("cost", rule.cost)):
        if bounds:
            yield from _range(bounds, f"{at}/how_much/{name}")


def _who(who: Who, at: str) -> Iterator[Violation]:
    yield from _match("principals", who.principals, f"{at}/principals")
    yield from _match("principals", who.except_principals, f"{at}/except_principals")
    yield from _match("roles", who.roles, f"{at}/roles")
    yield from _match("groups", who.groups, f"{at}/groups")


def _what(what: What, at: str) -> Iterator[Violation]:
    yield from _match("permissions", what.permissions, f"{at}/permissions")
    yield from _match("permissions", what.except_permissions, f"{at}/except_permissions")
    for name in ("methods", "objects", "projects", "models"):
        yield from _match(name, getattr(what, name), f"{at}/{name}")
    for name, value in what.labels:
        if not _NAME.match(name) or not _VALUE.match(value):
            rule = f"must be a name with the value of a label, or {ANY} for any"
            yield Violation(f"{at}/labels/{pointer_part(name)}", rule)


def _match(kind: str, values: Sequence[str], at: str) -> Iterator[Violation]:
    pattern, rule = _PATTERNS[kind]
    for index, value in enumerate(values):
        if not pattern.match(value):
            yield Violation(f"{at}/{index}", rule)


def _when(when: When, at: str) -> Iterator[Violation]:
    if (when.days or when.hours) and not when.zone:
        yield Violation(f"{at}/zone", "must be set where days or hours are")
    if when.zone and not known(when.zone):
        yield Violation(f"{at}/zone", "must be a name of the IANA time zones, as Europe/Berlin")
    for index, hours in enumerate(when.hours):
        ends = {"from": hours.start, "to": hours.end}
        wrong = [name for name, text in ends.items() if not _CLOCK.match(text)]
        for name in wrong:
            yield Violation(f"{at}/hours/{index}/{name}", "must be a time of the day as 09:00, at most 24:00")
        if not wrong and hours.start >= hours.end:
            yield Violation(f"{at}/hours/{index}", "must end after it begins: a night is two of them")
    if when.not_before and when.not_after and when.not_before >= when.not_after:
        yield Violation(f"{at}/not_after", "must be after not_before")


def _range(bounds: Range, at: str) -> Iterator[Violation]:
    if bounds.least < 0 or bounds.most < 0:
        yield Violation(at, "must not be negative")
    elif bounds.most and bounds.least > bounds.most:
        yield Violation(at, "must not end before it begins")


def known(zone: str) -> bool:
    """Whether there is such a time zone."""
    try:
        ZoneInfo(zone)
    except (KeyError, OSError, ValueError):  # also names that lead out of the folder of zones, or to none of its files
        return False
    return True


def _example(example: Example, timed: bool, at: str) -> Iterator[Violation]:
    yield from _facts(example.facts, at)
    if timed and example.timeless:
        yield Violation(f"{at}/time", "must be set where a rule asks for the time")


def check_facts(facts: Facts) -> None:
    """Raises invalid_value for what is no request."""
    _refuse(list(_facts(facts, "/request")))


def _facts(facts: Facts, at: str) -> Iterator[Violation]:
    if not _PATTERNS["principals"][0].match(facts.principal) or facts.principal.endswith("*"):
        yield Violation(f"{at}/principal", "must be key:abcd1234 or user:issuer:subject")
    if not _PATTERNS["permissions"][0].match(facts.permission) or "*" in facts.permission:
        yield Violation(f"{at}/permission", "must be a permission as models.infer")
    if facts.address and not networks.inside(networks.ALL, facts.address):
        yield Violation(f"{at}/address", "must be an address as 10.1.2.3")
    if not _FIRST <= facts.time.year <= _LAST:
        yield Violation(f"{at}/time", f"must be in the years {_FIRST} to {_LAST}")
    for name in ("rows", "bytes", "cost"):
        if getattr(facts, name) < 0:
            yield Violation(f"{at}/{name}", "must not be negative")
