"""What only Redis can do to us: be refused, be away, be frozen, be emptied, be started again."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from services.kit import redis_link
from services.kit.allowance import Claim
from services.kit.cache_redis import RedisCache
from services.kit.cache_scripts import HASHES, permissions
from services.kit.config import ConfigError
from services.kit.errors import Code, Failure
from tests.support.house import until
from tests.support.servers import Program

pytestmark = pytest.mark.far
CLAIM = Claim("one", 1, 0.001, 10.0, want=4, least=1)


@pytest.fixture
async def cache(redis_server: Program) -> AsyncIterator[RedisCache]:
    made = RedisCache(redis_server.address, budget=0.5)
    await made.start()
    yield made
    await made.close()


async def command(redis_server: Program, *parts: str) -> object:
    async with Redis.from_url(redis_server.address, protocol=2) as client:
        return await client.execute_command(*parts)  # type: ignore[no-untyped-call]


async def away(cache: RedisCache) -> None:
    """Asks until the cache knows that nobody answers."""
    while cache.up:
        with pytest.raises(Failure) as caught:
            await cache.get("k")
        assert caught.value.code is Code.UNAVAILABLE


async def test_a_server_that_is_away_costs_a_call_nothing(redis_server: Program, cache: RedisCache) -> None:
    redis_server.kill()
    await away(cache)

    begun = time.perf_counter()
    for _ in range(1000):
        with pytest.raises(Failure, match="redis is unavailable"):
            await cache.take("k", CLAIM)
    assert time.perf_counter() - begun < 0.5
    assert cache.away_since is not None
    assert time.time() - 60 < cache.away_since <= time.time()


async def test_a_frozen_server_is_waited_for_no_longer_than_the_budget(
    redis_server: Program, cache: RedisCache
) -> None:
    redis_server.freeze()
    begun = time.perf_counter()
    with pytest.raises(Failure, match="does not answer"):
        await cache.take("k", CLAIM)

    assert time.perf_counter() - begun < 0.9


async def test_a_server_that_is_back_is_found_without_a_call(redis_server: Program, cache: RedisCache) -> None:
    await cache.set("k", b"x", 60)
    redis_server.kill()
    await away(cache)
    redis_server.start()

    await until(lambda: cache.up, 20)
    assert await cache.get("k") == b"x"
    assert cache.away_since is None


async def test_a_server_that_comes_later_is_found(redis_server: Program) -> None:
    redis_server.kill()
    cache = RedisCache(redis_server.address, budget=0.5)
    await cache.start()
    assert not cache.up

    redis_server.start()
    await until(lambda: cache.up, 20)
    assert (await cache.take("k", CLAIM)).granted == 4
    await cache.close()


async def test_scripts_that_the_server_has_forgotten_are_brought_again(
    redis_server: Program, cache: RedisCache
) -> None:
    await command(redis_server, "SCRIPT", "FLUSH")

    assert (await cache.take("k", CLAIM)).granted == 4


async def test_an_emptied_server_forgets_nothing_from_then_on(redis_server: Program, cache: RedisCache) -> None:
    await cache.add("k", 60)
    before, known = cache.born, (await cache.take("k", CLAIM)).epoch
    await asyncio.sleep(0.01)
    await command(redis_server, "FLUSHALL")

    assert await cache.add("k", 60)
    assert cache.born > before
    assert (await cache.take("k", Claim("one", 2, 0.001, 10.0, want=9, least=1, epoch=known, view=2))).granted == 2


async def test_a_restart_is_a_new_beginning_although_values_survive_it(
    redis_server: Program, cache: RedisCache
) -> None:
    known = (await cache.take("k", CLAIM)).epoch
    before = cache.born
    await asyncio.sleep(1.1)  # the server tells its age in whole seconds
    redis_server.stop()
    redis_server.start()
    await until(lambda: _answers(cache), 20)

    grant = await cache.take("k", Claim("one", 9, 0.001, 10.0, want=9, least=1, epoch=known, view=2))
    assert cache.born > before
    assert grant.epoch != known
    assert grant.granted == 2


async def _answers(cache: RedisCache) -> bool:
    try:
        await cache.get("k")
    except Failure:
        return False
    return True


async def test_a_clock_that_was_set_back_gives_nothing_away(redis_server: Program, cache: RedisCache) -> None:
    await cache.take("k", CLAIM)
    later = f"{time.time() + 3600:.6f}"
    await command(redis_server, "HSET", "aimass:pot:k", "a", later, "hother", f"2 {time.time() + 3603:.6f} 1")

    assert 3.9 < (await cache.take("k", Claim("two", 1, 0.001, 10.0, want=9, least=1))).granted < 4.1


async def test_a_user_who_may_run_our_scripts_only_is_enough(redis_server: Program) -> None:
    await command(redis_server, "ACL", "SETUSER", "house", "on", ">word", *permissions().split())
    cache = RedisCache(redis_server.address.replace("redis://", "redis://house:word@"), budget=2.0)
    await cache.start()
    assert cache.up
    await cache.set("k", b"x", 60)
    await cache.announce("g", "m", b"x", 60)

    assert (await cache.get("k"), await cache.members("g"), await cache.add("k", 60)) == (b"x", {"m": b"x"}, True)
    assert (await cache.take("k", CLAIM)).granted == 4
    await cache.withdraw("g", "m")
    await cache.delete("k")
    await cache.close()


async def test_a_user_of_ours_may_run_no_other_script(redis_server: Program) -> None:
    await command(redis_server, "ACL", "SETUSER", "house", "on", ">word", *permissions().split())
    async with Redis.from_url(redis_server.address.replace("redis://", "redis://house:word@"), protocol=2) as client:
        foreign = await client.script_load("return redis.call('KEYS', '*')")
        assert foreign not in HASHES.values()
        for attempt in (client.evalsha(foreign, 0), client.eval("return 1", 0), client.get("other"), client.keys()):
            with pytest.raises(Exception, match=r"(?i)permission"):
                await attempt


async def test_an_older_server_is_refused(redis_server: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "OLDEST", 99)
    refused = RedisCache(redis_server.address)
    with pytest.raises(ConfigError, match="older than 99"):
        await refused.start()
    await refused.close()

    allowed = RedisCache(redis_server.address, any_version=True)
    await allowed.start()
    assert allowed.up
    await allowed.close()


async def test_a_server_that_forgets_what_it_should_keep_is_refused(redis_server: Program) -> None:
    await command(redis_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    cache = RedisCache(redis_server.address)

    with pytest.raises(ConfigError, match="maxmemory-policy is allkeys-lru"):
        await cache.start()
    await cache.close()


async def test_many_calls_at_a_time_share_few_connections(redis_server: Program, cache: RedisCache) -> None:
    await asyncio.gather(*(cache.set(str(number), b"x", 60) for number in range(500)))

    listed = await command(redis_server, "CLIENT", "LIST")
    assert isinstance(listed, bytes)
    assert listed.count(b"\n") <= 34


async def test_who_asks_can_be_cancelled_at_any_moment(redis_server: Program, cache: RedisCache) -> None:
    async def ask_for_ever() -> None:
        while True:
            await cache.get("anything")

    for turns in range(400):
        asking = asyncio.ensure_future(ask_for_ever())
        for _ in range(10 + turns % 40):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking}, timeout=5)
        assert asking.cancelled(), f"lost after {turns} times"
