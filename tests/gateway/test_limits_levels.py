"""Several buckets for one request: all admit it or none is charged, and no level admits more than it may."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.gateway.limits import Buckets, Limit, Taking, payable, tightest
from tests.gateway.levels import Model, run


class Levels(RuleBasedStateMachine):
    """Requests of some keys for some models, in every order that hypothesis can think of."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(0)

    @rule(seconds=st.floats(0, 5) | st.just(0.0))
    def wait(self, seconds: float) -> None:
        self.model.wait(seconds)

    @rule(
        key=st.integers(0, 4),
        model=st.integers(0, 2),
        rows=st.sampled_from([1, 5, 50, 200]),
        size=st.sampled_from([40, 200, 3000]),
        times=st.sampled_from([1, 1, 3, 10]),
    )
    def arrive(self, key: int, model: int, rows: int, size: int, times: int) -> None:
        for _ in range(times):
            self.model.arrive(key, model, rows, size)

    @rule(which=st.integers(0, 1000), times=st.sampled_from([1, 1, 3, 10]))
    def go_on(self, which: int, times: int) -> None:
        for _ in range(times):
            self.model.go_on(which)

    @invariant()
    def no_level_admits_more_than_it_may(self) -> None:
        self.model.check()


TestLevels = Levels.TestCase
TestLevels.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_steps_keep_to_every_limit(seed: int) -> None:
    model = run(10_000, seed)

    assert model.admitted > 2000
    assert min(model.refused.values()) > 100


def test_what_one_bucket_refuses_is_taken_from_none() -> None:
    buckets, wide, narrow = Buckets(lambda: 0.0), Limit(1, 10), Limit(1, 2, "model/narrow")
    both = [Taking("wide", wide, 1), Taking("narrow", narrow, 1)]
    seen = [buckets.take_all(both) for _ in range(4)]

    assert [standing.admitted for standing in seen] == [True, True, False, False]
    assert buckets.take("wide", wide).remaining == 7


def test_the_tightest_tells() -> None:
    buckets = Buckets(lambda: 0.0)
    wide, narrow = buckets.take("wide", Limit(1, 10), 4), buckets.take("narrow", Limit(1, 4, "model/narrow"), 2)
    slow, quick = buckets.take("slow", Limit(0.1, 1, "slow"), 1), buckets.take("quick", Limit(1, 1, "quick"), 1)
    slow, quick = buckets.take("slow", slow.of), buckets.take("quick", quick.of)

    assert tightest([wide, narrow]).of.name == "model/narrow"
    assert tightest([wide, slow, quick]) is slow
    assert dict(narrow.headers())[b"ratelimit"] == b'"model/narrow";r=2;t=2'


def test_what_is_given_back_is_there_again() -> None:
    clock = [0.0]
    buckets, limit = Buckets(lambda: clock[0]), Limit(1, 10)
    taking = [Taking("k", limit, 4)]
    buckets.take_all(taking)
    taken = buckets.taken(taking)
    clock[0] = 1.0
    buckets.give_back(taken)

    assert buckets.take("k", limit, 0).remaining == 10


def test_a_full_bucket_that_others_drew_from_meanwhile_gets_no_more_than_it_would_have() -> None:
    """Without the four it would have stayed full, and the second that passed would have run over."""
    clock = [0.0]
    buckets, limit = Buckets(lambda: clock[0]), Limit(1, 10)
    taking = [Taking("k", limit, 4)]
    buckets.take_all(taking)
    taken = buckets.taken(taking)
    clock[0] = 1.0
    assert buckets.take("k", limit, 7).admitted
    buckets.give_back(taken)

    assert buckets.take("k", limit, 0).remaining == 3


@pytest.mark.parametrize(("burst", "most"), [(1, 1), (7, 7), (8, 7), (100, 87.5)])
def test_a_request_can_cost_what_no_other_gateway_may_hold(burst: float, most: float) -> None:
    assert payable(Limit(1, burst)) == most
