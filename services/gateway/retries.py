"""The retry budget of the gateway: a fifth of the requests and ten a second, for all of them together.

No service behind it retries on the way of a request, so failures do not multiply the load.
"""

import asyncio
import random
import time
from collections.abc import Callable

ATTEMPTS = 3  # of one request, with the first
ATTEMPT = "x-attempt"  # metadata of all but the first
_SHARE, _SAVED = 0.2, 100.0
_EVERY_SECOND = 10.0
_FIRST, _LONGEST = 0.05, 1.0  # seconds that a pause lasts at most: before the first repeat, before any


class Retries:
    """The budget, and the pauses between attempts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, dice: Callable[[], float] = random.random) -> None:
        """`clock` is in seconds; `dice` gives 0..1."""
        self._clock, self._dice = clock, dice
        self._saved, self._floor, self._filled = 0.0, _EVERY_SECOND, clock()

    def asked(self) -> None:
        """A request is sent for the first time, which saves a fifth of a retry."""
        self._saved = min(self._saved + _SHARE, _SAVED)

    def granted(self) -> bool:
        """Takes one retry out of the budget, if there is one."""
        now = self._clock()
        self._floor = min(self._floor + (now - self._filled) * _EVERY_SECOND, _EVERY_SECOND)
        self._filled = now
        if self._floor >= 1:
            self._floor -= 1
        elif self._saved >= 1:
            self._saved -= 1
        else:
            return False
        return True

    def pause(self, attempt: int) -> float:
        """Seconds before the next attempt after number `attempt`: random, so that retries do not come together."""
        return self._dice() * min(_FIRST * 2.0 ** (attempt - 1), _LONGEST)

    async def again(self, attempt: int, until: float) -> bool:
        """Whether there may be another attempt after number `attempt`; waits for its pause. `until` is the deadline."""
        pause = self.pause(attempt)
        if attempt >= ATTEMPTS or self._clock() + pause >= until or not self.granted():
            return False
        await asyncio.sleep(pause)
        return True
