import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.limits import Buckets, Limit


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 1000),
    calls=st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 50)), max_size=60),
)
def test_no_more_is_admitted_than_burst_and_rate_allow(
    rate: float, burst: float, calls: list[tuple[float, float]]
) -> None:
    clock, limit, spent = Clock(), Limit(rate, burst), 0.0
    buckets = Buckets(clock)
    for wait, cost in calls:
        clock.now += wait
        if buckets.take("a", limit, cost).admitted:
            spent += min(cost, burst)

        assert spent <= burst + rate * clock.now + 1e-6


@given(rate=st.floats(0.1, 1000), burst=st.floats(1, 100), cost=st.floats(0.5, 200))
def test_who_waits_as_long_as_he_is_told_is_admitted(rate: float, burst: float, cost: float) -> None:
    clock, limit = Clock(), Limit(rate, burst)
    buckets = Buckets(clock)
    buckets.take("a", limit, burst)

    clock.now += buckets.take("a", limit, cost).retry_after * (1 + 1e-9) + 1e-9
    assert buckets.take("a", limit, cost).admitted


def test_a_full_bucket_holds_its_burst() -> None:
    clock = Clock()
    buckets = Buckets(clock)

    assert [buckets.take("a", Limit(1, 3)).admitted for _ in range(4)] == [True, True, True, False]


def test_keys_do_not_share_a_bucket() -> None:
    buckets = Buckets(Clock())
    buckets.take("a", Limit(1, 1))

    assert buckets.take("b", Limit(1, 1)).admitted


def test_the_headers_say_what_is_left_and_when_it_is_full() -> None:
    buckets = Buckets(Clock())

    standing = buckets.take("a", Limit(2, 10), 3)
    assert (standing.limit, standing.remaining, standing.reset) == (10, 7, 2)
    assert dict(standing.headers())[b"ratelimit-remaining"] == b"7"


@pytest.mark.parametrize("limit", [Limit(2, 10), Limit(1.5, 7, "model/late", "bytes"), Limit(1, 3, "tenant", "rows")])
def test_the_headers_are_written_as_they_are_said(limit: Limit) -> None:
    standing = Buckets(Clock()).take("a", limit, 2)

    assert standing.lines() == b"".join(b"%b: %b\r\n" % pair for pair in standing.headers())


def test_a_cost_above_the_burst_is_not_refused_for_ever() -> None:
    assert Buckets(Clock()).take("a", Limit(1, 5), 50).admitted


def test_a_smaller_limit_holds_at_once() -> None:
    buckets = Buckets(Clock())
    buckets.take("a", Limit(1, 100))

    assert buckets.take("a", Limit(1, 2)).remaining == 1


def test_memory_is_bounded_and_nobody_gains_by_it() -> None:
    clock = Clock()
    buckets = Buckets(clock, most=100)
    limit = Limit(0.001, 2)
    for number in range(90):
        buckets.take(f"idle-{number}", limit)
    clock.now += 10_000
    assert buckets.take("busy", limit, 2).admitted
    for number in range(1000):
        buckets.take(f"other-{number % 50}", limit)

    assert len(buckets) <= 100
    assert not buckets.take("busy", limit, 1).admitted
