"""Whether something outside is away: a few failures in a row say so, and after a growing pause it is tried again."""

import random
import time
from collections.abc import Callable

FAILURES = 3
FIRST, LONGEST = 1.0, 30.0  # seconds of a pause


class Outage:
    """Counts failures of one outside thing. Who asks `away` first pays nothing for a thing that is."""

    def __init__(self, now: Callable[[], float] = time.time, rng: random.Random | None = None) -> None:
        """`now` gives Unix seconds."""
        self._now, self._random = now, rng or random.SystemRandom()
        self._failures = self._pauses = 0
        # When the first call failed of those that fail now.
        self.since: float | None = None

    @property
    def away(self) -> bool:
        """Enough calls have failed in a row."""
        return self._failures >= FAILURES

    def failed(self) -> bool:
        """Notes a failure; True for the one that says it is away."""
        self._failures += 1
        if self.since is None:
            self.since = self._now()
        return self._failures == FAILURES

    def worked(self) -> bool:
        """Notes a success; True for the one that says it is back."""
        back = self.away
        self._failures = self._pauses = 0
        self.since = None
        return back

    def pause(self) -> float:
        """Seconds until the next try: 1 s, doubling to 30 s, of which a random part is taken off."""
        longest: float = min(FIRST * 2**self._pauses, LONGEST)
        self._pauses = min(self._pauses + 1, 10)
        return longest * self._random.uniform(0.5, 1.0)
