"""Signed requests are taken once, whatever happens to the memory of them."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from services.gateway.nonces import SKEW, WINDOW, Nonces
from services.kit.cache import NearCache
from services.kit.errors import Code, Failure, Unavailable
from tests.support.house import until
from tests.support.servers import Program, redis_cache

START = 1_000_000.0


class World:
    """Our clock, that of the cache, and a cache that can be away or be emptied."""

    def __init__(self) -> None:
        self.time = self.true = START
        self.cache = Fragile(self)

    def now(self) -> float:
        return self.time

    def ticks(self) -> float:
        return self.true

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.true += seconds


class Fragile(NearCache):
    """The near cache, behind a line that can be cut."""

    def __init__(self, world: World) -> None:
        super().__init__(lambda: world.true)
        self._world = world
        self.since: float | None = None

    @property
    def away_since(self) -> float | None:  # type: ignore[override]
        return self.since

    def cut(self) -> None:
        self.since = self._world.time

    def mend(self) -> None:
        self.since = None

    def empty(self) -> None:
        super().__init__(lambda: self._world.true)

    async def add(self, key: str, seconds: float) -> bool:
        if self.since is not None:
            raise Unavailable("away", retry_after=1)
        return await super().add(key, seconds)


@pytest.fixture
def world() -> World:
    made = World()
    made.wait(60)  # the cache is not new any more
    return made


@pytest.fixture
def nonces(world: World) -> Nonces:
    return Nonces(world.cache, world.now, world.ticks)


async def refused(nonces: Nonces, nonce: str, created: float, keyed: bool = False, signer: str = "acme") -> Code | None:
    try:
        await nonces.accept(signer, nonce, created, keyed)
    except Failure as failure:
        return failure.code
    return None


async def test_a_request_is_taken_once(world: World, nonces: Nonces) -> None:
    assert await refused(nonces, "n", world.time) is None
    assert await refused(nonces, "n", world.time) is Code.REPLAYED
    assert await refused(nonces, "n", world.time, keyed=True) is Code.REPLAYED


async def test_signers_and_nonces_do_not_meet(world: World, nonces: Nonces) -> None:
    for signer, nonce in [("a", "n"), ("b", "n"), ("a", "m"), ("an", ""), ("", "an"), ("1:a", "n"), ("\ud800", "\x00")]:
        assert await refused(nonces, nonce, world.time, signer=signer) is None


@pytest.mark.parametrize("age", [WINDOW + 1, -SKEW - 1, 1e12, -1e12])
async def test_what_is_too_old_or_from_the_future_is_stale(world: World, nonces: Nonces, age: float) -> None:
    assert await refused(nonces, "n", world.time - age) is Code.SIGNATURE_STALE


async def test_a_request_is_remembered_for_as_long_as_it_is_good(world: World, nonces: Nonces) -> None:
    created = world.time + SKEW
    await nonces.accept("acme", "n", created, False)
    for _ in range(100):
        world.wait((WINDOW + 3 * SKEW) / 100)

        assert await refused(nonces, "n", created) in (Code.REPLAYED, Code.SIGNATURE_STALE)


async def test_while_the_memory_is_away_only_keyed_requests_signed_since_pass(world: World, nonces: Nonces) -> None:
    signed_before = world.time
    world.wait(10)
    world.cache.cut()
    world.wait(10)

    assert await refused(nonces, "a", world.time, keyed=True) is None
    assert await refused(nonces, "b", world.time, keyed=False) is Code.UNAVAILABLE
    assert await refused(nonces, "c", signed_before, keyed=True) is Code.UNAVAILABLE


async def test_who_is_refused_for_now_is_told_when_to_come_again(world: World, nonces: Nonces) -> None:
    world.cache.cut()

    with pytest.raises(Failure, match="idempotency-key") as caught:
        await nonces.accept("acme", "n", world.time, False)
    assert caught.value.retry_after == 1


async def test_what_was_signed_before_the_memory_was_emptied_is_refused(world: World, nonces: Nonces) -> None:
    created = world.time
    await nonces.accept("acme", "n", created, False)
    world.wait(10)
    world.cache.empty()
    world.wait(1)
    assert await refused(nonces, "n", created) is Code.SIGNATURE_STALE
    assert await refused(nonces, "new", world.time) is Code.SIGNATURE_STALE  # its clock may go before

    world.wait(SKEW)
    assert await refused(nonces, "newer", world.time) is None


async def test_a_clock_that_was_set_back_reopens_nothing(world: World, nonces: Nonces) -> None:
    created = world.time
    await nonces.accept("acme", "n", created, False)
    world.wait(WINDOW + 3 * SKEW + 1)  # the nonce is forgotten
    await nonces.accept("acme", "m", world.time, False)
    world.time = created + 1

    assert await refused(nonces, "n", created) is Code.UNAVAILABLE
    assert await refused(nonces, "other", world.time, keyed=True) is None


@pytest.mark.parametrize("steps", [[30.0], [4.0] * 20, [6.0] * 10, [SKEW] * 9])
async def test_a_clock_that_was_set_back_and_went_on_reopens_nothing(
    world: World, nonces: Nonces, steps: list[float]
) -> None:
    created = world.time + SKEW
    await nonces.accept("acme", "n", created, False)
    for step in steps:
        world.wait(20)
        await refused(nonces, "other", world.time)
        world.time -= step
    while world.time <= created + WINDOW + 1:
        assert await refused(nonces, "n", created) is not None
        world.wait(1)
    world.wait(sum(steps))
    assert await refused(nonces, "new", world.time) is None


_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 200)),
        st.tuples(st.just("send"), st.floats(-SKEW, SKEW)),
        st.tuples(st.just("back"), st.floats(0, 60)),
        st.tuples(st.sampled_from(["cut", "mend", "empty"]), st.just(0.0)),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(acts=_ACTS)
async def test_no_history_of_the_memory_lets_a_request_without_a_key_in_twice(acts: list[tuple[str, float]]) -> None:
    world = World()
    nonces = Nonces(world.cache, world.now, world.ticks)
    sent: list[float] = []
    taken: set[int] = set()
    for act, value in acts:
        if act == "wait":
            world.wait(value)
        elif act == "send":
            sent.append(world.time + value)
        elif act == "back":
            world.time -= value
        else:
            getattr(world.cache, act)()
        for number, created in enumerate(sent):
            with contextlib.suppress(Failure):
                await nonces.accept("acme", str(number), created, False)
                assert number not in taken
                taken.add(number)


@pytest.fixture
async def cache(redis_server: Program) -> AsyncIterator[Any]:
    made = redis_cache(redis_server.address)
    await made.start()
    yield made
    await made.close()


@pytest.mark.far
async def test_nothing_is_replayed_through_a_restart_of_redis(redis_server: Program, cache: Any) -> None:
    nonces = Nonces(cache, skew=0.0)
    await until(lambda: time.time() > cache.born)
    created = [time.time() for _ in range(20)]
    for number, at in enumerate(created):
        assert await refused(nonces, str(number), at) is None

    redis_server.kill()
    for number, at in enumerate(created):
        for keyed in (False, True):
            assert await refused(nonces, str(number), at, keyed) is Code.UNAVAILABLE
    assert await refused(nonces, "during", time.time(), keyed=True) is None

    redis_server.start()
    await until(lambda: cache.up)
    for number, at in enumerate(created):
        assert await refused(nonces, str(number), at, keyed=True) in (Code.REPLAYED, Code.SIGNATURE_STALE)
    await until(lambda: time.time() > cache.born)
    assert await refused(nonces, "after", time.time()) is None


@pytest.mark.far
async def test_nothing_is_replayed_when_redis_was_emptied(redis_server: Program, cache: Any) -> None:
    nonces = Nonces(cache, skew=0.0)
    await until(lambda: time.time() > cache.born)
    created = time.time()
    assert await refused(nonces, "n", created) is None
    async with Redis.from_url(redis_server.address, protocol=2) as client:
        await client.flushall()

    assert await refused(nonces, "n", created, keyed=True) is Code.SIGNATURE_STALE
    assert await refused(nonces, "new", time.time() + 0.01) is Code.SIGNATURE_STALE or time.time() > cache.born
