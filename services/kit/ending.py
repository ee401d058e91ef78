"""The end of a task that goes on for ever."""

import asyncio
from typing import Any

_PATIENCE = 1.0  # seconds after which it is cancelled again


def is_cancelled() -> bool:
    """Whether somebody ends the task that runs now, and not something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def ended(task: asyncio.Task[Any] | None) -> None:
    """Cancels a task and returns when it has ended. Raises what it failed with.

    Again and again: a library may lose a cancellation, as `wait_for` of Python 3.11 does.
    """
    while task and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE)
    if task and not task.cancelled():
        task.result()
