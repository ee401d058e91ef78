"""When a request is tried again and when not: the plan itself, without a socket and without waiting."""

import random
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass import Failure, exchange
from aimass.exchange import Answer, Plan, Send, Sleep, Unreachable

GET = Send("GET", "/v1/models/late", [("a", "b")], {"accept": "application/json"})


class Clock:
    """The clock of a plan: sleeping is all that takes time, and what an answer is said to take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def problem(status: int, code: str, **more: Any) -> Answer:
    return Answer(status, {}, orjson.dumps({"code": code, "detail": "no", **more}))


def drive(plan: Plan[Answer], answers: Iterator[Any], clock: Clock | None = None) -> tuple[Any, list[Any]]:
    """Carries out a plan with these answers; gives what came of it and its steps."""
    steps: list[Any] = []
    try:
        step = next(plan)
        while True:
            steps.append(step)
            if isinstance(step, Sleep):
                if clock:
                    clock.now += step.seconds
                step = plan.send(Answer(0, {}, b""))
                continue
            answer = next(answers)
            step = plan.throw(answer) if isinstance(answer, Exception) else plan.send(answer)
    except StopIteration as end:
        return end.value, steps
    except Failure as failure:
        return failure, steps


def test_an_answer_is_given_at_once(clock: Clock) -> None:
    answer = Answer(200, {}, b"{}")

    assert drive(exchange.exchange(GET, 60), iter([answer])) == (answer, [GET])


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 409, 412, 413, 416, 422, 428, 431, 499, 500, 502, 504, 507]
)
def test_a_refusal_is_not_tried_again(clock: Clock, status: int) -> None:
    found, steps = drive(exchange.exchange(GET, 60), iter([problem(status, "invalid_value")]))

    assert (found.code, found.status) == ("invalid_value", status)
    assert steps == [GET]


def test_a_budget_that_is_spent_is_not_asked_again(clock: Clock) -> None:
    found, steps = drive(exchange.exchange(GET, 60), iter([problem(429, "quota_exceeded")]), clock)

    assert (found.code, found.status) == ("quota_exceeded", 429)
    assert steps == [GET]


@pytest.mark.parametrize(
    "first",
    [problem(503, "unavailable"), problem(429, "rate_limited"), Unreachable("away"), Unreachable("late", late=True)],
    ids=str,
)
def test_a_plea_to_come_back_and_no_answer_are_tried_again(clock: Clock, first: Any) -> None:
    answer = Answer(200, {}, b"{}")
    found, steps = drive(exchange.exchange(GET, 60), iter([first, first, answer]), clock)

    assert found == answer
    assert [type(step) for step in steps] == [Send, Sleep, Send, Sleep, Send]


def test_every_try_sends_the_same_request(clock: Clock) -> None:
    _, steps = drive(exchange.exchange(GET, 60), iter([Unreachable("away"), Answer(200, {}, b"")]), clock)
    sent = [(step.method, step.path, step.query, step.headers, step.content) for step in steps if type(step) is Send]

    assert sent[0] == sent[1]


@pytest.mark.parametrize(("late", "code"), [(True, "deadline_exceeded"), (False, "unavailable")])
def test_in_the_end_it_says_what_was_wrong_last(clock: Clock, late: bool, code: str) -> None:
    away = Unreachable("http://x cannot be reached", late)
    found, _ = drive(exchange.exchange(GET, 3), iter([problem(503, "overloaded"), *[away] * 1000]), clock)

    assert (found.code, found.detail, found.status) == (code, "http://x cannot be reached", 0)


def test_a_server_is_given_the_time_that_it_wants(clock: Clock) -> None:
    answers = iter([problem(429, "rate_limited", retry_after_ms=2500), Answer(200, {}, b"")])
    _, steps = drive(exchange.exchange(GET, 60), answers, clock)

    assert steps[1].seconds >= 2.5


def test_who_cannot_wait_that_long_fails_at_once(clock: Clock) -> None:
    found, steps = drive(exchange.exchange(GET, 2), iter([problem(429, "rate_limited", retry_after_ms=2500)]), clock)

    assert (found.code, found.retry_after) == ("rate_limited", 2.5)
    assert steps == [Send(**{**GET.__dict__, "seconds": 2.0})]


@given(st.floats(0.05, 120), st.integers(0, 2**32))
def test_no_plan_takes_longer_than_its_budget(budget: float, seed: int) -> None:
    random.seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        found, steps = drive(exchange.exchange(GET, budget), iter([Unreachable("away")] * 100_000), clock)

        assert found.code == "unavailable"
        assert clock.now - 100 < budget + 1e-6
        assert all(0 <= step.seconds <= exchange._LONGEST for step in steps if isinstance(step, Sleep))
        assert all(0 < step.seconds <= min(GET.seconds, budget + 1e-6) for step in steps if isinstance(step, Send))


def test_pauses_grow_up_to_a_bound(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    _, steps = drive(exchange.exchange(GET, 30), iter([Unreachable("away")] * 100), clock)
    pauses = [step.seconds for step in steps if isinstance(step, Sleep)]

    assert pauses[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(pauses[7:]) == {5.0}


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    pauses = set()
    for _ in range(20):
        plan = exchange.exchange(GET, 60)
        next(plan)
        step = plan.throw(Unreachable("away"))
        assert isinstance(step, Sleep)
        pauses.add(step.seconds)

    assert len(pauses) > 10
