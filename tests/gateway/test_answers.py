"""Answers that are kept: whose, for how long, how many, and how other gateways find them."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.traffic.answers import Answers, Question
from services.kit.auth import Scope
from services.kit.cache import NearCache
from services.kit.errors import Unavailable
from services.kit.tensors import Tensor

ACME = Scope("acme")
X, Y = Tensor("x", "FP32", (1, 1), b"abcd"), Tensor("y", "FP32", (1, 1), b"efgh")
ASKED = Question(ACME, "sha256:1", [X], ())


class Shared(NearCache):
    """A cache of several processes."""

    near = False


class Away(Shared):
    """One that nobody answers at."""

    async def get(self, key: str) -> bytes | None:
        raise Unavailable("redis is away")

    async def set(self, key: str, value: bytes, seconds: float) -> None:
        raise Unavailable("redis is away")


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_an_answer_is_given_again_to_the_same_question_for_its_time() -> None:
    clock = Clock()
    answers = Answers(NearCache(), clock)
    answers.keep(ASKED, [Y], 10)

    assert await answers.find(ASKED) == [Y]
    clock.now = 10.1
    assert await answers.find(ASKED) is None


async def test_another_question_has_another_answer() -> None:
    answers = Answers(NearCache())
    answers.keep(ASKED, [Y], 10)
    others = [
        ASKED._replace(scope=Scope("other")),
        ASKED._replace(scope=Scope("acme", "second")),
        ASKED._replace(digest="sha256:2"),
        ASKED._replace(outputs=("y",)),
        ASKED._replace(inputs=[X._replace(raw=b"abce")]),
        ASKED._replace(inputs=[X._replace(shape=(1,))]),
        ASKED._replace(inputs=[X._replace(name="z")]),
    ]

    assert [await answers.find(other) for other in others] == [None] * len(others)
    assert len({question.key() for question in (ASKED, *others)}) == len(others) + 1


async def test_other_gateways_find_it_in_the_shared_cache() -> None:
    cache = Shared()
    one, other = Answers(cache), Answers(cache)
    sharing = asyncio.create_task(one.share())
    one.keep(ASKED, [Y], 10)
    await asyncio.sleep(0.01)

    assert await other.find(ASKED) == [Y]
    sharing.cancel()


async def test_a_cache_that_is_away_costs_its_answers_only() -> None:
    answers = Answers(Away())
    sharing = asyncio.create_task(answers.share())
    answers.keep(ASKED, [Y], 10)
    await asyncio.sleep(0.01)

    assert await answers.find(ASKED) == [Y]
    assert await answers.find(ASKED._replace(digest="sha256:2")) is None
    assert not sharing.done()
    sharing.cancel()


async def test_large_answers_are_not_kept() -> None:
    answers = Answers(NearCache())
    answers.keep(ASKED, [Y._replace(raw=bytes(70_000))], 10)

    assert answers.size == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2000)), max_size=100))
def test_what_is_kept_is_bounded(asked: list[tuple[int, int]]) -> None:
    answers = Answers(NearCache(), most=5_000)
    for number, size in asked:
        answers.keep(ASKED._replace(digest=str(number)), [Y._replace(raw=bytes(size))], 10)
        assert 0 <= answers.size <= 5_000

    assert (answers.size == 0) == (not answers._kept)
