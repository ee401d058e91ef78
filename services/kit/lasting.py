"""Work that goes on for ever, also past what nobody has foreseen."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from services.kit.ending import is_cancelled

log = logging.getLogger(__name__)
_FIRST, _LONGEST = 1.0, 60.0  # seconds of a pause; work that went well for longer than that begins with the first again


async def lasting(work: Callable[[], Awaitable[object]]) -> None:
    """Does work until it ends by itself or is cancelled; what fails begins again, after a growing pause.

    What is away is the work's own to wait for: this is for bugs, which must not end it until somebody looks.
    """
    pause = _FIRST
    while True:
        began = time.monotonic()
        try:
            await work()
        except (Exception, asyncio.CancelledError):
            if is_cancelled():
                raise
            # Also that something was cancelled which the work waited for, and not the work.
            pause = _FIRST if time.monotonic() - began > _LONGEST else pause
            log.exception("work that goes on for ever failed, and begins again in %g s", pause)
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST)
