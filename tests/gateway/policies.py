"""Rules and requests as hypothesis makes them, and a plain reading of the rules that the quick one is measured by."""

import ipaddress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from services.gateway.policies.domain.rules import DAYS, Effect, Facts, Hours, Range, Rule, What, When, Who

NOON = datetime(2030, 6, 5, 12, tzinfo=UTC)  # a Wednesday
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati")
PERMISSIONS = ("models.infer", "models.get", "versions.promote", "sources.list")
PERMISSION_PATTERNS = (*PERMISSIONS, "models.*", "*")
METHODS = (
    "inference.GRPCInferenceService/ModelInfer",
    "aimass.v1.Models/GetModel",
    "aimass.v1.Releases/PromoteVersion",
)
METHOD_PATTERNS = (*METHODS, "aimass.v1.Models/*")
PRINCIPALS = ("key:abcd1234", "key:abxy9999", "user:corp:alice", "user:corp:bob", "user:other:eve")
PRINCIPAL_PATTERNS = (*PRINCIPALS, "key:ab*", "user:corp:*", "user:*")
THINGS = ("models/fraud-eu", "models/fraud-us", "models/late", "data-sets/flights", "")
THING_PATTERNS = ("models/fraud-*", "models/late", "data-sets/*")
MODEL_PATTERNS = ("fraud-*", "late", "*")
PROJECTS, PROJECT_PATTERNS = ("default", "team-a", "team-b"), ("default", "team-*", "*")
ROLES, GROUPS = ("viewer", "operator", "scorer"), ("group:corp:analysts", "group:corp:guests")
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "192.168.7.1/32", "2001:db8::/32", "0.0.0.0/0")
ADDRESSES = ("10.1.2.3", "10.9.9.9", "192.168.7.1", "2001:db8::5", "::ffff:10.1.2.3", "fe80::1", "", "unix")
LABELS = {"risk": ("high", "low"), "team": ("fraud",)}


def some(values: tuple[str, ...], most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


def texts(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


hours = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).map(
    lambda pair: Hours(texts(min(pair)), texts(max(pair))) if pair[0] != pair[1] else Hours("00:00", "24:00")
)
labels = st.dictionaries(st.sampled_from(tuple(LABELS)), st.sampled_from(("high", "low", "fraud", "*")), max_size=2)
moments = st.integers(-20_000, 20_000).map(lambda minutes: NOON + timedelta(minutes=minutes))
ranges = st.none() | st.tuples(st.integers(0, 50), st.integers(0, 50)).map(
    lambda pair: Range(min(pair), max(pair)) if pair[0] else Range(pair[1], 0)
)
rules = st.builds(
    Rule,
    st.uuids().map(lambda found: f"r{found.hex[:8]}"),
    st.sampled_from(Effect),
    st.builds(
        Who,
        some(PRINCIPAL_PATTERNS),
        some(PRINCIPAL_PATTERNS, 1),
        some(("key", "user")),
        some(ROLES),
        some(GROUPS, 1),
    ),
    st.builds(
        What,
        some(PERMISSION_PATTERNS),
        some(PERMISSION_PATTERNS, 1),
        some(METHOD_PATTERNS, 1),
        some(THING_PATTERNS),
        some(PROJECT_PATTERNS, 1),
        some(MODEL_PATTERNS, 1),
        labels.map(lambda found: tuple(sorted(found.items()))),
    ),
    st.builds(
        When,
        st.sampled_from(ZONES),
        some(DAYS, 5),
        st.lists(hours, max_size=2).map(tuple),
        st.none() | moments,
        st.none() | moments,
    ),
    some(NETWORKS),
    ranges,
    ranges,
    ranges,
)
requests = st.builds(
    Facts,
    st.sampled_from(PRINCIPALS),
    st.sampled_from(PERMISSIONS),
    moments,
    st.sampled_from(METHODS),
    st.sampled_from(THINGS),
    st.sampled_from(PROJECTS),
    some(ROLES),
    some(GROUPS),
    st.dictionaries(st.sampled_from(tuple(LABELS)), st.sampled_from(("high", "low", "fraud")), max_size=2),
    st.sampled_from(ADDRESSES),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 60),
)


def first_refusing(written: list[Rule], facts: Facts) -> str:
    """The rules read one by one, as the contract's comments say them."""
    for rule in written:
        if is_about(rule, facts):
            held = conditions_hold(rule, facts)
            if held if rule.effect is Effect.DENY else not held:
                return rule.name
    return ""


def is_about(rule: Rule, facts: Facts) -> bool:
    who, what = rule.who, rule.what
    if who.principals and not any(like(pattern, facts.principal) for pattern in who.principals):
        return False
    if any(like(pattern, facts.principal) for pattern in who.except_principals):
        return False
    if who.kinds and facts.principal.split(":")[0] not in who.kinds:
        return False
    if who.roles and not set(who.roles) & set(facts.roles):
        return False
    if who.groups and not set(who.groups) & set(facts.groups):
        return False
    if what.permissions and not any(like(pattern, facts.permission) for pattern in what.permissions):
        return False
    if any(like(pattern, facts.permission) for pattern in what.except_permissions):
        return False
    if what.methods and not any(like(pattern, facts.method) for pattern in what.methods):
        return False
    if what.objects and not (facts.thing and any(like(pattern, facts.thing) for pattern in what.objects)):
        return False
    if what.projects and not any(like(pattern, facts.project) for pattern in what.projects):
        return False
    model = facts.thing.split("/", 1)[1] if facts.thing.startswith("models/") else ""
    if what.models and not (model and any(like(pattern, model) for pattern in what.models)):
        return False
    return all(name in facts.labels and value in ("*", facts.labels[name]) for name, value in what.labels)


def conditions_hold(rule: Rule, facts: Facts) -> bool:
    when = rule.when
    if when.not_before and facts.time < when.not_before:
        return False
    if when.not_after and facts.time >= when.not_after:
        return False
    there = facts.time.astimezone(ZoneInfo(when.zone)) if when.zone else facts.time
    if when.days and there.strftime("%A").lower() not in when.days:
        return False
    if when.hours and not any(part.start <= there.strftime("%H:%M") < part.end for part in when.hours):
        return False
    if rule.networks and not any(inside(facts.address, network) for network in rule.networks):
        return False
    amounts = ((rule.rows, facts.rows), (rule.bytes, facts.bytes), (rule.cost, facts.cost))
    return all(not said or (said.least <= has and (said.most == 0 or has <= said.most)) for said, has in amounts)


def like(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def inside(address: str, network: str) -> bool:
    try:
        found = ipaddress.ip_address(address.removeprefix("::ffff:"))
    except ValueError:
        return False
    return found in ipaddress.ip_network(network)
