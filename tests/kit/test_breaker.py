"""When calls of an instance are let through."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.breaker import Breaker, Outcome, Rules, State

WELL, BADLY, LOST, REFUSED, UNKNOWN = Outcome
KINDS = st.sampled_from(Outcome)


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 1000.0
    breaker: Breaker = field(init=False)

    def __post_init__(self) -> None:
        self.breaker = Breaker(clock=lambda: self.now)

    def calls(self, outcome: Outcome, count: int = 1) -> State:
        """So many calls, one after the other; the state behind them."""
        for _ in range(count):
            self.breaker.end(self.breaker.begin(), outcome)
        return self.breaker.state

    def passes(self, seconds: float) -> State:
        self.now += seconds
        return self.breaker.state


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_half_of_twenty_calls_failing_opens_it(clock: Clock) -> None:
    clock.calls(WELL, 10)
    assert clock.calls(BADLY, 9) is State.CLOSED
    assert clock.calls(BADLY) is State.OPEN


def test_less_than_half_is_borne(clock: Clock) -> None:
    for _ in range(50):
        clock.calls(WELL, 11)
        assert clock.calls(BADLY, 9) is State.CLOSED


def test_what_failed_long_ago_does_not_count(clock: Clock) -> None:
    clock.calls(BADLY, 19)
    clock.passes(10.5)

    assert clock.calls(BADLY, 19) is State.CLOSED


def test_five_lost_calls_in_a_row_open_it(clock: Clock) -> None:
    clock.calls(LOST, 4)
    clock.calls(WELL)
    assert clock.calls(LOST, 4) is State.CLOSED
    assert clock.calls(LOST) is State.OPEN


def test_what_its_caller_gave_up_says_nothing(clock: Clock) -> None:
    assert clock.calls(UNKNOWN, 100) is State.CLOSED


def test_open_it_admits_nothing_for_a_second(clock: Clock) -> None:
    clock.calls(LOST, 5)

    assert not clock.breaker.admits()
    assert clock.passes(0.99) is State.OPEN
    assert clock.passes(0.02) is State.HALF_OPEN


def test_it_is_tried_with_one_call_then_with_three(clock: Clock) -> None:
    clock.calls(LOST, 5)
    clock.passes(1)
    breaker = clock.breaker

    assert breaker.admits()
    first = breaker.begin()
    assert not breaker.admits()
    breaker.end(first, WELL)
    three = [breaker.begin() for _ in range(3) if breaker.admits()]
    assert len(three) == 3
    assert not breaker.admits()
    for ticket in three:
        breaker.end(ticket, WELL)
    assert breaker.state is State.CLOSED


def test_a_probe_that_fails_doubles_the_time_up_to_half_a_minute(clock: Clock) -> None:
    clock.calls(LOST, 5)
    for seconds in (1, 2, 4, 8, 16, 30, 30):
        assert clock.passes(seconds - 0.01) is State.OPEN
        assert clock.passes(0.02) is State.HALF_OPEN
        assert clock.calls(BADLY) is State.OPEN


def test_after_a_long_good_time_it_opens_for_a_second_again(clock: Clock) -> None:
    clock.calls(LOST, 5)
    clock.passes(1)
    clock.calls(BADLY)
    clock.passes(2)
    assert clock.calls(WELL, 4) is State.CLOSED
    clock.passes(31)
    clock.calls(LOST, 5)

    assert clock.passes(1) is State.HALF_OPEN


def test_one_that_falls_back_at_once_stays_open_longer(clock: Clock) -> None:
    clock.calls(LOST, 5)
    clock.passes(1)
    assert clock.calls(WELL, 4) is State.CLOSED
    clock.calls(LOST, 5)

    assert clock.passes(1.9) is State.OPEN


def test_a_probe_that_was_given_up_makes_room_for_another(clock: Clock) -> None:
    clock.calls(LOST, 5)
    clock.passes(1)
    clock.calls(UNKNOWN)

    assert clock.breaker.admits()


def test_a_probe_that_never_ends_does_not_keep_it_half_open(clock: Clock) -> None:
    clock.calls(LOST, 5)
    clock.passes(1)
    clock.breaker.begin()
    assert not clock.breaker.admits()
    clock.passes(10)

    assert clock.breaker.admits()


def test_what_ends_late_says_nothing_of_the_state_after(clock: Clock) -> None:
    late = clock.breaker.begin()
    clock.calls(LOST, 5)
    clock.passes(1)
    clock.breaker.end(late, BADLY)

    assert clock.breaker.state is State.HALF_OPEN


def test_an_instance_that_is_reached_again_is_tried_at_once(clock: Clock) -> None:
    clock.calls(LOST, 5)
    clock.breaker.retry_soon()

    assert clock.breaker.state is State.HALF_OPEN


@given(st.lists(st.tuples(KINDS, st.floats(0, 5)), max_size=200), st.floats(0, 1))
def test_it_never_stays_shut_and_never_closes_on_a_failure(steps: list[tuple[Outcome, float]], dice: float) -> None:
    now = 0.0
    breaker = Breaker(Rules(), lambda: now, lambda: dice)
    for outcome, seconds in steps:
        now += seconds
        before = breaker.state
        if not breaker.admits():
            assert breaker.opened_until - now <= 36  # longest, and a fifth more
            continue
        breaker.end(breaker.begin(), outcome)
        if outcome in (BADLY, LOST):
            assert breaker.state is not State.CLOSED or before is State.CLOSED
    now += 40
    assert breaker.admits()


@given(st.lists(st.booleans(), min_size=20, max_size=400))
def test_it_opens_when_half_of_what_it_counts_failed_and_not_before(failures: list[bool]) -> None:
    breaker, counted = Breaker(clock=lambda: 0.0), list[bool]()
    for failed in failures:
        counted.append(failed)
        breaker.end(breaker.begin(), BADLY if failed else WELL)
        due = failed and len(counted) >= 20 and sum(counted) * 2 >= len(counted)
        assert (breaker.state is State.OPEN) == due
        if due:
            return


@given(st.lists(st.lists(KINDS, min_size=1, max_size=5), max_size=60))
def test_half_open_it_never_lets_more_through_than_its_probes(rounds: list[list[Outcome]]) -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    for outcome in (LOST,) * 5:
        breaker.end(breaker.begin(), outcome)
    for outcomes in rounds:
        now += 0.5
        if breaker.state is not State.HALF_OPEN:
            continue
        tickets = [breaker.begin() for _ in range(10) if breaker.admits()]
        assert len(tickets) in (1, 2, 3)
        for ticket, outcome in zip(tickets, [*outcomes, *[UNKNOWN] * 3], strict=False):
            breaker.end(ticket, outcome)
