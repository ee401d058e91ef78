"""Until when those who wait are to be answered: one timer for all whose time is over in the same moment.

A timer of its own for each was a tenth of what a prediction costs the gateway, and hardly one is ever needed.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOMENTS = 200  # in a second: nobody hears later than one of them that his time is over


class Deadlines(Generic[T]):
    """Those who wait. Nobody is in it twice."""

    def __init__(self, over: Callable[[T], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`over` is called with who is still there when his time is over; `clock` is that of deadlines, in seconds."""
        self._over, self._clock = over, clock
        self._due: dict[int, dict[T, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def add(self, one: T, deadline: float) -> int:
        """Gives the moment by which to take him out again."""
        moment = int(deadline * _MOMENTS) + 1
        if (there := self._due.get(moment)) is None:
            there = self._due[moment] = {}
            left = moment / _MOMENTS - self._clock()
            asyncio.get_running_loop().call_later(max(left, 0.0), self._end, moment)
        there[one] = None
        return moment

    def drop(self, one: T, moment: int) -> None:
        """He waits no more."""
        if there := self._due.get(moment):
            there.pop(one, None)

    def _end(self, moment: int) -> None:
        for one in self._due.pop(moment):
            self._over(one)
