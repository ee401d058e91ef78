"""How often the gateway asks again: for one request in five and ten times a second, all of them together.

Nobody behind it asks again on the way of a request, so what breaks is not asked more often the more it breaks.
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
    """The budget, and the pauses between tries."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, dice: Callable[[], float] = random.random) -> None:
        """`clock` is in seconds; `dice` gives 0..1."""
        self._clock, self._dice = clock, dice
        self._saved, self._floor, self._filled = 0.0, _EVERY_SECOND, clock()

    def asked(self) -> None:
        """A request is sent for the first time: a fifth of a repeat is saved."""
        self._saved = min(self._saved + _SHARE, _SAVED)

    def granted(self) -> bool:
        """Takes one repeat out of the budget, if there is one."""
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
        """Seconds before the try behind try number `attempt`: by chance, so that those that broke together do not come
        together again."""
        return self._dice() * min(_FIRST * 2.0 ** (attempt - 1), _LONGEST)

    async def again(self, attempt: int, until: float) -> bool:
        """Whether there may be a try behind try number `attempt`, after its pause; `until` is its deadline."""
        pause = self.pause(attempt)
        if attempt >= ATTEMPTS or self._clock() + pause >= until or not self.granted():
            return False
        await asyncio.sleep(pause)
        return True
