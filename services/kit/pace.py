"""How often work may begin that is done in larger pieces as well as in small ones.

Each piece costs the same beside what is in it: threads, a transaction, a request. So a few begin at once, and where
they go on coming, what comes between two of them goes along with the next.
"""

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Lets some pieces begin one behind the other, and then one every so many seconds."""

    def __init__(self, every: float = 0.1, at_once: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        """Those that did not come are made up for later: up to `at_once` of them."""
        self._every, self._slack, self._clock = every, every * (at_once - 1), clock
        self._due = float("-inf")  # when the next piece would begin if all kept to the pace

    def pause(self) -> float:
        """Takes a piece up; returns the seconds until it may begin."""
        now = self._clock()
        due = max(self._due, now - self._slack)
        self._due = due + self._every
        return max(0.0, due - now)

    async def wait(self) -> None:
        """Takes a piece up and returns when it may begin."""
        if pause := self.pause():
            await asyncio.sleep(pause)
