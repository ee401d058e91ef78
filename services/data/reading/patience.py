"""How long a run waits for a source that is away."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from services.kit.errors import Code, Failure

MOST = 300.0  # seconds without getting on
SHARE = 0.8  # of its time, after which a run leaves the rest to the next one
_ANSWER, _QUICK = 60.0, 15.0  # seconds
_AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


class Patience:
    """Waits between attempts, longer each time; whoever gets on has all of it again."""

    def __init__(self, seconds: float = 0.0, tell: Callable[[str], None] = lambda _: None) -> None:
        """`seconds`: of the run; half of them, five minutes at most, may go by without getting on. `tell`: why."""
        self._most, self._tell = min(MOST, seconds / 2), tell
        self._away: float | None = None
        self._wait = 0.5

    @property
    def answer_seconds(self) -> float:
        """What one answer may take: whoever does not wait has somebody who waits for it."""
        return _ANSWER if self._most else _QUICK

    def got_on(self) -> None:
        """The source has answered."""
        self._away, self._wait = None, 0.5

    def bear(self, failure: Failure) -> None:
        """Waits for what may pass. Raises what does not, or has lasted too long."""
        now = time.monotonic()
        self._away = now if self._away is None else self._away
        if failure.code not in _AWAY or now - self._away >= self._most:
            raise failure
        self._tell(failure.detail)
        time.sleep(self._wait)
        self._wait = min(self._wait * 2, 10.0)


LEFT = "rows are left for the next run, as the time of this one has ended"


def deadlines(seconds: float) -> tuple[float, float]:
    """By the monotonic clock: when a run of so many seconds ends, and from when on it begins nothing more."""
    now = time.monotonic()
    return now + seconds, now + seconds * SHARE


class Reading(Protocol):
    """A run that can be taken up where it was: `after` is where, `done` that nothing is left."""

    after: Any
    done: bool

    def go_on(self) -> object:
        """Reads on. Raises unavailable when the source is away."""


def finish(reading: Reading, patience: Patience) -> None:
    """Reads all, however often the source is away, as long as it comes back. Raises what reading does."""
    while not reading.done:
        before = reading.after
        try:
            reading.go_on()
        except Failure as failure:
            if reading.after != before:
                patience.got_on()
            patience.bear(failure)
