"""Who waits, who goes first, and who is sent away."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.overload.line import Line
from services.gateway.overload.priority import Priority

ADMIN, INTERACTIVE, WRITE, BATCH, SEARCH = Priority


@dataclass(eq=False)
class One:
    """Somebody."""

    priority: Priority = INTERACTIVE
    stale_at: float = 10.0
    name: int = 0


def names(line: Line[One], room: int) -> list[int]:
    """Those who wait, in the order in which they are served."""
    found = []
    while one := line.next(room):
        line.leave(one)
        found.append(one.name)
    return found


def test_in_a_short_line_the_first_come_is_served_first() -> None:
    line = Line[One]()
    for name in range(3):
        line.enter(One(name=name), 100)

    assert names(line, 100) == [0, 1, 2]


def test_in_a_line_that_is_half_full_the_newest_is_served_first() -> None:
    line = Line[One]()
    for name in range(6):
        line.enter(One(name=name), 10)

    assert names(line, 10) == [5, 4, 0, 1, 2, 3]


def test_the_most_urgent_go_first_whenever_they_came() -> None:
    line = Line[One]()
    for name, priority in enumerate((SEARCH, BATCH, WRITE, INTERACTIVE, ADMIN)):
        line.enter(One(priority, name=name), 100)

    assert names(line, 100) == [4, 3, 2, 1, 0]


def test_who_is_more_urgent_takes_the_place_of_the_oldest_of_the_least_urgent() -> None:
    line = Line[One]()
    waiting = [One(BATCH), One(SEARCH), One(SEARCH)]
    for one in waiting:
        line.enter(one, 3)

    assert line.enter(One(INTERACTIVE), 3) is waiting[1]
    assert line.count == 3


def test_who_is_not_more_urgent_finds_no_room() -> None:
    line = Line[One]()
    line.enter(One(BATCH), 1)
    late = One(BATCH)

    assert line.enter(late, 1) is late
    assert not line.leave(late)


def test_who_has_waited_too_long_is_found_in_a_long_line_only() -> None:
    line = Line[One]()
    old = One(stale_at=1.0)
    line.enter(old, 10)
    assert line.surplus(10, now=2.0) is None

    for _ in range(4):
        line.enter(One(), 10)
    assert line.surplus(10, now=2.0) is old
    assert line.surplus(10, now=0.5) is None


def test_when_there_is_less_room_the_oldest_of_the_least_urgent_go() -> None:
    line = Line[One]()
    waiting = [One(BATCH), One(SEARCH), One(SEARCH)]
    for one in waiting:
        line.enter(one, 10)

    assert line.surplus(2, now=0.0) is waiting[1]


STEPS = st.lists(st.one_of(st.sampled_from(Priority), st.none()), max_size=300)


@given(STEPS, st.integers(1, 20))
def test_the_line_is_bounded_and_the_urgent_never_wait_behind_others(steps: list[Priority | None], room: int) -> None:
    line, inside = Line[One](), set[One]()
    for step in steps:
        if step is None:
            if one := line.next(room):
                assert one.priority == min(waiting.priority for waiting in inside)
                line.leave(one)
                inside.discard(one)
        else:
            comer = One(step)
            out = line.enter(comer, room)
            inside = (inside | {comer}) - {out}
            assert out is None or out.priority >= step
        assert line.count == len(inside) <= room


@given(STEPS)
def test_health_is_sent_away_only_by_health(steps: list[Priority | None]) -> None:
    line, admins = Line[One](), 0
    for step in steps:
        if step is not None:
            out = line.enter(One(step), 5)
            admins += step is ADMIN
            if out and out.priority is ADMIN:
                assert admins > 5
                admins -= 1
