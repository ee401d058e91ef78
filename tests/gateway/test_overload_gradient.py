"""How many calls at once an upstream is found to bear: seeded simulations on a clock of their own."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.overload.gradient import Bounds, Gradient


class Upstream:
    """Answers `able` calls at a time in `seconds` each, give or take a tenth; what is more shares them."""

    def __init__(self, seconds: float, able: int, seed: int = 7, bounds: Bounds | None = None) -> None:
        self.seconds, self.able, self.now = seconds, able, 0.0
        self.gradient = Gradient(bounds or Bounds(least=4, most=500, start=64, quick=0.001), lambda: self.now)
        self._dice = random.Random(seed)

    def serve(self, seconds: float, wanted: int) -> float:
        """Keeps as many of the wanted calls under way as there may be; how many were answered in a second."""
        until, answered, begun = self.now + seconds, 0, self.now
        while self.now < until:
            busy = max(min(wanted, self.gradient.limit), 1)
            took = self.seconds * max(busy / self.able, 1) * self._dice.uniform(0.9, 1.1)
            began, self.now = self.now, self.now + took
            for _ in range(busy):
                self.gradient.ended("call", began, busy)
            answered += busy
        return answered / (self.now - begun)


@pytest.mark.parametrize("seed", range(5))
def test_an_upstream_gets_what_it_bears_and_not_much_more(seed: int) -> None:
    upstream = Upstream(0.05, able=20, seed=seed)
    upstream.serve(5, 5)  # so much is known of it
    rate = upstream.serve(60, 1000)

    assert rate >= 0.9 * 20 / 0.05
    assert 15 <= upstream.gradient.limit <= 70


@pytest.mark.parametrize("seed", range(5))
def test_the_limit_falls_when_an_upstream_gets_slow_and_recovers_with_it(seed: int) -> None:
    upstream = Upstream(0.02, able=50, seed=seed)
    upstream.serve(10, 60)
    before = upstream.gradient.limit
    upstream.able = 5
    upstream.serve(5, 60)
    assert upstream.gradient.limit <= before / 3

    upstream.able = 50
    upstream.serve(10, 60)
    assert upstream.gradient.limit >= 50


def test_an_upstream_that_is_slower_from_now_on_is_believed_after_a_while() -> None:
    upstream = Upstream(0.02, able=50)
    upstream.serve(10, 60)
    upstream.seconds = 0.2
    upstream.serve(120, 60)

    assert upstream.gradient.limit >= 40


def test_few_calls_that_are_slow_for_another_reason_than_ours_lower_it_gently_and_not_for_long() -> None:
    upstream = Upstream(0.02, able=1000)
    upstream.serve(5, 3)
    upstream.seconds = 0.5
    upstream.serve(1, 3)
    assert upstream.gradient.limit >= 0.6 * 64

    upstream.serve(30, 3)
    assert upstream.gradient.limit >= 64


def test_what_is_quick_is_never_slow() -> None:
    upstream = Upstream(0.0001, able=10, bounds=Bounds(start=64, quick=0.01))
    upstream.serve(1, 64)

    assert upstream.gradient.limit >= 64


def test_short_calls_and_long_ones_are_held_against_their_own_kind() -> None:
    now = [0.0]
    gradient = Gradient(Bounds(start=64, quick=0.001), lambda: now[0])
    for _ in range(500):
        for kind, seconds in (("get", 0.005), ("query", 0.5)):
            now[0] += seconds
            gradient.ended(kind, now[0] - seconds, 64)

    assert gradient.limit >= 64


def test_an_upstream_that_refuses_gets_less() -> None:
    now = [0.0]
    gradient = Gradient(Bounds(start=100), lambda: now[0])
    gradient.refused(0.0)
    gradient.refused(-1.0)  # it began before: that is known

    assert gradient.limit == 90


def test_a_caller_with_little_time_does_not_lower_the_limit_of_others() -> None:
    now = [0.0]
    gradient = Gradient(Bounds(start=100), lambda: now[0])
    for _ in range(20):
        now[0] += 0.1
        gradient.ended("get", now[0] - 0.1, 5)
        gradient.late("get", now[0] - 0.01)

    assert gradient.limit == 100
    now[0] += 1
    gradient.late("get", now[0] - 1)
    assert gradient.limit == 90


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5000), st.booleans()), max_size=200))
def test_the_limit_keeps_its_bounds(calls: list[tuple[float, int, bool]]) -> None:
    now = [0.0]
    gradient = Gradient(Bounds(least=3, most=50, start=10), lambda: now[0])
    for seconds, busy, refused in calls:
        now[0] += seconds
        if refused:
            gradient.refused(now[0] - seconds)
        else:
            assert gradient.ended("call", now[0] - seconds, busy) >= 0
        assert 3 <= gradient.limit <= 50


def test_half_of_the_calls_taking_longer_is_no_use_but_somebody_tries_each_second() -> None:
    now = [0.0]
    gradient = Gradient(clock=lambda: now[0])
    for _ in range(20):
        now[0] += 0.2
        gradient.ended("call", now[0] - 0.2, 1)

    assert gradient.hopeless("call", 0.1)
    assert not gradient.hopeless("call", 0.3)
    assert not gradient.hopeless("other", 0.1)
    now[0] += 1.1
    assert not gradient.hopeless("call", 0.1)
