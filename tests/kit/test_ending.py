"""A task that goes on for ever ends when somebody wants it to."""

import asyncio

import pytest

from services.kit import ending
from services.kit.ending import ended


async def for_ever(lost: int = 0) -> None:
    """Loses so many cancellations."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not lost:
                raise
            lost -= 1


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_task_ends_also_where_cancellations_are_lost(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "_PATIENCE", 0.01)
    task = asyncio.ensure_future(for_ever(lost))
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await ended(task)
    assert task.cancelled()


async def test_what_a_task_failed_with_is_said() -> None:
    async def fails() -> None:
        raise ValueError("of its own")

    task = asyncio.ensure_future(fails())
    await asyncio.wait({task})

    with pytest.raises(ValueError, match="of its own"):
        await ended(task)


async def test_no_task_has_ended() -> None:
    await ended(None)


async def test_who_waits_for_the_end_can_be_cancelled() -> None:
    stubborn = asyncio.ensure_future(for_ever(1))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(ended(stubborn))
    for _ in range(3):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})

    assert waiting.cancelled()
    await ended(stubborn)
