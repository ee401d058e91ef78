"""A consumer that returns at once, with nothing, is noticed."""

from itertools import count

from services.kit.bus_kafka.circling import Circling


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.paused = 0.0

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.paused += seconds


def polls_until_noticed(circling: Circling, took: float, most: int = 1000) -> int:
    return next((n for n in count(1) if n > most or circling.after(False, took)), 0)


def test_one_that_returns_at_once_is_given_up_after_some_seconds() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    assert polls_until_noticed(circling, 0.0) < 1000
    assert 10 < clock.now < 11


def test_one_that_returns_at_once_is_asked_seldom_until_it_is_given_up() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    assert polls_until_noticed(circling, 0.0) < 250


def test_one_that_waits_for_news_is_left_alone() -> None:
    clock = Clock()

    assert polls_until_noticed(Circling(clock.pause, lambda: clock.now), 0.25) > 1000
    assert clock.paused == 0


def test_one_that_reads_now_and_then_is_left_alone() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    assert not any(circling.after(number % 100 == 0, 0.0) for number in range(1000))


def test_the_next_consumer_has_its_own_time() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)
    polls_until_noticed(circling, 0.0)

    assert not circling.after(False, 0.0)


def test_one_that_keeps_a_processor_busy_is_given_up_soon() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    assert next(n for n in count(1) if circling.after(False, 0.25, 0.1)) == 9
    assert not circling.after(False, 0.25, 0.1)


def test_one_that_works_for_what_it_finds_or_only_for_moments_is_left_alone() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    assert not any(circling.after(number % 8 == 0, 0.25, 0.2) for number in range(1000))
    assert not any(circling.after(False, 0.25, 0.2 if number % 8 else 0.001) for number in range(1000))


def test_one_that_stays_mute_is_given_up_whatever_it_brings() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    for _ in range(8):
        assert not circling.after(True, 0.25)
        assert not circling.silent(True)
        clock.now += 0.25

    clock.now += 0.25
    assert circling.silent(True)
    assert not circling.silent(True)


def test_one_that_was_mute_for_a_moment_is_left_alone() -> None:
    clock = Clock()
    circling = Circling(clock.pause, lambda: clock.now)

    for number in range(1000):
        clock.now += 0.25
        assert not circling.silent(number % 8 != 0)
