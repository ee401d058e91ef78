"""What rules cannot be meant, and what about them is likely not meant."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.gateway.policies import guard
from services.gateway.policies.domain.check import check, check_facts
from services.gateway.policies.domain.doubts import doubts
from services.gateway.policies.domain.rules import Effect, Example, Facts, Hours, Range, Rule, Version, What, When, Who
from services.gateway.policies.service import failed, locking
from services.kit.errors import InvalidValue
from tests.gateway.policies import NOON

DENY, ONLY = Effect.DENY, Effect.ALLOW_ONLY
RULE = Rule("one", DENY)
FACTS = Facts("key:abcd1234", "models.infer", NOON)
ADMIN = Facts("key:abcd1234", "policies.activate", NOON, "aimass.v1.Policies/ActivatePolicies", address="10.1.2.3")
OFFICE = When("Europe/Berlin", ("monday",), (Hours("09:00", "17:00"),))


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ({"who": Who(principals=("alice",))}, "who/principals/0"),
        ({"who": Who(except_principals=("key:*", "service:data"))}, "who/except_principals/1"),
        ({"who": Who(roles=("No Role",))}, "who/roles/0"),
        ({"who": Who(groups=("",))}, "who/groups/0"),
        ({"what": What(permissions=("models",))}, "what/permissions/0"),
        ({"what": What(except_permissions=("models.get", "*.get"))}, "what/except_permissions/1"),
        ({"what": What(methods=("GetModel",))}, "what/methods/0"),
        ({"what": What(objects=("late",))}, "what/objects/0"),
        ({"what": What(projects=("a b",))}, "what/projects/0"),
        ({"what": What(models=("*late",))}, "what/models/0"),
        ({"what": What(labels=(("a/b", "x"),))}, "what/labels/a~1b"),
        ({"what": What(labels=(("risk", "very high"),))}, "what/labels/risk"),
        ({"when": When(days=("monday",))}, "when/zone"),
        ({"when": When("Europe/Nowhere", ("monday",))}, "when/zone"),
        ({"when": When("../../etc/passwd", ("monday",))}, "when/zone"),
        ({"when": When("Europe", ("monday",))}, "when/zone"),
        ({"when": When("UTC", hours=(Hours("9:00", "17:00"),))}, "when/hours/0/from"),
        ({"when": When("UTC", hours=(Hours("09:00", "24:01"),))}, "when/hours/0/to"),
        ({"when": When("UTC", hours=(Hours("22:00", "06:00"),))}, "when/hours/0"),
        ({"when": When(not_before=NOON, not_after=NOON)}, "when/not_after"),
        ({"networks": ("10.0.0.0/8", "10.1.2.3/8")}, "where/networks/1"),
        ({"rows": Range(-1, 0)}, "how_much/rows"),
        ({"cost": Range(5, 4)}, "how_much/cost"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(part: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidValue) as failure:
        check([RULE, replace(RULE, name="two", **part)], [])

    assert [violation.pointer for violation in failure.value.violations] == [f"/rules/1/{pointer}"]


def test_names_are_said_once() -> None:
    with pytest.raises(InvalidValue) as failure:
        check([RULE, RULE], [Example("e", FACTS, True), Example("e", FACTS, False)])

    places = [violation.pointer for violation in failure.value.violations]
    assert places == ["/rules/0/name", "/rules/1/name", "/examples/0/name", "/examples/1/name"]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"principal": "key:*"}, "principal"),
        ({"permission": "models.*"}, "permission"),
        ({"address": "here"}, "address"),
        ({"time": NOON.replace(year=9999)}, "time"),
        ({"rows": -1}, "rows"),
    ],
)
def test_what_is_no_request_is_refused_with_its_place(part: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as failure:
        check_facts(replace(FACTS, **part))

    assert failure.value.violations[0].pointer == f"/request/{field}"


def test_an_example_says_its_time_where_rules_ask_for_it() -> None:
    timeless = Example("e", FACTS, True, timeless=True)
    check([RULE], [timeless])
    with pytest.raises(InvalidValue, match=r"examples.0.request.time must be set"):
        check([replace(RULE, when=OFFICE)], [timeless])


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"what": What(permissions=("model.infer",))}, "no request is what it is about"),
        ({"what": What(permissions=("models.*",), except_permissions=("*",))}, "no request is what it is about"),
        ({"what": What(permissions=("versions.promote",), labels=(("risk", "high"),))}, "no request is what it is"),
        ({"what": What(objects=("model/late",))}, "no request is what it is about"),
        ({"what": What(models=("late",), permissions=("sources.*",))}, "no request is what it is about"),
        ({"what": What(permissions=("jobs.submit",)), "rows": Range(1, 0)}, "no request is what it is about"),
        ({"what": What(permissions=("models.get",)), "cost": Range(1000, 0)}, "no request is what it is about"),
        ({"who": Who(kinds=("key",), groups=("group:corp:a",))}, "no caller is whom it is about"),
        ({"who": Who(principals=("user:corp:*",), kinds=("key",))}, "no caller is whom it is about"),
        ({"who": Who(principals=("key:ab*",), except_principals=("key:*",))}, "no caller is whom it is about"),
        ({"effect": ONLY}, "allows only without a condition"),
        ({"when": When(not_after=NOON)}, "can never apply: its time is over"),
        ({"effect": ONLY, "when": When(not_after=NOON)}, "refuses all that it is about: its time is over"),
    ],
)
def test_a_rule_that_never_applies_is_doubted(part: dict[str, Any], text: str) -> None:
    (found,) = doubts([replace(RULE, **part)], guard.kinds(), NOON)

    assert text in found.text


INFER = What(permissions=("models.infer",))


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ({}, {"what": INFER}, "can never decide: one"),
        ({"what": INFER}, {"what": INFER, "effect": ONLY, "networks": ("10.0.0.0/8",)}, "can never decide: one"),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ("10.1.0.0/16",)}, "can never decide: one"),
        ({"when": replace(OFFICE, hours=())}, {"when": OFFICE}, "can never decide: one"),
        ({"rows": Range(5, 0)}, {"rows": Range(7, 9)}, "can never decide: one"),
        ({"effect": ONLY, "rows": Range(0, 9)}, {"effect": ONLY, "rows": Range(0, 90)}, "can never decide: one"),
        ({"networks": ("10.1.0.0/16",)}, {"networks": ("10.0.0.0/8",)}, "some of what one"),
        ({"who": Who(roles=("viewer",))}, {"who": Who(roles=("operator",))}, "some of what one"),
        ({"what": What(models=("fraud-*",))}, {"what": What(models=("fraud-eu-*",), projects=("p",))}, "can never"),
        ({"what": What(models=("late",))}, {"what": What(models=("fraud-*",))}, ""),
        ({"what": What(labels=(("risk", "low"),))}, {"what": What(labels=(("risk", "high"),))}, ""),
        ({"who": Who(kinds=("key",))}, {"who": Who(kinds=("user",))}, ""),
        ({"networks": ("10.0.0.0/8",)}, {"networks": ("2001:db8::/32",)}, ""),
        ({"rows": Range(0, 9)}, {"rows": Range(10, 0)}, ""),
        ({"when": OFFICE}, {"when": replace(OFFICE, days=("sunday",))}, ""),
        ({"when": OFFICE}, {"when": replace(OFFICE, hours=(Hours("17:00", "24:00"),))}, ""),
    ],
)
def test_rules_that_are_about_the_same_are_doubted(first: dict[str, Any], second: dict[str, Any], text: str) -> None:
    found = doubts([replace(RULE, **first), replace(RULE, name="two", **second)], guard.kinds(), NOON)

    assert [doubt.rule for doubt in found] == (["two"] if text else [])
    assert all(text in doubt.text for doubt in found)


def test_many_doubts_are_cut() -> None:
    rules = [replace(RULE, name=f"r{n}", networks=(f"10.0.0.0/{8 + n % 3}",), rows=Range(n, 60 + n)) for n in range(50)]

    assert len(doubts(rules, guard.kinds(), NOON)) == 100


def test_examples_that_come_out_otherwise_are_named() -> None:
    large = Rule("large", DENY, what=INFER, rows=Range(11, 0))
    examples = [
        Example("small", replace(FACTS, rows=10), True),
        Example("big", replace(FACTS, rows=11), True),
        Example("reads", replace(FACTS, permission="models.get"), False),
    ]
    version = Version("acme", 1, "", (large,), tuple(examples), (), "", NOON)

    assert [(one.example.name, one.rule) for one in failed(version, NOON)] == [("big", "large"), ("reads", "")]


@pytest.mark.parametrize(
    ("rule", "locked"),
    [
        (Rule("all", DENY), True),
        (Rule("others", DENY, what=What(except_permissions=("policies.*",))), False),
        (Rule("me", DENY, Who(principals=("key:abcd*",))), True),
        (Rule("office", ONLY, networks=("10.0.0.0/8",)), False),
        (Rule("elsewhere", ONLY, networks=("192.168.0.0/16",)), True),
        (Rule("soon", DENY, when=When(not_before=NOON + timedelta(days=1))), True),
        (Rule("closing", ONLY, when=When(not_after=NOON + timedelta(days=9))), True),
        (
            Rule("closed", DENY, when=When(not_before=NOON + timedelta(days=1), not_after=NOON + timedelta(days=2))),
            False,
        ),
        (Rule("wednesdays", ONLY, when=When("UTC", ("wednesday",))), False),
        (Rule("mondays", DENY, when=When("UTC", ("monday",))), False),
    ],
)
def test_rules_that_lock_out_who_sets_them_are_found(rule: Rule, locked: bool) -> None:
    assert bool(locking([rule], ADMIN)) is locked
