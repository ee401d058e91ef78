"""Gateways that count together: never more than one bucket admits, hardly less, and on their own when they must."""

import asyncio
import logging
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.limits import PARKED, Limit, Taking
from services.gateway.limits_shared import SharedBuckets
from services.gateway.limits_slice import SLICE
from tests.gateway.gateways import World

LIMIT = Limit(20, 40)
ALLOWED = 0.1  # of what a minute admits, while gateways count alone


def minute(limit: Limit) -> float:
    return limit.burst + 60 * limit.rate


async def world(limit: Limit = LIMIT, gateways: int = 2) -> World:
    return await World(limit, gateways).begin()


_CALLS = st.lists(
    st.tuples(st.floats(0, 4) | st.just(0.0), st.integers(0, 3), st.sampled_from([1.0, 1.0, 1.0, 2.0, 10.0])),
    max_size=80,
)


@settings(max_examples=60, deadline=None)
@given(calls=_CALLS, gateways=st.integers(1, 4), rate=st.floats(0.1, 50), burst=st.floats(12, 500))
async def test_all_gateways_admit_no_more_than_one_bucket(
    calls: list[tuple[float, int, float]], gateways: int, rate: float, burst: float
) -> None:
    shared = await world(Limit(rate, burst), gateways)
    for wait, gateway, cost in calls:
        await shared.wait(wait)
        await asyncio.gather(*(shared.call(gateway % gateways, cost) for _ in range(3)))

        assert shared.excess <= 1e-6


@pytest.mark.parametrize("gateways", [1, 2, 5])
async def test_a_load_above_the_limit_gets_what_the_limit_allows(gateways: int) -> None:
    shared = await world(gateways=gateways)
    await shared.load(random.Random(1), 60, 20)

    assert shared.excess <= 1e-6
    assert shared.admitted >= 0.93 * (LIMIT.burst + 20 * LIMIT.rate)


async def test_a_load_below_the_limit_is_never_refused_and_hardly_ever_waits() -> None:
    shared = await world()
    await shared.load(random.Random(2), 10, 2)
    waited = 0
    for gateway in shared.gateways:
        take = gateway.take

        def watched(*arguments: object, take: object = take) -> object:
            nonlocal waited
            standing = take(*arguments)  # type: ignore[operator]
            waited += standing is None
            return standing

        gateway.take = watched  # type: ignore[assignment, method-assign]
    begun = shared.admitted
    await shared.load(random.Random(3), 12, 20)

    assert shared.refused == 0
    assert waited < 0.02 * (shared.admitted - begun)


async def test_one_gateway_may_use_the_whole_limit() -> None:
    shared = await world(gateways=4)
    await shared.load(random.Random(4), 18, 30, 2)

    assert shared.refused == 0


async def test_a_burst_is_there_for_whom_it_is_wanted() -> None:
    shared = await world()
    granted = [await shared.call(number % 2) for number in range(int(LIMIT.burst * (1 - PARKED)))]

    assert all(standing.admitted for standing in granted)


async def test_what_nobody_spends_is_handed_back() -> None:
    shared = await world(Limit(0.001, 200))
    await shared.call(0)
    await shared.wait(SLICE)

    assert 198.9 < shared.gateways[0]._shares["k"].tokens < 199.1


async def test_a_gateway_that_ends_hands_back_what_it_has() -> None:
    shared = await world(Limit(0.001, 200))
    await shared.call(0)
    await shared.gateways[0].close()
    await shared.call(1)

    assert shared.gateways[1]._shares["k"].guess(shared.now) > 180
    assert len(await shared.server.members("limits")) == 1


async def test_who_was_refused_is_told_when_and_asks_nobody_meanwhile() -> None:
    shared = await world(Limit(1, 20))
    while (standing := await shared.call(0)).admitted:
        pass
    asked = shared.lines[0].asked
    for _ in range(50):
        assert not (await shared.call(0)).admitted
    assert shared.lines[0].asked == asked

    await shared.wait(standing.retry_after + 0.01)
    assert (await shared.call(0)).admitted


async def test_many_calls_at_a_time_wait_for_one_slice() -> None:
    shared = await world()
    asked = shared.lines[0].asked
    standings = await asyncio.gather(*(shared.call(0) for _ in range(30)))

    assert all(standing.admitted for standing in standings)
    assert shared.lines[0].asked - asked <= 6


async def test_a_large_cost_can_be_paid_although_another_gateway_is_busy() -> None:
    shared = await world(Limit(5, 24))
    await shared.call(1)
    while not (standing := await shared.call(0, 20)).admitted:
        await shared.wait(standing.retry_after)
        await shared.call(1)
        assert shared.now < 60


async def test_a_changed_limit_holds_soon() -> None:
    shared = await world()
    await shared.call(0)
    shared.limit = Limit(1, 8)
    await shared.wait(SLICE + 1)

    assert sum([(await shared.call(0)).admitted for _ in range(50)]) <= 8


async def test_answers_that_are_lost_give_nothing_away() -> None:
    shared = await world(Limit(10, 100))
    rng = random.Random(5)
    for _ in range(40):
        shared.lines[0].loses = rng.random() < 0.3
        await shared.load(rng, 40, 0.5)

    assert shared.excess <= ALLOWED * minute(shared.limit)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("gateways", [1, 2, 4])
async def test_while_the_cache_is_away_limits_hold_within_a_tenth(seed: int, gateways: int) -> None:
    shared, rng = await world(gateways=gateways), random.Random(seed)
    await shared.load(rng, 30, 5 + rng.random())
    shared.cut()
    before, begun = shared.admitted, shared.now
    await shared.load(rng, 30, 60)
    alone, seconds = shared.admitted - before, shared.now - begun
    shared.cut(False)
    await shared.load(rng, 30, 30)

    assert alone >= 0.9 * LIMIT.rate * seconds
    assert shared.excess <= ALLOWED * minute(LIMIT)
    assert not any(gateway.degraded for gateway in shared.gateways)


@pytest.mark.parametrize("seed", range(6))
async def test_an_emptied_cache_gives_no_second_burst(seed: int) -> None:
    shared, rng = await world(), random.Random(seed)
    await shared.load(rng, 60, 5)
    for _ in range(20):
        shared.server.empty()
        await shared.load(rng, 60, 0.5)

    assert shared.excess <= ALLOWED * minute(LIMIT)
    assert shared.excess <= LIMIT.burst * PARKED * 2


_FAULTS = st.lists(
    st.tuples(st.sampled_from(["cut", "mend", "mend one by one", "empty", "none"]), st.floats(2, 20)), max_size=4
)


@settings(max_examples=12, deadline=None)
@given(faults=_FAULTS, seed=st.integers(0, 2**32), gateways=st.integers(1, 3))
async def test_no_history_of_faults_admits_a_tenth_too_much(
    faults: list[tuple[str, float]], seed: int, gateways: int
) -> None:
    limit = Limit(10, 20)
    shared, rng = await world(limit, gateways), random.Random(seed)
    await shared.load(rng, 30, 3)
    for fault, seconds in faults:
        if fault == "empty":
            shared.server.empty()
        elif fault == "mend one by one":
            for line in shared.lines:
                line.cut = False
                await shared.load(rng, 30, seconds / gateways)
        elif fault != "none":
            shared.cut(fault == "cut")
        await shared.load(rng, 30, seconds)

        assert shared.excess <= ALLOWED * max(minute(limit), limit.burst + limit.rate * shared.now)


async def test_a_gateway_that_alone_is_cut_off_adds_its_part_and_no_more() -> None:
    shared, rng = await world(gateways=4), random.Random(9)
    await shared.load(rng, 60, 5)
    shared.lines[0].cut = True
    await shared.load(rng, 60, 30)

    assert shared.excess <= (LIMIT.burst + 30 * LIMIT.rate) / 4


async def test_calls_within_the_limit_do_not_notice_that_the_cache_goes_and_comes() -> None:
    shared, rng = await world(), random.Random(7)
    for _ in range(4):
        await shared.load(rng, 12, 20)
        shared.cut()
        await shared.load(rng, 12, 20)
        shared.cut(False)

    assert shared.refused == 0


async def test_while_alone_a_gateway_asks_nobody_and_takes_no_time() -> None:
    shared = await world(Limit(1e6, 1e6))
    shared.cut()
    await shared.call(0)
    asked, begun = shared.lines[0].asked, time.perf_counter()
    for _ in range(1000):
        assert shared.gateways[0].take("k", shared.limit) is not None

    assert shared.lines[0].asked == asked
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(("slow", "alone"), [(1, False), (2, False), (3, True)])
async def test_a_cache_that_was_slow_thrice_in_a_row_is_away(slow: int, alone: bool) -> None:
    shared = await world()
    for _ in range(2):
        shared.lines[0].slow = slow
        standing = await shared.call(0, 10)
        await shared.wait(50)

        assert (standing.admitted, standing.degraded) == (True, alone)


async def test_while_alone_answers_say_so() -> None:
    shared = await world()
    assert (await shared.call(0)).policy == b'"key";q=40;w=2'

    shared.cut()
    await shared.wait(4)
    standing = await shared.call(0)
    assert standing.degraded
    assert (standing.policy, standing.limit) == (b'"key";q=40;w=2;degraded', 40)
    assert dict(standing.headers())[b"ratelimit-policy"].endswith(b";degraded")


async def test_while_alone_costly_work_is_paid_in_full() -> None:
    shared = await world(Limit(0.01, 30))
    shared.cut()
    await shared.wait(4)

    cheap, costly = await shared.call(0, 20), await shared.call(1, 20, costly=True)
    assert cheap.admitted
    assert not costly.admitted
    assert costly.retry_after > 0


async def test_a_change_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    shared, rng = await world(), random.Random(8)
    with caplog.at_level(logging.WARNING, "services.gateway.limits_shared"):
        shared.cut()
        await shared.load(rng, 20, 10)
        shared.cut(False)
        await shared.load(rng, 20, 50)

    assert [record.getMessage() for record in caplog.records] == [
        "limits are counted by this gateway alone, as one of 2: redis is away",
    ] * 2 + ["limits are shared again by 2 gateways"] * 2


async def test_memory_is_bounded() -> None:
    shared = World(LIMIT, 1)
    gateway = SharedBuckets(shared.lines[0], "g", lambda: shared.now, most=50)
    for number in range(500):
        await gateway.wait_all([Taking(f"k{number}", LIMIT, 1)])
        shared.now += 0.01

    assert len(gateway) <= 50
