"""Which of several instances takes the next call."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit.balancing import Balancer, Turns, Way

CALLS = 10_000


@dataclass(eq=False)
class One:
    """An instance that can be chosen."""

    name: str
    weight: int = 1
    load: int = 0


# On a busy machine an example may take its time.
patiently = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def some(weights: Sequence[int], loads: Sequence[int] = ()) -> list[One]:
    spread = [*loads, *([0] * len(weights))]
    return [One(f"i{number}", weight, load) for number, (weight, load) in enumerate(zip(weights, spread, strict=False))]


def balancer(way: Way, seed: int = 1) -> Balancer[One]:
    return Balancer(way, random.Random(seed).random)


def chosen(found: Balancer[One], among: Sequence[One], count: int = CALLS) -> Counter[str]:
    return Counter(found.choose(among).name for _ in range(count))


@patiently
@given(WEIGHTS)
def test_ten_thousand_calls_are_within_one_percent_of_the_weights(weights: list[int]) -> None:
    among = some(weights)
    counts = chosen(balancer(Way.WEIGHTED), among, 1_000)

    for one in among:
        assert abs(counts[one.name] - 1_000 * one.weight / sum(weights)) < 2


@pytest.mark.parametrize("weights", [[5, 1, 1], [1, 1], [70, 20, 10], [1000, 1], [3, 7, 11, 13]])
@pytest.mark.parametrize(("way", "even"), [(Way.WEIGHTED, False), (Way.ROUND_ROBIN, True)])
def test_shares_hold_over_ten_thousand_calls(weights: list[int], way: Way, even: bool) -> None:
    among = some(weights)
    counts, total = chosen(balancer(way), among), len(weights) if even else sum(weights)

    for one in among:
        share = 1 if even else one.weight
        assert abs(counts[one.name] / CALLS - share / total) < 0.01


def test_turns_are_smooth() -> None:
    turns, among = Turns[One](), some([5, 1, 1])
    order = "".join(turns.next(among).name[1] for _ in range(14))

    assert order == "0010200" * 2


@patiently
@given(WEIGHTS, st.integers(1, 200))
def test_nobody_waits_longer_than_his_turn(weights: list[int], calls: int) -> None:
    turns, among, counts = Turns[One](), some(weights), Counter[str]()
    for number in range(1, calls + 1):
        counts[turns.next(among).name] += 1
        for one in among:
            assert abs(counts[one.name] - number * one.weight / sum(weights)) <= len(among)


@patiently
@given(WEIGHTS, st.integers(0, 1_000_000), st.floats(0.2, 0.9))
def test_whoever_is_there_when_nobody_is_owed_more_than_a_few_calls(
    weights: list[int], seed: int, share: float
) -> None:
    turns, among, dice = Turns[One](), some(weights), random.Random(seed)
    owed = dict.fromkeys(among, 0.0)
    for _ in range(300):
        there = [one for one in among if dice.random() < share] or among[:1]
        for one in there:
            owed[one] += one.weight / sum(other.weight for other in there)
        owed[turns.next(there)] -= 1

    assert max(map(abs, owed.values())) <= len(among)


@patiently
@given(st.integers(2, 8), st.integers(0, 400))
def test_who_comes_later_is_not_made_up_to(count: int, before: int) -> None:
    turns, among = Turns[One](), some([1] * count)
    for _ in range(before):
        turns.next(among[1:])
    calls = [turns.next(among) for _ in range(3 * count)]

    assert calls.count(among[0]) <= 4


def test_who_has_left_for_good_is_forgotten_and_the_others_go_on_evenly() -> None:
    turns = Turns[One]()
    staying = One("staying")
    for number in range(2_000):  # as deployments do: one leaves in the middle of its turn, another takes its place
        passing = One(f"passing{number}", 3)
        for _ in range(number % 5):
            turns.next([staying, passing])
    calls = Counter(turns.next([staying, other]).name for other in [One("new")] for _ in range(100))

    assert abs(calls["staying"] - 50) <= 2
    assert len(turns._owed) <= 20


@patiently
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=8))
def test_least_connections_never_chooses_a_busier_one(instances: list[tuple[int, int]]) -> None:
    among = some([weight for weight, _ in instances], [load for _, load in instances])
    found = balancer(Way.LEAST_CONNECTIONS).choose(among)

    assert all(found.load * one.weight <= one.load * found.weight for one in among)


def test_of_several_that_are_idle_each_has_his_turn() -> None:
    assert chosen(balancer(Way.LEAST_CONNECTIONS), some([1, 1, 1]), 300) == {"i0": 100, "i1": 100, "i2": 100}


@patiently
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=8), st.integers(0, 99))
def test_of_two_the_busier_is_never_taken(instances: list[tuple[int, int]], seed: int) -> None:
    among = some([weight for weight, _ in instances], [load for _, load in instances])
    busiest = max(one.load / one.weight for one in among)
    only = [one for one in among if one.load / one.weight == busiest]
    found = balancer(Way.POWER_OF_TWO, seed).choose(among)

    assert len(only) > 1 or found is not only[0]


def test_two_that_are_equally_busy_are_called_alike_and_by_weight() -> None:
    even, heavy = chosen(balancer(Way.POWER_OF_TWO), some([1, 1, 1])), chosen(balancer(Way.POWER_OF_TWO), some([3, 1]))

    assert all(abs(count / CALLS - 1 / 3) < 0.02 for count in even.values())
    assert abs(heavy["i0"] / CALLS - 0.75) < 0.02


@pytest.mark.parametrize("way", Way)
def test_calls_under_way_even_out_where_one_is_slower(way: Way) -> None:
    """A seeded simulation: one instance takes five times as long; ways that look at load spare it."""
    dice, among = random.Random(7), some([1, 1, 1])
    found, ends = balancer(way), list[tuple[float, One]]()
    now, counts = 0.0, Counter[str]()
    for _ in range(3_000):
        now += dice.expovariate(20)
        for until, one in [end for end in ends if end[0] <= now]:
            one.load -= 1
            ends.remove((until, one))
        one = found.choose(among)
        one.load += 1
        counts[one.name] += 1
        ends.append((now + dice.expovariate(2 if one is among[0] else 10), one))

    spared = way in (Way.POWER_OF_TWO, Way.LEAST_CONNECTIONS)
    assert (counts["i0"] < 700) == spared
