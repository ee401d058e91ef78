"""Calls beside the event loop: so many at a time, so many that wait, and no more."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from services.inference.domain.batches import Answer, Item
from services.inference.engine import Calls
from services.inference.threads import Threads
from services.kit.errors import Code, Failure


async def test_as_many_calls_wait_as_may_and_no_more() -> None:
    threads, go, calls = Threads(1, 2), threading.Event(), list[asyncio.Task[list[Answer]]]()

    def work(items: Sequence[Item]) -> list[Answer]:
        go.wait(20)
        return []

    for _ in range(3):
        threads.check()
        calls.append(asyncio.create_task(threads.answer(Calls(), work, [Item("r", time.monotonic() + 20, (), ())])))
        await asyncio.sleep(0)
    with pytest.raises(Failure) as caught:
        threads.check()
    go.set()
    await asyncio.gather(*calls)

    assert caught.value.code is Code.OVERLOADED
    threads.check()
    threads.close()
