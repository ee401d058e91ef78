"""One contract, both caches: of this process, and on Redis."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit.allowance import Claim
from services.kit.cache import Cache, NearCache
from services.kit.timestamps import uuid7
from tests.support.servers import address, redis_cache

ODD = ["", "a b", "a:b", "a*?[b]", "{a}", "\r\n", "\x00", "'; return 1 --", "\ud800", "".join(map(chr, range(256)))]


@pytest.fixture(params=["near", pytest.param("far", marks=pytest.mark.far)])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    # The server is shared, and its clock is real: names are new for each test, and the near clock is real as well.
    # A machine that is busy with all tests may need more than the budget of a request.
    made: Cache = NearCache() if request.param == "near" else redis_cache(address("redis"), budget=2.0)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def name() -> str:
    return uuid7()


def claim(
    number: int = 1, holder: str = "one", rate: float = 0.001, burst: float = 10.0, **fields: float | str
) -> Claim:
    known: dict[str, float | str] = {"want": 4.0, "least": 1.0}
    return Claim(holder, number, rate, burst, **(known | fields))  # type: ignore[arg-type]


async def test_a_value_is_there_until_its_time_is_over(cache: Cache, name: str) -> None:
    await cache.set(name, b"\x00\xff", 0.3)
    assert await cache.get(name) == b"\x00\xff"

    await asyncio.sleep(0.35)
    assert await cache.get(name) is None


async def test_a_deleted_value_is_gone(cache: Cache, name: str) -> None:
    await cache.set(name, b"x", 60)
    await cache.delete(name)

    assert await cache.get(name) is None


async def test_a_key_is_added_once(cache: Cache, name: str) -> None:
    added = await asyncio.gather(*(cache.add(name, 60) for _ in range(8)))

    assert sorted(added) == [False] * 7 + [True]


async def test_a_key_may_be_added_again_when_its_time_is_over(cache: Cache, name: str) -> None:
    assert await cache.add(name, 0.2)
    await asyncio.sleep(0.25)

    assert await cache.add(name, 60)


async def test_values_and_added_keys_do_not_meet(cache: Cache, name: str) -> None:
    await cache.set(name, b"x", 60)

    assert await cache.add(name, 60)
    assert await cache.get(name) == b"x"


@pytest.mark.parametrize("odd", ODD)
async def test_any_text_is_a_safe_name(cache: Cache, name: str, odd: str) -> None:
    await cache.set(name + odd, b"x", 60)
    await cache.announce(name + odd, odd, odd.encode("utf-8", "surrogatepass"), 60)

    assert await cache.get(name + odd) == b"x"
    assert await cache.get(name) == (b"x" if odd == "" else None)
    assert await cache.members(name + odd) == {odd: odd.encode("utf-8", "surrogatepass")}
    assert await cache.add(name + odd, 60)
    assert (await cache.take(name + odd, claim(holder=odd))).granted == 4


async def test_members_are_there_until_they_are_silent(cache: Cache, name: str) -> None:
    await cache.announce(name, "short", b"1", 0.2)
    await cache.announce(name, "long", b"2", 60)
    assert await cache.members(name) == {"short": b"1", "long": b"2"}

    await asyncio.sleep(0.25)
    assert await cache.members(name) == {"long": b"2"}


async def test_a_member_says_anew_what_is_true(cache: Cache, name: str) -> None:
    await cache.announce(name, "one", b"old", 0.2)
    await cache.announce(name, "one", b"new", 60)
    await asyncio.sleep(0.25)

    assert await cache.members(name) == {"one": b"new"}


async def test_a_member_that_withdraws_is_gone_at_once(cache: Cache, name: str) -> None:
    await cache.announce(name, "one", b"", 60)
    await cache.withdraw(name, "one")
    await cache.withdraw(name, "nobody")

    assert await cache.members(name) == {}


async def test_groups_do_not_meet(cache: Cache, name: str) -> None:
    await cache.announce(name, "one", b"", 60)

    assert await cache.members(f"{name}x") == {}


async def test_holders_share_one_bucket(cache: Cache, name: str) -> None:
    grants = [await cache.take(name, claim(holder=holder)) for holder in ("one", "two", "three", "four")]

    assert [round(grant.granted, 1) for grant in grants] == [4, 4, 2, 0]
    assert grants[3].retry_after > 0


async def test_a_bucket_regains_its_rate(cache: Cache, name: str) -> None:
    await cache.take(name, claim(want=10, rate=20, seconds=0.05))
    await asyncio.sleep(0.3)

    assert 4 <= (await cache.take(name, claim(2, want=10, rate=20, seconds=0.05))).granted <= 10


async def test_what_is_handed_back_is_there_for_others(cache: Cache, name: str) -> None:
    await cache.take(name, claim(want=10))
    await cache.take(name, claim(2, want=0, back=7))

    assert 6.9 < (await cache.take(name, claim(holder="two", want=10))).granted < 7.1


async def test_nobody_hands_back_more_than_he_has(cache: Cache, name: str) -> None:
    await cache.take(name, claim(want=4))
    await cache.take(name, claim(holder="two", want=6))
    await cache.take(name, claim(2, want=0, back=100))

    assert 3.9 < (await cache.take(name, claim(holder="three", want=10))).granted < 4.1


async def test_what_others_may_spend_counts_against_the_burst(cache: Cache, name: str) -> None:
    await cache.take(name, claim(want=4, rate=1000))
    await asyncio.sleep(0.05)

    assert 5.9 < (await cache.take(name, claim(holder="two", want=10, rate=1000))).granted < 6.1


async def test_a_slice_that_nobody_handed_back_ends_with_its_time(cache: Cache, name: str) -> None:
    await cache.take(name, claim(want=10, rate=1000, seconds=0.1))
    short = await cache.take(name, claim(holder="two", want=10, rate=1000, seconds=0.1))
    assert short.granted == 0
    assert 0 < short.retry_after <= 0.1

    await asyncio.sleep(0.2)
    assert (await cache.take(name, claim(2, "two", want=10, rate=1000))).granted > 9


async def test_a_claim_that_comes_late_does_nothing(cache: Cache, name: str) -> None:
    await cache.take(name, claim(2, want=4))
    late = await cache.take(name, claim(1, want=4, back=4))

    assert late.granted == 0
    assert 5.9 < (await cache.take(name, claim(holder="two", want=10))).granted < 6.1


async def test_who_has_seen_another_beginning_says_what_was_left(cache: Cache, name: str) -> None:
    known = await cache.take(name, claim(want=1))
    again = await cache.take(f"{name}x", claim(want=10, epoch=known.epoch, view=0))
    other = await cache.take(f"{name}y", claim(want=10, epoch="another", view=3))

    assert again.granted == 10
    assert other.granted == 3


async def test_a_cost_above_the_burst_is_granted_by_a_full_bucket(cache: Cache, name: str) -> None:
    assert (await cache.take(name, claim(want=50, least=50))).granted == 10


async def test_the_cache_says_since_when_it_forgets_nothing(cache: Cache, name: str) -> None:
    await cache.add(name, 60)

    assert 0 < cache.born <= time.time() + 1
    assert cache.up
    assert cache.away_since is None


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


_STEPS = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.sampled_from("abc"),
        st.floats(0.5, 30),
        st.floats(0.1, 20),
        st.floats(0, 1),
        st.floats(0, 1),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, rate=st.floats(0.1, 20), burst=st.floats(1, 50))
async def test_all_holders_together_spend_no_more_than_burst_and_rate(
    steps: list[tuple[float, str, float, float, float, float]], rate: float, burst: float
) -> None:
    clock = _Clock()
    cache = NearCache(clock)
    held = dict.fromkeys("abc", (0.0, 0.0))
    spent: list[tuple[float, float]] = []
    for number, (wait, holder, want, seconds, spend, back) in enumerate(steps, 1):
        clock.now += wait
        left, until = held[holder]
        left = left if clock.now < until else 0.0
        spent.append((clock.now, left * spend))
        left -= left * spend
        asked = Claim(holder, number, rate, burst, want, 0.1, left * (1 - back), left * back, seconds)
        held[holder] = left * (1 - back) + (await cache.take("k", asked)).granted, clock.now + seconds
        for begin, _ in spent:
            together = sum(amount for at, amount in spent if at >= begin)
            assert together <= burst + rate * (clock.now - begin) + 1e-6


async def test_slices_of_several_buckets_are_granted_together(cache: Cache, name: str) -> None:
    one, two = await cache.take_all([(name, claim(want=4)), (f"{name}x", claim(want=6))])
    rest = [(await cache.take(key, claim(2, "two", want=10))).granted for key in (name, f"{name}x")]

    assert (one.granted, two.granted) == (4, 6)
    assert [round(granted) for granted in rest] == [6, 4]


async def test_none_is_granted_where_one_bucket_has_too_little(cache: Cache, name: str) -> None:
    await cache.take(f"{name}x", claim(holder="other", want=8))
    one, two = await cache.take_all([(name, claim(want=4)), (f"{name}x", claim(want=6, least=6))])
    after = await cache.take(name, claim(2, "two", want=10))

    assert (one.granted, two.granted, one.retry_after) == (0, 0, 0)
    assert two.retry_after > 0
    assert after.granted == 10  # the first kept nothing of it


async def test_claims_of_several_buckets_that_come_late_do_nothing(cache: Cache, name: str) -> None:
    await cache.take(f"{name}x", claim(5, want=4))
    late = await cache.take_all([(name, claim(3, want=4)), (f"{name}x", claim(3, want=4, back=4))])

    assert [grant.granted for grant in late] == [0, 0]
    assert [round((await cache.take(key, claim(9, "two", want=10))).granted) for key in (name, f"{name}x")] == [10, 6]
