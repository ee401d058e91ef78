"""How long a backup waits for those who read events."""

import pytest

from services.kit.stack.snapshot import Patience


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def waited(clock: Clock, backlogs: list[int]) -> int:
    """Seconds until nobody waits any more, with a backlog each second: the last one stays."""
    patience = Patience(30, 300, clock)
    while not patience.ended(backlogs[min(int(clock.now), len(backlogs) - 1)]):
        clock.now += 1
        assert clock.now < 1000
    return int(clock.now)


def test_a_backlog_that_stays_is_waited_for_half_a_minute(clock: Clock) -> None:
    assert waited(clock, [7]) == 31


def test_a_backlog_that_becomes_less_is_waited_for(clock: Clock) -> None:
    assert waited(clock, list(range(200, 100, -1))) == 130


def test_a_backlog_that_comes_and_goes_is_waited_for_no_longer_than_one_that_stays(clock: Clock) -> None:
    assert waited(clock, [5, 4, 9] + [8, 4] * 50) == 32


def test_nobody_waits_for_ever(clock: Clock) -> None:
    assert waited(clock, list(range(1000, 0, -1))) == 301


def test_readers_that_nobody_knows_come_no_nearer(clock: Clock) -> None:
    assert waited(clock, [0]) == 31
