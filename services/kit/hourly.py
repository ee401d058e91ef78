"""Work that is due once in every hour of the clock."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from services.kit.errors import Failure

log = logging.getLogger(__name__)
_LOOK = 60.0  # seconds between looks at the clock, and before the first: a start has other things to do


async def every_hour(work: Callable[[datetime], Awaitable[None]], now: Callable[[], datetime]) -> None:
    """Calls `work` with when the hour began, for ever; what fails is tried again a minute later.

    A process that starts again in an hour does it again: the work has to bear that.
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
