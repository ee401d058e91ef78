"""When something is away, and when it is tried again."""

import random

from hypothesis import given
from hypothesis import strategies as st

from services.kit.outage import FAILURES, LONGEST, Outage


def test_a_few_failures_in_a_row_say_that_it_is_away() -> None:
    outage = Outage()

    assert [outage.failed() for _ in range(FAILURES + 1)] == [False] * (FAILURES - 1) + [True, False]
    assert outage.away


def test_a_success_in_between_begins_anew() -> None:
    outage = Outage()
    for _ in range(10):
        outage.failed()
        assert not outage.worked()
        outage.failed()
    outage.worked()

    assert not outage.away


def test_it_began_with_the_first_of_the_failures() -> None:
    clock = iter([100.0, 200.0])
    outage = Outage(lambda: next(clock))
    outage.failed()
    outage.failed()
    assert outage.since == 100.0

    assert not outage.worked()
    assert outage.since is None
    outage.failed()
    assert outage.since == 200.0


def test_the_success_that_ends_it_says_so() -> None:
    outage = Outage()
    while not outage.failed():
        pass

    assert [outage.worked(), outage.worked()] == [True, False]


@given(seed=st.integers(), tries=st.integers(1, 200))
def test_pauses_grow_up_to_the_longest_and_are_never_the_same(seed: int, tries: int) -> None:
    outage = Outage(rng=random.Random(seed))
    pauses = [outage.pause() for _ in range(tries)]

    for number, pause in enumerate(pauses):
        longest = min(2.0**number, LONGEST)
        assert longest / 2 <= pause <= longest
    outage.worked()
    assert outage.pause() <= 1
