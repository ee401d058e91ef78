"""Deadlines of waiting entries, with one timer for all that expire in the same tick.

A timer for each was a tenth of what a prediction costs the gateway, and hardly one ever fires.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_TICKS = 200  # a second; an entry expires at most one of them late


class Deadlines(Generic[T]):
    """The entries. Nothing is in it twice."""

    def __init__(self, over: Callable[[T], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`over` is called with each entry that expires; `clock` is that of deadlines, in seconds."""
        self._over, self._clock = over, clock
        self._due: dict[int, dict[T, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def add(self, one: T, deadline: float) -> int:
        """Adds an entry; returns the tick that `drop` needs."""
        moment = int(deadline * _TICKS) + 1
        if (there := self._due.get(moment)) is None:
            there = self._due[moment] = {}
            left = moment / _TICKS - self._clock()
            asyncio.get_running_loop().call_later(max(left, 0.0), self._end, moment)
        there[one] = None
        return moment

    def drop(self, one: T, moment: int) -> None:
        """Removes an entry."""
        if there := self._due.get(moment):
            there.pop(one, None)

    def _end(self, moment: int) -> None:
        for one in self._due.pop(moment):
            self._over(one)
