"""How the requests for a model are shared among its versions: rules alone, without a gateway."""

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.traffic.domain.sharing import GOLDEN, Caller, Rule, Share, choose

CALLS = 10_000
patiently = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def caller(who: str = "key:a", headers: Mapping[str, str] | None = None) -> Caller:
    return Caller(who, (headers or {}).get)


class Turns:
    """What a gateway gives each request."""

    def __init__(self, start: float = 0.5) -> None:
        self.at = start

    def __call__(self, rule: int) -> float:
        self.at = (self.at + GOLDEN) % 1.0
        return self.at


def rule(*shares: tuple[int, float], **fields: object) -> Rule:
    return Rule(tuple(Share(*share) for share in shares), **fields)  # type: ignore[arg-type]


def versions(rules: list[Rule], callers: list[Caller]) -> Counter[int]:
    turns = Turns()
    return Counter(choose(rules, "late", one, turns) for one in callers)


def test_without_a_rule_for_it_a_request_goes_to_what_serves() -> None:
    assert versions([], [caller()]) == versions([rule((4, 100), callers=("key:b",))], [caller()]) == {0: 1}


@pytest.mark.parametrize(
    ("sent", "found"),
    [({"x-cohort": "beta"}, 4), ({"x-cohort": "alpha"}, 0), ({"x-cohort": ""}, 0), ({}, 0), ({"x-other": "beta"}, 0)],
)
def test_a_header_chooses_by_its_value(sent: dict[str, str], found: int) -> None:
    rules = [rule((4, 100), header="x-cohort", values=frozenset({"beta"}))]

    assert versions(rules, [caller(headers=sent)]) == {found: 1}


@pytest.mark.parametrize(("turn", "found"), [(0.0, 4), (0.2499, 4), (0.25, 5), (0.7499, 5), (0.75, 0), (0.9999, 0)])
def test_a_share_has_its_beginning_and_not_its_end(turn: float, found: int) -> None:
    assert choose([rule((4, 25), (5, 50))], "late", caller(), lambda _: turn) == found


def test_a_header_without_values_has_to_be_there() -> None:
    rules = [rule((4, 100), header="x-trial")]

    assert versions(rules, [caller(headers={"x-trial": ""}), caller()]) == {4: 1, 0: 1}


@pytest.mark.parametrize(("who", "found"), [("key:abc", 3), ("key:abd", 0), ("user:corp:ada", 3), ("user:corq:ada", 0)])
def test_callers_are_named_or_begin_like_it(who: str, found: int) -> None:
    assert versions([rule((3, 100), callers=("key:abc", "user:corp:*"))], [caller(who)]) == {found: 1}


def test_all_that_a_rule_sets_has_to_fit_and_the_first_that_fits_decides() -> None:
    both = rule((5, 100), callers=("key:a",), header="x-cohort", values=frozenset({"beta"}))
    rules = [both, rule((4, 100), header="x-cohort", values=frozenset({"beta"})), rule((3, 100), callers=("key:a",))]
    beta = {"x-cohort": "beta"}

    asked = [caller("key:a", beta), caller("key:b", beta), caller("key:a"), caller("key:b")]
    assert [choose(rules, "late", one, Turns()) for one in asked] == [5, 4, 3, 0]


@pytest.mark.parametrize(
    "shares", [[(4, 10.0)], [(4, 0.5)], [(4, 20.0), (5, 30.0)], [(4, 99.0)], [(4, 50.0), (5, 50.0)]]
)
def test_shares_hold_within_one_percent_of_ten_thousand_requests(shares: list[tuple[int, float]]) -> None:
    found = versions([rule(*shares)], [caller()] * CALLS)

    for version, percent in [*shares, (0, 100 - sum(percent for _, percent in shares))]:
        assert abs(found[version] / CALLS - percent / 100) < 0.001


@pytest.mark.parametrize("every", [2, 3, 5, 8, 13, 21, 10])
def test_no_pattern_of_requests_falls_in_with_the_shares(every: int) -> None:
    """Of each kind of request, as those of one client that alternates, the share is the same."""
    turns, rules = Turns(), [rule((4, 50.0))]
    found = [choose(rules, "late", caller(), turns) for _ in range(CALLS)]

    for first in range(every):
        mine = found[first::every]
        assert abs(mine.count(4) / len(mine) - 0.5) < 0.02


@pytest.mark.parametrize("shares", [[(4, 10.0)], [(4, 20.0), (5, 30.0)], [(4, 100.0)]])
def test_callers_who_stay_are_shared_out_as_well(shares: list[tuple[int, float]]) -> None:
    found = versions([rule(*shares, sticky=True)], [caller(f"key:{number}") for number in range(CALLS)])

    for version, percent in shares:
        assert abs(found[version] / CALLS - percent / 100) < 0.02  # four deviations of a toss of coins


def test_the_same_caller_has_the_same_version_and_another_model_shares_out_anew() -> None:
    rules, who = [rule((4, 50.0), sticky=True)], [caller(f"key:{number}") for number in range(200)]
    mine = [choose(rules, "late", one, Turns()) for one in who]

    assert mine == [choose(rules, "late", one, Turns(0.1)) for one in who]
    assert mine != [choose(rules, "early", one, Turns()) for one in who]


def test_a_header_can_say_who_stays_and_who_sends_none_stays_by_his_key() -> None:
    rules = [rule((4, 50.0), sticky=True, sticky_header="x-customer")]
    found = {
        (number, who): choose(rules, "late", caller(who, {"x-customer": str(number)}), Turns())
        for number in range(100)
        for who in ("key:a", "key:b")
    }

    assert all(found[number, "key:a"] == found[number, "key:b"] for number in range(100))
    assert set(found.values()) == {0, 4}
    by_key = [rule((4, 50.0), sticky=True)]
    assert choose(rules, "late", caller("key:z"), Turns()) == choose(by_key, "late", caller("key:z"), Turns())


@patiently
@given(
    st.lists(st.floats(0.5, 30), min_size=1, max_size=3),
    st.lists(st.floats(0, 3), min_size=3, max_size=3),
    st.integers(0, 1_000_000),
)
def test_who_has_a_version_keeps_it_when_its_share_grows(percents: list[float], growth: list[float], seed: int) -> None:
    dice = random.Random(seed)
    grown = dice.randrange(len(percents))
    more = [percent + (growth[0] if index == grown else 0) for index, percent in enumerate(percents)]
    before = rule(*((index + 2, percent) for index, percent in enumerate(percents)), sticky=True)
    after = rule(*((index + 2, percent) for index, percent in enumerate(more)), sticky=True)
    for number in range(200):
        one = caller(f"key:{seed}-{number}")
        had, has = choose([before], "late", one, Turns()), choose([after], "late", one, Turns())
        assert had == has or (has == grown + 2 if had else has > 0)


def test_a_share_that_grows_to_all_takes_all() -> None:
    found = versions([rule((4, 100.0), sticky=True)], [caller(f"key:{number}") for number in range(1_000)])

    assert found == {4: 1_000}
