"""Turns are fair between tenants, never more than there are, and none is lost to who gives up waiting."""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.turns import Turns


async def test_a_tenant_with_much_work_does_not_keep_others_waiting() -> None:
    turns, order = Turns(1), list[str]()

    async def work(tenant: str) -> None:
        async with turns.turn(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    await asyncio.gather(*(work("much") for _ in range(50)), work("one"), *(work("few") for _ in range(3)))

    assert order.index("one") <= 2
    assert [place for place, tenant in enumerate(order) if tenant == "few"][-1] <= 8
    assert Counter(order) == {"much": 50, "one": 1, "few": 3}


async def test_who_has_fewer_at_the_moment_goes_first() -> None:
    turns, order = Turns(3), list[str]()
    hold = asyncio.Event()

    async def work(tenant: str, free: asyncio.Event | None = None) -> None:
        async with turns.turn(tenant):
            order.append(tenant)
            if free:
                await free.wait()

    one = asyncio.Event()
    tasks = [asyncio.create_task(work("a", hold)), asyncio.create_task(work("a", hold))]
    tasks += [asyncio.create_task(work("b", one)), asyncio.create_task(work("a")), asyncio.create_task(work("b"))]
    await asyncio.sleep(0.01)
    one.set()
    await asyncio.sleep(0.01)
    assert order == ["a", "a", "b", "b", "a"]
    hold.set()
    await asyncio.gather(*tasks)


@given(seed=st.integers(0, 2**32), at_once=st.integers(1, 4), tenants=st.integers(1, 4), calls=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_never_more_than_there_are_and_none_is_lost(seed: int, at_once: int, tenants: int, calls: int) -> None:
    async def run() -> None:
        chance, turns = random.Random(seed), Turns(at_once)
        running, most, ended = 0, 0, 0

        async def work(tenant: str) -> None:
            nonlocal running, most, ended
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            async with turns.turn(tenant):
                running += 1
                most = max(most, running)
                try:
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                    if chance.random() < 0.2:
                        raise ValueError
                finally:
                    running -= 1
                    ended += 1

        tasks = [asyncio.create_task(work(f"t{chance.randrange(tenants)}")) for _ in range(calls)]
        for task in tasks:
            await asyncio.sleep(0)
            if chance.random() < 0.3:
                task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert most <= at_once
        assert running == 0
        # All are free again, and nothing is kept of anybody.
        async with asyncio.timeout(1):
            for _ in range(at_once):
                await turns.turn("new").__aenter__()
        assert set(turns._last) == {"new"}
        assert not turns._waiting

    asyncio.run(run())


@pytest.mark.parametrize("granted", [False, True])
async def test_a_turn_that_is_given_to_who_gives_up_goes_to_the_next(granted: bool) -> None:
    turns = Turns(1)
    first = turns.turn("a")
    await first.__aenter__()
    async with asyncio.timeout(1):
        waiting = asyncio.create_task(turns.turn("b").__aenter__())
        other = asyncio.create_task(turns.turn("c").__aenter__())
        await asyncio.sleep(0)
        if granted:
            await first.__aexit__(None, None, None)
        waiting.cancel()
        if not granted:
            await first.__aexit__(None, None, None)
        await other
    assert waiting.cancelled() or waiting.done()
