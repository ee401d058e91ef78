"""A pace for work that is cheaper in larger batches.

Each batch has a fixed cost: threads, a transaction, a request. So a few begin at once, and under load what comes
between two of them goes along with the next.
"""

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Lets some batches begin at once, and then one every so many seconds."""

    def __init__(self, every: float = 0.1, at_once: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        """Batches that did not come are made up for later: up to `at_once` of them."""
        self._every, self._slack, self._clock = every, every * (at_once - 1), clock
        self._due = float("-inf")  # when the next piece would begin if all kept to the pace

    def pause(self) -> float:
        """Registers a batch; returns the seconds until it may begin."""
        now = self._clock()
        due = max(self._due, now - self._slack)
        self._due = due + self._every
        return max(0.0, due - now)

    async def wait(self) -> None:
        """Registers a batch and returns when it may begin."""
        if pause := self.pause():
            await asyncio.sleep(pause)
