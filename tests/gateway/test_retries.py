"""How often the gateway asks again."""

import asyncio

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.calls import repeatable
from services.gateway.retries import ATTEMPTS, Retries
from services.kit import contract


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 3)), max_size=60))
def test_repeats_are_a_fifth_of_the_requests_and_ten_a_second(steps: list[tuple[int, int, float]]) -> None:
    clock = Clock()
    retries, asked, granted = Retries(clock), 0, 0
    for requests, repeats, seconds in steps:
        for _ in range(requests):
            retries.asked()
        asked += requests
        granted += sum(retries.granted() for _ in range(repeats))
        assert granted <= 0.2 * asked + 10 * clock.now + 10 + 1e-6
        clock.now += seconds


def test_a_dead_backend_is_asked_a_fifth_more_often_than_without_repeats() -> None:
    clock = Clock()
    retries, attempts = Retries(clock), 0
    for _ in range(100_000):
        clock.now += 0.0001
        retries.asked()
        attempts += 1
        while attempts and retries.granted():
            attempts += 1

    assert attempts <= 1.2 * 100_000 + 10 * clock.now + 10


def test_what_is_saved_is_bounded() -> None:
    retries = Retries(Clock())
    for _ in range(100_000):
        retries.asked()

    assert sum(retries.granted() for _ in range(1000)) <= 110


@given(st.integers(1, 50), st.floats(0, 1))
def test_pauses_are_by_chance_and_bounded(attempt: int, dice: float) -> None:
    pause = Retries(dice=lambda: dice).pause(attempt)

    assert 0 <= pause <= min(0.05 * 2 ** (attempt - 1), 1)


@pytest.mark.parametrize(
    ("attempt", "seconds", "again"), [(1, 10.0, True), (2, 10.0, True), (ATTEMPTS, 10.0, False), (1, 0.0, False)]
)
def test_there_are_three_tries_within_the_deadline(attempt: int, seconds: float, again: bool) -> None:
    retries = Retries(Clock(), dice=lambda: 0.1)

    assert asyncio.run(retries.again(attempt, seconds)) is again


@pytest.mark.parametrize(
    ("path", "said", "may"),
    [
        ("aimass.v1.Models/GetModel", {}, True),
        ("aimass.v1.Releases/PromoteVersion", {}, False),
        ("aimass.v1.Releases/PromoteVersion", {"idempotency-key": "k"}, True),
        ("aimass.v1.Models/DeleteModel", {"if-match": '"1"'}, False),
        ("aimass.v1.Models/DeleteModel", {}, True),
    ],
)
def test_only_what_does_no_harm_twice_is_repeated(path: str, said: dict[str, str], may: bool) -> None:
    assert repeatable(contract.all_methods()[f"/{path}"], said) is may


def test_every_method_of_the_contract_says_what_a_second_call_does() -> None:
    unclear = [m.path for m in contract.all_methods().values() if not m.policy.effect and isinstance(m.policy, Message)]

    assert unclear == []
