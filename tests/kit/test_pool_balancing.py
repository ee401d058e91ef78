"""Calls of several real instances by round robin, weights and load: as a list, a DNS or a lease says them."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from services.kit.auth import Identity
from services.kit.balancing import Way
from services.kit.breaker import Rules
from services.kit.cache import Cache, NearCache
from services.kit.calls import CallTable
from services.kit.channels import BalancedChannel, SomeChannel
from services.kit.config import ConfigError
from services.kit.discovery import Directory, Listed, Source
from services.kit.discovery_dns import Names
from services.kit.discovery_redis import Leases
from services.kit.pool import Pool
from tests.support.house import until
from tests.support.server import free_ports
from tests.support.servers import address, redis_cache
from tests.support.speakers import PATH, Speaker, several, speakers, who


def pool_of(found: Sequence[Speaker], way: Way) -> Pool:
    return Pool("who", [one.instance for one in found], ways=lambda route: ("", way))


async def connected(pool: Pool, count: int) -> BalancedChannel:
    """A channel, once so many are connected; turns begin anew."""
    channel = BalancedChannel(pool)
    await who(channel)
    await until(lambda: sum(member.connected for member in pool.members) == count)
    pool.rule(Rules())
    return channel


@contextlib.asynccontextmanager
async def three(way: Way, *weights: int) -> AsyncIterator[tuple[list[Speaker], Pool, BalancedChannel]]:
    """Three instances that are connected."""
    async with speakers(3) as found:
        for one, weight in zip(found, weights, strict=False):
            one.weight = weight
        pool = pool_of(found, way)
        yield found, pool, await connected(pool, 3)
        await pool.close()


async def test_round_robin_asks_one_instance_after_the_other() -> None:
    async with three(Way.ROUND_ROBIN) as (_, _, channel):
        order = await several(channel, 12)

        assert Counter(order) == {"a": 4, "b": 4, "c": 4}
        assert all(set(order[at : at + 3]) == {"a", "b", "c"} for at in range(10))


async def test_by_weights_also_among_those_that_are_left() -> None:
    async with three(Way.WEIGHTED, 6, 3, 1) as (found, pool, channel):
        assert Counter(await several(channel, 100)) == {"a": 60, "b": 30, "c": 10}
        await found[0].stop()
        await until(lambda: sum(member.connected for member in pool.members) == 2)

        left = Counter(await several(channel, 100))
        assert abs(left["b"] - 75) <= 3
        await found[0].start()
        await until(lambda: sum(member.connected for member in pool.members) == 3)
        assert abs(Counter(await several(channel, 100))["a"] - 60) <= 4


async def test_a_weight_that_changes_counts_at_once_and_breaks_no_connection() -> None:
    async with three(Way.WEIGHTED) as (found, pool, channel):
        before = list(pool.members)
        found[1].weight = 8
        pool.update([one.instance for one in found])

        assert list(pool.members) == before
        assert abs(Counter(await several(channel, 100))["b"] - 80) <= 2


async def test_the_one_with_the_fewest_calls_under_way_is_called() -> None:
    async with three(Way.LEAST_CONNECTIONS) as (found, pool, channel):
        for one in found:
            one.gate.clear()
        waiting = [asyncio.ensure_future(who(channel)) for _ in range(9)]
        await until(lambda: sum(member.load for member in pool.members) == 9)

        assert [member.load for member in pool.members] == [3, 3, 3]
        found[1].gate.set()
        await until(lambda: sum(task.done() for task in waiting) == 3)
        assert set(await several(channel, 10)) == {"b"}
        for one in found:
            one.gate.set()
        await asyncio.gather(*waiting)


async def test_some_instances_have_turns_among_them() -> None:
    async with three(Way.ROUND_ROBIN) as (_, pool, _):
        some = SomeChannel(pool, ("a", "c"))

        assert Counter(await several(some, 10)) == {"a": 5, "c": 5}


async def test_one_that_was_chosen_is_called_and_takes_one_turn_only() -> None:
    async with three(Way.ROUND_ROBIN) as (_, pool, _):
        some, called = SomeChannel(pool, ("a", "b")), Counter[str]()
        for _ in range(10):
            called[await who(some.of(await some.member(1, PATH)))] += 1

        assert called == {"a": 5, "b": 5}


async def test_a_route_has_its_own_way_and_the_table_may_change(tmp_path: Path) -> None:
    file = tmp_path / "calls.toml"
    file.write_text('[balancing]\n"*" = "weighted"')
    async with speakers(2) as found:
        one, two = (speaker.instance.address for speaker in found)
        table = CallTable(file)
        directory = Directory((), Listed(f"registry={one};weight=9|{two}"), calls=table)
        channel = directory.channel("registry")
        watching = asyncio.ensure_future(table.watch(directory.rule))
        pool = directory.pool("registry")
        assert pool
        await who(channel)
        await until(lambda: sum(member.connected for member in pool.members) == 2)
        directory.rule()
        assert Counter(await several(channel, 50)) == {"a": 45, "b": 5}

        file.write_text('[balancing]\nregistry = "round_robin"\n"*" = "weighted"')
        await until(lambda: pool.by(PATH).way is Way.ROUND_ROBIN, 2)
        assert Counter(await several(channel, 50)) == {"a": 25, "b": 25}
        watching.cancel()
        await directory.close()


@pytest.mark.parametrize("more", ["weight=0", "weight=1001", "weight=", "weight=x", "heavy=3", "weight=3;weight=4"])
def test_a_weight_that_is_none_stops_the_start(more: str) -> None:
    with pytest.raises(ConfigError, match=r"must be host:port;weight=1\.\.1000"):
        Listed(f"registry=10.0.0.1:9101;{more}")


@contextlib.asynccontextmanager
async def turning(source: Source) -> AsyncIterator[Directory]:
    """A directory that takes turns by weight, by a source."""
    directory = Directory((), source)
    await directory.start()
    pool = directory.pool("registry")
    assert pool
    pool._ways = lambda route: ("", Way.WEIGHTED)
    try:
        yield directory
    finally:
        await directory.close()


async def test_instances_behind_a_name_have_turns() -> None:
    [port] = free_ports(1)
    found = [Speaker(name, port, host=host) for name, host in (("a", "127.0.0.1"), ("b", "127.0.0.2"))]
    for one in found:
        await one.start()

    async def zone(host: str, port: int) -> list[str]:
        return [one.host for one in found]

    async with turning(Names(f"registry=registry:{port}", zone)) as directory:
        pool = directory.pool("registry")
        assert pool
        channel = await connected(pool, 2)
        assert Counter(await several(channel, 20)) == {"a": 10, "b": 10}
    for one in found:
        await one.stop()


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Cache]]:
    shared, url = NearCache(), address("redis") if request.param == "far" else ""
    made: Callable[[], Cache] = lambda: redis_cache(url) if url else shared  # noqa: E731
    clearing = made()
    await clearing.start()
    for left in await clearing.members("discovery"):  # by a test before
        await clearing.withdraw("discovery", left)
    yield made
    await clearing.close()


async def test_processes_say_in_their_leases_what_they_weigh(cache: Callable[[], Cache], tmp_path: Path) -> None:
    async with speakers(2) as found:
        leases = []
        for one, weight in zip(found, (3, 1), strict=True):
            lease = Leases(cache(), Identity(f"registry-{one.name}", tmp_path), 0.02, weight)
            await lease.start(lambda table: None)
            await lease.announce({"registry": one.instance.address})
            leases.append(lease)
        async with turning(Leases(cache(), Identity("gateway-1", tmp_path), 0.02)) as directory:
            pool = directory.pool("registry")
            assert pool
            await until(lambda: len(pool.members) == 2)
            channel = await connected(pool, 2)
            assert abs(Counter(await several(channel, 100))["a"] - 75) <= 2
        for lease in leases:
            await lease.close()


async def test_a_weight_that_its_process_has_not_signed_is_not_believed(tmp_path: Path) -> None:
    shared, process = NearCache(), Identity("registry-1", tmp_path)
    lease, reader = Leases(shared, process, 0.02, 2), Directory((), Leases(shared, Identity("g", tmp_path), 0.02))
    await lease.announce({"registry": "10.0.0.1:9101"})
    [(member, value)] = (await shared.members("discovery")).items()
    await shared.announce("discovery", member, value.replace(b'"weight":2', b'"weight":900'), 10)
    await reader.start()

    assert list(reader.instances("registry")) == []
    await lease.close()
    await reader.close()
