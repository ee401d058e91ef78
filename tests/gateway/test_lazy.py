import asyncio
import time
from typing import Any

from services.gateway.lazy import LazyApp


class Made:
    """Counts how often an application is made."""

    def __init__(self) -> None:
        self.times, self.calls = 0, 0

    def make(self) -> Any:
        time.sleep(0.02)
        self.times += 1
        return self.app

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1


async def test_requests_that_come_early_wait_and_it_is_made_once() -> None:
    made, begin = Made(), asyncio.Event()
    lazy = LazyApp(made.make, begin)
    warming = asyncio.create_task(lazy.warm())
    await asyncio.gather(*(lazy({}, None, None) for _ in range(5)))
    begin.set()
    await warming

    assert (made.times, made.calls) == (1, 5)


async def test_what_may_be_made_later_is_made_when_there_is_time() -> None:
    made, begin = Made(), asyncio.Event()
    lazy = LazyApp(made.make, begin)
    warming = asyncio.create_task(lazy.warm())
    await asyncio.sleep(0)
    before = made.times
    begin.set()
    await warming

    assert (before, made.times) == (0, 1)
