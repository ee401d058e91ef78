"""Gateways that share several buckets of one request: each admits what one bucket would, and none is charged alone."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from services.gateway.limits import PARKED, Limit, Standing, Taking
from services.gateway.limits_shared import SharedBuckets
from tests.gateway.gateways import World
from tests.gateway.levels import Account
from tests.support.servers import Program, redis_cache

TENANT, MODEL = Limit(60, 100, "tenant/all"), Limit(40, 64, "model/one")
KEYS = [Limit(20, 40), Limit(30, 24), Limit(100, 200)]


class Levels(World):
    """Requests of three keys for one model."""

    def __init__(self, gateways: int) -> None:
        super().__init__(TENANT, gateways)
        named = {"tenant": TENANT, "model": MODEL} | {f"key-{number}": limit for number, limit in enumerate(KEYS)}
        self.accounts = {name: Account(limit) for name, limit in named.items()}

    def takings(self, key: int, cost: float = 1.0) -> list[Taking]:
        names = (f"key-{key}", "tenant", "model")
        return [Taking(name, self.accounts[name].limit, cost) for name in names]

    async def ask(self, gateway: int, key: int, cost: float = 1.0, costly: bool = False) -> Standing:
        standing = await self.gateways[gateway].wait_all(self.takings(key, cost), costly)
        if standing.admitted:
            self.admitted += 1
            for taking in self.takings(key, cost):
                self.accounts[taking.key].paid.append([self.now, cost])
        else:
            self.refused += 1
        return standing

    async def many(self, rng: random.Random, rate: float, seconds: float) -> None:
        begun = self.now
        while self.now < begun + seconds:
            await self.wait(rng.expovariate(rate))
            await self.ask(rng.randrange(len(self.gateways)), rng.randrange(len(KEYS)))

    def beyond(self) -> dict[str, float]:
        """What each level admitted beyond one bucket, in the window in which that is most."""
        return {name: -account.least(self.now) for name, account in self.accounts.items()}


async def world(gateways: int = 2) -> Levels:
    made = Levels(gateways)
    await made.begin()
    return made


@pytest.mark.parametrize("gateways", [1, 2, 4])
@pytest.mark.parametrize("seed", [1, 2])
async def test_no_level_admits_more_than_one_bucket_would_and_hardly_less(gateways: int, seed: int) -> None:
    shared = await world(gateways)
    await shared.many(random.Random(seed), 150, 15)

    assert max(shared.beyond().values()) <= 1e-6
    assert shared.admitted >= 0.9 * (MODEL.burst + 15 * MODEL.rate)


async def test_what_one_level_refuses_is_charged_at_none() -> None:
    shared = await world()
    while (await shared.ask(0, 0)).admitted:
        pass
    before = {name: shared.gateways[0]._shares[name].left for name in ("tenant", "model")}
    for _ in range(20):
        assert (await shared.ask(0, 0)).of is KEYS[0]

    assert {name: shared.gateways[0]._shares[name].left for name in before} == before
    assert (await shared.ask(0, 2)).admitted


async def test_slices_of_all_levels_come_in_one_answer() -> None:
    shared = await world()
    asked = shared.lines[0].asked
    assert (await shared.ask(0, 2)).admitted

    assert shared.lines[0].asked == asked + 1
    assert shared.gateways[0].take_all(shared.takings(2)) is not None


async def test_many_requests_of_many_keys_wait_for_few_answers() -> None:
    shared = await world()
    asked = shared.lines[0].asked
    standings = await asyncio.gather(*(shared.ask(0, number % 3) for number in range(30)))

    assert all(standing.admitted for standing in standings)
    assert shared.lines[0].asked - asked <= 12


async def test_what_is_given_back_can_be_spent_again_and_no_more() -> None:
    shared = await world()
    gateway = shared.gateways[0]
    for _ in range(5):
        assert (await shared.ask(0, 2)).admitted
    left = {name: gateway._shares[name].left for name in ("key-2", "tenant", "model")}
    takings = shared.takings(2)
    assert gateway.take_all(takings)
    gateway.give_back(gateway.taken(takings))
    assert {name: gateway._shares[name].left for name in left} == left

    for _ in range(50):
        gateway.give_back(gateway.taken(takings))
    assert all(share.left <= share.most for share in gateway._shares.values())


async def test_requests_that_give_back_what_they_took_open_no_level() -> None:
    """As requests do that are refused by their model after their key and tenant have let them in."""
    shared, rng = await world(4), random.Random(3)
    going: list[tuple[int, list[Taking], list[list[float]]]] = []
    for _ in range(4000):
        await shared.wait(rng.expovariate(200))
        number, key = rng.randrange(4), rng.randrange(3)
        takings = shared.takings(key)[:2]
        if (await shared.gateways[number].wait_all(takings)).admitted:
            lines = [[shared.now, 1.0] for _ in takings]
            for taking, line in zip(takings, lines, strict=True):
                shared.accounts[taking.key].paid.append(line)
            going.append((number, takings, lines))
        if going and rng.random() < 0.7:
            number, takings, lines = going.pop(rng.randrange(len(going)))
            if rng.random() < 0.5:
                shared.gateways[number].give_back(shared.gateways[number].taken(takings))
                for taking, line in zip(takings, lines, strict=True):
                    shared.accounts[taking.key].paid.remove(line)

    assert max(-account.least(0.0) for account in shared.accounts.values()) <= 1e-6


@pytest.mark.parametrize("gateways", [1, 3])
async def test_while_the_cache_is_away_every_level_holds_within_a_tenth(gateways: int) -> None:
    shared, rng = await world(gateways), random.Random(5)
    await shared.many(rng, 100, 6)
    shared.cut()
    before = shared.admitted
    await shared.many(rng, 100, 30)
    alone = shared.admitted - before
    shared.cut(False)
    await shared.many(rng, 100, 20)

    assert alone >= 0.8 * 30 * MODEL.rate
    for name, excess in shared.beyond().items():
        limit = shared.accounts[name].limit
        assert excess <= 0.1 * (limit.burst + 60 * limit.rate), name
    assert not any(gateway.degraded for gateway in shared.gateways)


async def test_while_alone_the_tightest_level_says_so_and_costly_work_is_paid_in_full_at_each() -> None:
    shared = await world()
    shared.cut()
    await shared.wait(4)
    cheap, costly = await shared.ask(0, 2, 40), await shared.ask(1, 2, 40, costly=True)

    assert (cheap.admitted, cheap.degraded, cheap.of) == (True, True, MODEL)
    assert cheap.policy == b'"model/one";q=64;w=2;degraded'
    assert (costly.admitted, costly.of) == (False, MODEL)  # its part is 32
    assert not (await shared.ask(0, 2)).admitted  # what was more than its part is owed


@pytest.fixture
async def four(redis_server: Program) -> AsyncIterator[list[SharedBuckets]]:
    """Four gateways on a real Redis. A busy machine must not look like a Redis that is away: they wait a second."""
    caches = [redis_cache(redis_server.address, budget=1.0) for _ in range(4)]
    gateways = [SharedBuckets(cache, f"g{number}") for number, cache in enumerate(caches)]
    for cache in caches:
        await cache.start()
    for gateway in [*gateways, *gateways]:
        gateway._announced = -1e9
        await gateway.look()
    following = [asyncio.create_task(gateway.follow()) for gateway in gateways]
    yield gateways
    for task in following:
        task.cancel()
    for gateway, cache in zip(gateways, caches, strict=True):
        await gateway.close()
        await cache.close()


@pytest.mark.far
async def test_four_gateways_on_redis_admit_exactly_what_each_level_says(four: list[SharedBuckets]) -> None:
    """Ten seconds at 480 a second: twice what the keys have, and more than that of what the model has."""
    model, keys = Limit(100, 200, "model/one"), [Limit(120, 100), Limit(120, 100)]
    decided: list[tuple[float, int]] = []

    async def ask(number: int) -> None:
        takings = [Taking(f"key-{number % 2}", keys[number % 2], 1), Taking("model", model, 1)]
        if (await four[number // 2 % 4].wait_all(takings)).admitted:
            decided.append((time.monotonic(), number % 2))

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(4800):
            await asyncio.sleep(max(0.0, begun + number / 480 - time.monotonic()))
            group.create_task(ask(number))
    took = decided[-1][0] - begun

    admitted = len(decided)
    assert not any(gateway.degraded for gateway in four)
    assert admitted <= model.burst + model.rate * took
    assert admitted >= model.burst + model.rate * took - model.burst * PARKED - 1
    for key, limit in enumerate(keys):
        assert sum(of == key for _, of in decided) <= limit.burst + limit.rate * took
