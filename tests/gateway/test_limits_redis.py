"""Gateways that share limits through a real Redis, which is killed, frozen, emptied and started again under load."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from redis.asyncio import Redis

from services.gateway.limits import Limit, Taking
from services.gateway.limits_shared import SharedBuckets
from services.kit.cache_redis import TAKE_BUDGET, RedisCache
from tests.gateway.conftest import gateway_at
from tests.support.house import until
from tests.support.servers import Program

pytestmark = pytest.mark.far
LIMIT = Limit(100, 200)


class Load:
    """Gateways on one Redis, calls of one key at them in turn, and what became of them."""

    def __init__(self, server: Program, gateways: int = 2, budget: float = TAKE_BUDGET) -> None:
        self.caches = [RedisCache(server.address, budget=budget) for _ in range(gateways)]
        self.gateways = [SharedBuckets(cache, f"g{number}") for number, cache in enumerate(self.caches)]
        # When each call came, whether it was admitted, whether it had to wait for Redis, and seconds that it took.
        self.calls: list[tuple[float, bool, bool, float]] = []

    async def start(self) -> None:
        for cache in self.caches:
            await cache.start()
        for gateway in [*self.gateways, *self.gateways]:
            gateway._announced = -1e9
            await gateway.look()
        self._following = [asyncio.create_task(gateway.follow()) for gateway in self.gateways]

    async def stop(self) -> None:
        for task in self._following:
            task.cancel()
        for gateway, cache in zip(self.gateways, self.caches, strict=True):
            await gateway.close()
            await cache.close()

    async def call(self, number: int) -> None:
        gateway, begun = self.gateways[number % len(self.gateways)], time.monotonic()
        standing = gateway.take("k", LIMIT)
        waits = standing is None
        admitted = (standing or await gateway.wait_all([Taking("k", LIMIT, 1)])).admitted
        self.calls.append((begun, admitted, waits, time.monotonic() - begun))

    async def run(self, rate: float, seconds: float) -> None:
        """Calls at a steady rate, whether or not those before have been answered."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                group.create_task(self.call(number))

    def excess(self) -> float:
        """The most that was admitted beyond what one bucket would have."""
        level, at, most = LIMIT.burst, self.calls[0][0], 0.0
        for when, admitted, _, _ in sorted(self.calls):
            level, at = min(LIMIT.burst, level + (when - at) * LIMIT.rate), when
            level -= admitted
            most = max(most, -level)
        return most

    def since(self, when: float) -> list[tuple[float, bool, bool, float]]:
        return [call for call in self.calls if call[0] >= when]


@pytest.fixture
async def load(redis_server: Program) -> AsyncIterator[Load]:
    made = Load(redis_server)
    await made.start()
    yield made
    await made.stop()


async def test_two_gateways_admit_what_one_bucket_would(redis_server: Program) -> None:
    load = Load(redis_server, budget=1.0)  # a busy machine must not look like a Redis that is away
    await load.start()
    await load.run(300, 5)
    await load.stop()

    assert load.excess() <= 5  # answers are noted later than they were decided
    assert sum(call[1] for call in load.calls) >= 0.9 * (LIMIT.burst + 5 * LIMIT.rate)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_calls_within_the_limit_do_not_notice_that_redis_is_away(
    redis_server: Program, load: Load, fault: str
) -> None:
    await load.run(80, 2)
    getattr(redis_server, fault)()
    away = time.monotonic()
    await load.run(80, 4)

    assert all(call[1] for call in load.calls)
    assert not any(call[2] for call in load.since(away + 0.2)), "nobody waits for what is away"
    assert max(call[3] for call in load.since(away)) < 0.5


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_load_above_the_limit_gains_nothing_by_redis_being_away(
    redis_server: Program, load: Load, fault: str
) -> None:
    await load.run(300, 2)
    getattr(redis_server, fault)()
    await load.run(300, 4)
    redis_server.thaw() if fault == "freeze" else redis_server.start()
    begun = time.monotonic()
    while any(gateway.degraded for gateway in load.gateways):
        await load.run(300, 1)
        assert time.monotonic() - begun < 60
    await load.run(300, 2)

    assert load.excess() <= 0.1 * (LIMIT.burst + 60 * LIMIT.rate)


async def test_emptying_redis_gives_no_second_burst(redis_server: Program, load: Load) -> None:
    await load.run(300, 3)
    async with Redis.from_url(redis_server.address, protocol=2) as client:
        for _ in range(5):
            await client.flushall()
            await load.run(300, 0.5)

    assert load.excess() <= 0.1 * (LIMIT.burst + 60 * LIMIT.rate)


async def test_a_restart_of_redis_gives_no_second_burst(redis_server: Program, load: Load) -> None:
    await load.run(300, 3)
    running = asyncio.create_task(load.run(300, 4))
    await asyncio.to_thread(redis_server.stop)
    await asyncio.to_thread(redis_server.start)
    await running

    assert load.excess() <= 0.1 * (LIMIT.burst + 60 * LIMIT.rate)


async def test_a_gateway_says_when_it_is_alone_and_refuses_costly_work_when_its_part_is_spent(
    redis_server: Program, tmp_path: Path
) -> None:
    shared = {"AIMASS_CACHE_URL": redis_server.address, "AIMASS_GATEWAY_RATE": "0.01", "AIMASS_GATEWAY_BURST": "40"}
    where = "static:trainer=127.0.0.1:9"
    async with gateway_at(tmp_path / "a", AIMASS_DISCOVERY_URL=where, **shared) as one, one.client() as client:
        await until(lambda: _policy(client, '"key";q=40;w=4000'))

        await asyncio.to_thread(redis_server.kill)
        await until(lambda: _policy(client, '"key";q=40;w=4000;degraded'))
        spent = [(await client.get("/v1/tenants")).status_code for _ in range(60)]
        assert spent.count(200) <= 40
        assert spent[-1] == 429
        refused = await client.post("/v1/jobs", json={})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert "retry-after" in refused.headers


async def _policy(client: httpx2.AsyncClient, policy: str) -> bool:
    return bool((await client.get("/v2/health/live")).headers["ratelimit-policy"] == policy)


async def test_attempts_without_a_key_are_few_while_gateways_are_alone(redis_server: Program, tmp_path: Path) -> None:
    few = {"AIMASS_CACHE_URL": redis_server.address, "AIMASS_GATEWAY_RATE": "0.1", "AIMASS_GATEWAY_BURST": "50"}
    async with gateway_at(tmp_path / "a", **few) as one, one.client("wrong") as stranger, one.client() as known:
        assert [(await stranger.get("/v1/tenants")).status_code for _ in range(10)] == [401] * 10

        await asyncio.to_thread(redis_server.kill)
        await until(lambda: _policy(known, '"key";q=50;w=500;degraded'))
        answers = [(await stranger.get("/v1/tenants")).status_code for _ in range(10)]
        assert answers[-1] == 429
        assert (await known.get("/v1/tenants")).status_code == 200
