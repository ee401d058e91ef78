"""What is compiled says the same as rules that are read one by one, and as what explains them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.policies.domain.compiled import Compiled
from services.gateway.policies.domain.doubts import Kind, doubts
from services.gateway.policies.domain.rules import Effect, Facts, Hours, Range, Rule, What, When, Who
from services.gateway.policies.domain.trace import trace
from tests.gateway.policies import METHODS, NOON, first_refusing, requests, rules

FACTS = Facts("key:abcd1234", "models.infer", NOON, thing="models/late", address="10.1.2.3")
INFER = Kind("models.infer", METHODS[0], "models/{model}", prediction=True)


@given(st.lists(rules, max_size=6), st.lists(requests, min_size=1, max_size=8))
def test_compiled_rules_are_a_plain_reading_of_them(written: list[Rule], asked: list[Facts]) -> None:
    compiled = Compiled(written)

    assert [compiled.refusing(facts) for facts in asked] == [first_refusing(written, facts) for facts in asked]


@given(st.lists(rules, max_size=4), requests)
def test_what_explains_rules_says_what_they_come_to(written: list[Rule], facts: Facts) -> None:
    refusing = [found.rule.name for rule in written if (found := trace(rule, facts)).refuses]

    assert refusing[:1] == [name] if (name := Compiled(written).refusing(facts)) else not refusing


@given(st.lists(rules, min_size=2, max_size=4), st.lists(requests, min_size=1, max_size=20))
def test_a_rule_that_is_said_to_decide_nothing_decides_nothing(written: list[Rule], asked: list[Facts]) -> None:
    kinds = [
        INFER,
        Kind("models.get", METHODS[1], "models/{model}"),
        Kind("versions.promote", METHODS[2], "models/{m}"),
    ]
    found = doubts(written, kinds, datetime(2000, 1, 1, tzinfo=UTC))
    idle = {doubt.rule for doubt in found if doubt.text.startswith("can never decide")}

    assert not idle & {Compiled(written).refusing(facts) for facts in asked}


@given(rules, rules, requests)
def test_rules_that_refuse_one_request_are_said_to_be_about_the_same(first: Rule, second: Rule, facts: Facts) -> None:
    if not all(Compiled([rule]).refusing(facts) for rule in (first, second)):
        return
    found = doubts([first, second], [INFER], datetime(2000, 1, 1, tzinfo=UTC))

    assert any(doubt.rule == second.name and first.name in doubt.text for doubt in found)


@pytest.mark.parametrize(
    ("moment", "refused"),
    [
        ("2030-03-31T00:59:00+00:00", False),  # 01:59 in Berlin, the clock then goes to 03:00
        ("2030-03-31T01:00:00+00:00", True),
        ("2030-10-26T23:59:00+00:00", False),
        ("2030-10-27T01:30:00+00:00", False),  # 02:30 for the second time
        ("2030-10-27T02:00:00+00:00", True),
    ],
)
def test_hours_are_those_on_the_wall_also_when_clocks_change(moment: str, refused: bool) -> None:
    rule = Rule("late", Effect.DENY, when=When("Europe/Berlin", hours=(Hours("03:00", "24:00"),)))

    assert bool(Compiled([rule]).refusing(replace(FACTS, time=datetime.fromisoformat(moment)))) is refused


def test_the_first_rule_that_refuses_is_named() -> None:
    written = [
        Rule("others", Effect.DENY, Who(principals=("user:*",))),
        Rule("small", Effect.ALLOW_ONLY, rows=Range(0, 10)),
        Rule("all", Effect.DENY),
    ]

    assert Compiled(written).refusing(replace(FACTS, rows=11)) == "small"
    assert Compiled(written).refusing(replace(FACTS, rows=10)) == "all"


def test_more_methods_than_there_are_do_not_fill_the_memory() -> None:
    compiled = Compiled([Rule("none", Effect.DENY, what=What(permissions=("models.get",)))])
    for number in range(3000):
        assert not compiled.refusing(replace(FACTS, method=f"a/M{number}"))

    assert len(compiled._about) <= 1000
