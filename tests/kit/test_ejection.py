"""Instances whose calls go worse than those of others: left out for a while, never too many, never without cause."""

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit.balancing import Balancer, Way
from services.kit.breaker import Outcome, Rules
from services.kit.ejection import Ejection
from services.kit.member import Instance, Member
from services.kit.outliers import EjectionRules, Record, outliers
from services.kit.pool import Pool

patiently = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEEDS = st.integers(0, 2**32)
DEAF = Rules(calls=10**9, in_a_row=10**9)  # breakers that never open
RULES = EjectionRules()
TIMED = RULES.model_copy(update={"slower": 3.0})


class Fleet:
    """Instances that fail by chance and take their time, in a pool whose clock a test moves."""

    def __init__(self, count: int, seed: int = 1, rules: EjectionRules = RULES) -> None:
        self.now, self.rules, self.dice = 1000.0, rules, random.Random(seed)
        instances = [Instance(f"i{number}", f"127.0.0.1:{number + 1}") for number in range(count)]
        ways = ("", Way.ROUND_ROBIN)
        self.pool = Pool("who", instances, lambda *_: cast(Any, None), DEAF, lambda route: ways)
        for member in self.pool.members:
            member.connected = True
        self.ejection = Ejection(self.pool, lambda: self.rules, lambda: self.now)
        self.failing = dict.fromkeys((f"i{number}" for number in range(count)), 0.0)
        self.seconds = dict.fromkeys(self.failing, 0.02)

    def member(self, name: str) -> Member:
        return next(member for member in self.pool.members if member.instance.id == name)

    def call(self, count: int) -> Counter[str]:
        """Who took so many calls."""
        called = Counter[str]()
        for _ in range(count):
            member = self.pool.choose()
            assert member
            name = member.instance.id
            bad = self.dice.random() < self.failing[name]
            began = time.monotonic() - self.seconds[name] * self.dice.uniform(0.5, 2)
            member.end(member.begin(), Outcome.BADLY if bad else Outcome.WELL, began)
            called[name] += 1
        return called

    def round(self, count: int, seconds: float = 10.0) -> Counter[str]:
        """Calls, so many of each, in an interval, at whose end somebody looks."""
        called = self.call(count * len(self.failing))
        self.passes(seconds)
        return called

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.ejection.look()

    @property
    def out(self) -> set[str]:
        return {member.instance.id for member in self.pool.ejected}


def record(calls: int, failed: int, seconds: float = 0.02) -> Record:
    found = Record(timed=True)
    for number in range(calls):
        found.add(Outcome.BADLY if number < failed else Outcome.WELL, seconds)
    return found


@patiently
@given(st.integers(3, 8), SEEDS)
def test_one_that_fails_three_of_ten_is_out_within_the_interval_and_comes_back(count: int, seed: int) -> None:
    fleet = Fleet(count, seed)
    fleet.failing = dict.fromkeys(fleet.failing, 0.02) | {"i1": 0.3}
    assert set(fleet.round(300)) == set(fleet.failing)
    assert fleet.out == {"i1"}

    assert "i1" not in fleet.round(20, 29.9)
    assert fleet.out == {"i1"}
    fleet.passes(0.2)
    assert fleet.out == set()
    assert fleet.call(count)["i1"] == 1


@patiently
@given(st.integers(2, 6), st.floats(0, 1), SEEDS)
def test_when_all_fail_alike_nobody_is_left_out(count: int, share: float, seed: int) -> None:
    fleet = Fleet(count, seed, RULES.model_copy(update={"instances": 2, "factor": 6.0}))
    fleet.failing = dict.fromkeys(fleet.failing, share)
    fleet.round(400)

    assert fleet.out == set()


def test_where_most_are_bad_those_that_are_not_stay_and_nobody_else_goes() -> None:
    fleet = Fleet(5)
    fleet.failing |= {"i0": 0.4, "i1": 0.4, "i2": 0.4}
    fleet.round(500)

    assert fleet.out == set()


def test_two_that_are_bad_do_not_hide_each_other() -> None:
    fleet = Fleet(5)
    fleet.failing |= {"i0": 0.3, "i3": 0.4}
    fleet.round(300)

    assert fleet.out == {"i0", "i3"}


def test_beside_others_that_differ_much_one_has_to_differ_more() -> None:
    alike = {name: record(100, failed) for name, failed in zip("abcde", (0, 10, 20, 30, 5), strict=True)}
    assert outliers(alike, RULES) == {}

    why = outliers(alike | {"f": record(100, 90)}, RULES)
    assert why == {"f": "90% of 100 calls failed, of others 10%"}


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]), min_size=7, max_size=7),
        st.lists(st.booleans(), min_size=7, max_size=7),
        st.floats(0, 40),
    ),
    max_size=12,
)


@patiently
@given(st.integers(1, 7), STEPS, st.floats(0, 0.5), SEEDS)
def test_never_more_are_left_out_than_the_share_of_those_that_are_connected(
    count: int, steps: Sequence[tuple[list[float], list[bool], float]], share: float, seed: int
) -> None:
    rules = EjectionRules(calls=10, instances=2, factor=1.0, gap=0.05, share=share, time=15)
    fleet = Fleet(count, seed, rules)
    for failing, connected, seconds in steps:
        fleet.failing = dict(zip(fleet.failing, failing, strict=False))
        for member, is_there in zip(fleet.pool.members, connected, strict=False):
            member.connected = is_there
        there = [member for member in fleet.pool.members if member.connected]
        if there:
            fleet.round(20, seconds)
            called = admitted(fleet.pool)
            assert len(there) - len(called) <= int(share * len(there))
            assert called


def admitted(pool: Pool) -> set[Member]:
    """Who is called, when all that may be have their turn."""
    turns = Balancer[Member](Way.ROUND_ROBIN)
    return {found for _ in range(20) if (found := pool.choose(None, turns))}


def test_with_those_that_breakers_keep_out_it_is_half_at_most() -> None:
    fleet = Fleet(6)
    fleet.failing |= {"i0": 0.3, "i1": 0.3}
    fleet.round(300)
    fleet.pool.rule(Rules(shortest=30.0))
    assert len(admitted(fleet.pool)) == 4

    for name, left in (("i2", {"i3", "i4", "i5"}), ("i3", {"i4", "i5"})):
        for _ in range(5):
            fleet.member(name).breaker.end(fleet.member(name).breaker.begin(), Outcome.LOST)
        called = {member.instance.id for member in admitted(fleet.pool)}
        assert left <= called
        assert len(called) == 3


def test_whoever_alone_can_take_a_call_takes_it() -> None:
    fleet = Fleet(3)
    fleet.failing["i1"] = 0.3
    fleet.round(300)
    assert fleet.out == {"i1"}

    found = fleet.pool.choose(("i1",))
    assert found is fleet.member("i1")


def test_it_is_out_longer_each_time_up_to_a_bound_and_is_forgiven_step_by_step() -> None:
    fleet = Fleet(4, rules=RULES.model_copy(update={"longest": 75.0}))
    for seconds in (30, 60, 75, 75):
        fleet.failing["i2"] = 0.4
        fleet.round(100)
        assert fleet.out == {"i2"}
        fleet.passes(seconds - 0.1)
        assert fleet.out == {"i2"}
        fleet.passes(0.2)
        assert fleet.out == set()

    fleet.failing["i2"] = 0.0
    for _ in range(3):  # of four times, of which the next is the second again
        fleet.round(100)
    fleet.failing["i2"] = 0.4
    fleet.round(100)
    fleet.passes(59)
    assert fleet.out == {"i2"}
    fleet.passes(1.1)
    assert fleet.out == set()


@pytest.mark.parametrize(("instances", "calls", "out"), [(3, 50, {"a"}), (3, 49, set()), (2, 50, set())])
def test_with_few_calls_or_instances_nobody_is_judged(instances: int, calls: int, out: set[str]) -> None:
    seen = {name: record(50, 40 if name == "a" else 0) for name in "abc"[:instances]} | {"d": record(7, 0)}
    seen["a"] = record(calls, calls)

    assert set(outliers(seen, RULES)) == out


def test_a_few_failures_that_stand_out_by_chance_are_borne() -> None:
    seen = {"a": record(50, 6), "b": record(50, 0), "c": record(50, 0)}

    assert outliers(seen, RULES) == {}


def effort(instances: int) -> int:
    """How many functions are called, and values handed over, to judge instances that are alike."""
    seen, called = {number: record(100, number % 3) for number in range(instances)}, 0

    def count(*_: object) -> None:
        nonlocal called
        called += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        assert outliers(seen, TIMED) == {}
    finally:
        sys.setprofile(before)
    return called


def test_twice_as_many_instances_are_judged_in_about_twice_the_time() -> None:
    assert effort(200) < 2.5 * effort(100)


def test_who_takes_several_times_as_long_is_left_out_where_that_is_wanted() -> None:
    fleet = Fleet(4)
    fleet.seconds["i3"] = 10.0
    fleet.seconds |= dict.fromkeys(("i0", "i1", "i2"), 1.0)
    fleet.round(100)
    assert fleet.out == set()

    fleet.rules = TIMED
    fleet.passes(10)
    fleet.round(100)
    assert fleet.out == {"i3"}


@patiently
@given(st.lists(st.floats(1.0, 2.2), min_size=3, max_size=8), st.floats(0.0001, 5.0))
def test_who_takes_about_twice_as_long_is_not_slow(factors: list[float], seconds: float) -> None:
    seen = {number: record(60, 0, seconds * factor) for number, factor in enumerate(factors)}

    assert outliers(seen, TIMED) == {}


def test_a_difference_of_milliseconds_is_none() -> None:
    assert outliers({"a": record(60, 0, 0.008), "b": record(60, 0, 0.001), "c": record(60, 0, 0.001)}, TIMED) == {}


def test_a_few_calls_that_wait_for_long_do_not_make_an_instance_slow() -> None:
    seen = {name: record(60, 0) for name in "abc"}
    for _ in range(40):
        seen["a"].add(Outcome.WELL, 30.0)

    assert outliers(seen, TIMED) == {}


@patiently
@given(st.lists(st.floats(1e-9, 86400), min_size=1, max_size=50))
def test_the_middle_is_right_within_a_quarter(seconds: list[float]) -> None:
    found, between = Record(timed=True), sorted(seconds)[(len(seconds) - 1) // 2 : len(seconds) // 2 + 1]
    for one in seconds:
        found.add(Outcome.WELL, one)

    assert between[0] / 1.26 <= found.middle <= between[-1] * 1.26


def test_calls_that_were_given_up_do_not_count() -> None:
    found = Record()
    found.add(Outcome.UNKNOWN, 1.0)

    assert (found.calls, found.failing, found.chance, found.middle) == (0, 0.0, 0.0, 0.0)


def test_rules_that_change_count_at_once_and_a_share_of_nothing_lets_all_in() -> None:
    fleet = Fleet(3)
    fleet.failing["i0"] = 0.4
    fleet.rules = RULES.model_copy(update={"interval": 3600.0})
    fleet.round(100)
    assert fleet.out == set()

    fleet.rules = RULES
    fleet.round(100)
    assert fleet.out == {"i0"}
    fleet.rules = RULES.model_copy(update={"share": 0.0})
    fleet.passes(0.5)
    assert fleet.out == set()
    fleet.round(100)
    assert fleet.out == set()


async def test_who_leaves_and_comes_again_is_judged_anew() -> None:
    fleet = Fleet(3)
    fleet.failing["i0"] = 0.4
    fleet.round(100)
    assert fleet.out == {"i0"}
    instances = [member.instance for member in fleet.pool.members]
    for member in fleet.pool.members:
        member.connected = False
    fleet.pool._members.pop(instances[0].place)
    fleet.pool.update(instances)
    fleet.passes(0.5)

    assert fleet.out == set()
