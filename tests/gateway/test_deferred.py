import asyncio

import pytest

from services.gateway.deferred import Deferred


async def test_deferred_work_runs_on_the_next_turn_in_its_order() -> None:
    deferred, done = Deferred(), list[str]()
    deferred.add(done.append, "first")
    deferred.add(done.append, "second")
    assert done == []
    await asyncio.sleep(0)
    assert done == ["first", "second"]


async def test_deferred_work_may_defer_more() -> None:
    deferred, done = Deferred(), list[str]()
    deferred.add(deferred.add, done.append, "later")
    await asyncio.sleep(0)
    assert done == []
    await asyncio.sleep(0)
    assert done == ["later"]


async def test_one_that_breaks_keeps_no_other_from_being_done(caplog: pytest.LogCaptureFixture) -> None:
    deferred, done = Deferred(), list[str]()
    deferred.add(done.remove, "what is not there")
    deferred.add(done.append, "the other")
    await asyncio.sleep(0)
    assert done == ["the other"]
    assert "deferred work failed" in caplog.text
