"""Background tasks: running one until the process stops, running it every hour, and ending it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

from services.kit.errors import Failure

log = logging.getLogger(__name__)
_FIRST, _LONGEST = 1.0, 60.0  # seconds of the pauses before a restart; after a longer run the first one again
_LOOK = 60.0  # seconds between two looks at the clock, and before the first: a start has other things to do
_PATIENCE = 1.0  # seconds until a task that has not ended is cancelled again


def name_of(work: Any) -> str:
    """What a log calls the task of a function or coroutine: `Relay.run`."""
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__qualname__", work))


async def keep_running(work: Callable[[], Awaitable[object]]) -> None:
    """Runs `work` until it returns or is cancelled; restarts it when it raises, after a growing pause.

    This is for bugs, which must not end a task for good: what is unavailable the work waits for itself.
    """
    pause = _FIRST
    while True:
        began = time.monotonic()
        try:
            await work()
        except (Exception, asyncio.CancelledError):
            if is_cancelled():
                raise
            # Also when something that the work awaited was cancelled, and not the work.
            pause = _FIRST if time.monotonic() - began > _LONGEST else pause
            log.exception("%s failed, and is restarted in %g s", name_of(work), pause)
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST)


async def every_hour(work: Callable[[datetime], Awaitable[None]], now: Callable[[], datetime]) -> None:
    """Calls `work` once in every hour of the clock, with the time when it began; one that fails a minute later again.

    A process that restarts calls it again in the same hour: the work must be idempotent.
    """
    done: datetime | None = None
    while True:
        await asyncio.sleep(_LOOK)
        hour = now().replace(minute=0, second=0, microsecond=0)
        if hour != done:
            try:
                await work(hour)
                done = hour
            except Failure as failure:
                log.warning("the work of this hour waits: %s", failure)


def is_cancelled() -> bool:
    """Whether the current task itself is being cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancels a task and returns when it has ended. Raises what it failed with.

    It cancels again and again, as a library may swallow a cancellation; `wait_for` of Python 3.11 does.
    """
    while task and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE)
    if task and not task.cancelled():
        task.result()
