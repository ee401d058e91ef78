import asyncio

import pytest

from services.gateway.chores import Chores


async def test_chores_are_done_on_the_next_turn_in_their_order() -> None:
    chores, done = Chores(), list[str]()
    chores.add(done.append, "first")
    chores.add(done.append, "second")
    assert done == []
    await asyncio.sleep(0)
    assert done == ["first", "second"]


async def test_a_chore_may_add_another() -> None:
    chores, done = Chores(), list[str]()
    chores.add(chores.add, done.append, "later")
    await asyncio.sleep(0)
    assert done == []
    await asyncio.sleep(0)
    assert done == ["later"]


async def test_one_that_breaks_keeps_no_other_from_being_done(caplog: pytest.LogCaptureFixture) -> None:
    chores, done = Chores(), list[str]()
    chores.add(done.remove, "what is not there")
    chores.add(done.append, "the other")
    await asyncio.sleep(0)
    assert done == ["the other"]
    assert "what follows an answer is not done" in caplog.text
