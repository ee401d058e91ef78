"""Damages come from their seed alone, and are damages."""

import random

import pytest

from tests.fuzz.mutations import MUTATIONS, Mutation, mutated

DATA = b"POST /v1/models?page_size=20 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n" + b'{"model":"m"}'
OTHER = b"GET /v2 HTTP/1.1\r\nHost: other\r\n\r\n"


def test_the_same_seed_makes_the_same_damage() -> None:
    first, second = (mutated(random.Random(7), DATA, OTHER) for _ in range(2))
    assert first == second


def test_hardly_two_seeds_make_the_same_damage() -> None:
    made = {mutated(random.Random(seed), DATA, OTHER) for seed in range(1000)}
    assert len(made) > 900


@pytest.mark.parametrize("mutation", dict.fromkeys(MUTATIONS), ids=lambda mutation: mutation.__name__)
def test_each_kind_of_damage_changes_something(mutation: Mutation) -> None:
    assert any(mutation(random.Random(seed), DATA, OTHER) != DATA for seed in range(10))


@pytest.mark.parametrize("mutation", dict.fromkeys(MUTATIONS), ids=lambda mutation: mutation.__name__)
def test_nothing_can_be_damaged_too(mutation: Mutation) -> None:
    assert isinstance(mutation(random.Random(1), b"", b""), bytes)
