import time

import pytest

from services.kit.pace import Pace


class Clock:
    at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_few_pieces_begin_at_once_and_the_next_ones_at_the_pace(clock: Clock) -> None:
    pace = Pace(0.1, at_once=3, clock=clock)

    assert [pytest.approx(pace.pause()) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]


def test_who_waits_as_told_begins_once_in_every_so_many_seconds(clock: Clock) -> None:
    pace, began = Pace(0.1, at_once=2, clock=clock), list[float]()
    for _ in range(6):
        clock.at += pace.pause()
        began.append(clock.at - 100)

    assert began == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4])


def test_after_a_rest_as_many_begin_at_once_as_at_first_and_no_more(clock: Clock) -> None:
    pace = Pace(0.1, at_once=2, clock=clock)
    for _ in range(2):
        clock.at += pace.pause()
    clock.at += 1000

    assert [pytest.approx(pace.pause()) for _ in range(3)] == [0, 0, 0.1]


async def test_waiting_takes_as_long_as_the_pause() -> None:
    pace = Pace(0.02, at_once=1)
    began = time.monotonic()
    for _ in range(4):
        await pace.wait()
    assert time.monotonic() - began >= 0.06
