"""Tracks whether something outside is unavailable: after some failures in a row, until a retry succeeds."""

import random
import time
from collections.abc import Callable

FAILURES = 3
FIRST, LONGEST = 1.0, 30.0  # seconds between retries


class Outage:
    """Counts the failures of one thing. Callers that check `away` first lose no time to it."""

    def __init__(self, now: Callable[[], float] = time.time, rng: random.Random | None = None) -> None:
        """`now` gives Unix seconds."""
        self._now, self._random = now, rng or random.SystemRandom()
        self._failures = self._pauses = 0
        # When the first of the present failures was.
        self.since: float | None = None

    @property
    def away(self) -> bool:
        """Whether enough calls have failed in a row."""
        return self._failures >= FAILURES

    def failed(self) -> bool:
        """Counts a failure; True if it is the one from which on the thing is unavailable."""
        self._failures += 1
        if self.since is None:
            self.since = self._now()
        return self._failures == FAILURES

    def worked(self) -> bool:
        """Notes a success; True if the thing was unavailable before."""
        back = self.away
        self._failures = self._pauses = 0
        self.since = None
        return back

    def pause(self) -> float:
        """Seconds until the next retry: 1 s, doubling to 30 s, less a random part."""
        longest: float = min(FIRST * 2**self._pauses, LONGEST)
        self._pauses = min(self._pauses + 1, 10)
        return longest * self._random.uniform(0.5, 1.0)
