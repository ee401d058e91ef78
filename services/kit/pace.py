"""Pacing of work in batches. Each batch has a fixed cost (a thread, a transaction, a request), so when they follow each
other fast, it is cheaper to wait a little and have larger ones.
"""

import asyncio
import time
from collections.abc import Callable


class Pace:
    """A token bucket: lets `at_once` batches begin without a pause, then one in `every` seconds."""

    def __init__(self, every: float = 0.1, at_once: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._every, self._slack, self._clock = every, every * (at_once - 1), clock
        self._due = float("-inf")  # when the next batch would begin without slack

    def pause(self) -> float:
        """Takes a token; returns the seconds until the batch may begin."""
        now = self._clock()
        due = max(self._due, now - self._slack)
        self._due = due + self._every
        return max(0.0, due - now)

    async def wait(self) -> None:
        """Takes a token and returns when the batch may begin."""
        if pause := self.pause():
            await asyncio.sleep(pause)
