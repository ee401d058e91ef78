"""The median duration of the last calls of one kind: finds calls that cannot be answered in time."""

import time
from collections import deque
from collections.abc import Callable

_KEPT, _FEW, _EVERY = 64, 8, 8  # calls: that are remembered, that say nothing yet, between two looks
_FRESH = 1.0  # seconds after which the median is too old, and a call is let through


class Tempo:
    """The median of the last calls; not known from few or old ones."""

    __slots__ = ("_at", "_clock", "_new", "_took", "median")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._clock, self._took = clock, deque[float](maxlen=_KEPT)
        self._new, self._at = 0, 0.0
        # Seconds; 0: not known yet.
        self.median = 0.0

    def took(self, seconds: float) -> None:
        """A call was answered."""
        self._took.append(seconds)
        self._at = self._clock()
        self._new += 1
        if self._new == _EVERY and len(self._took) >= _FEW:
            self._new, self.median = 0, sorted(self._took)[len(self._took) // 2]

    def hopeless(self, left: float) -> bool:
        """Whether half of the last calls took longer than the seconds that are left."""
        return left < self.median and self._clock() - self._at < _FRESH
