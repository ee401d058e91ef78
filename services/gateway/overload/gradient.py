"""A limit of concurrent calls of an upstream that follows their latency (a gradient limiter).

While calls take about as long as usual the limit grows; when they take twice as long it shrinks: more calls would only
wait inside the upstream. Each kind of call is compared with its own usual latency.
"""

import math
import statistics
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from services.kit.tempo import Tempo

TOLERANCE = 2.0  # times what a call takes when nothing stands in its way
_DEEPEST = 0.5  # of the limit, that is left after one look at the worst
_REFUSED = 0.9  # of the limit, that is left when the upstream itself refused, or when few calls were slow
_MANY, _MOST = 0.5, 0.75  # of the limit, under way at once
_CALLS, _SECONDS = 10, 0.1  # calls or seconds between two looks
_DOWN, _UP, _ONCE = 0.2, 10.0, 0.1  # share of a faster call, seconds of slower ones, and share of a single slower one
_KINDS = 1_000  # kinds that are told apart


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a limit."""

    least: int = 4
    most: int = 2_000
    start: int = 256
    # Seconds below which a call is never slow.
    quick: float = 0.01


class _Kind:
    """Calls of one kind: what they take at their best, and of late."""

    __slots__ = ("at", "seconds", "tempo")

    def __init__(self, seconds: float, now: float, clock: Callable[[], float]) -> None:
        self.seconds, self.at, self.tempo = seconds, now, Tempo(clock)

    def follow(self, seconds: float, now: float, alone: bool) -> None:
        """Follows faster calls down; up only calls that our own load cannot have slowed down."""
        if seconds < self.seconds:
            self.seconds += (seconds - self.seconds) * _DOWN
        elif alone:
            self.seconds += (seconds - self.seconds) * min((now - self.at) / _UP, _ONCE)
        self.at = now


class Gradient:
    """The limit of one upstream."""

    def __init__(self, bounds: Bounds | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self.bounds, self._clock = bounds or Bounds(), clock
        self._limit = float(self.bounds.start)
        # It does not go below this; may be set above the least where more is known of the upstream.
        self.floor = self.bounds.least
        # Whole calls that may be under way at once.
        self.limit = self.bounds.start
        self._kinds: dict[Hashable, _Kind] = {}
        self._slow: list[float] = []
        self._peak, self._looked, self._cut = 0, clock(), -math.inf

    def ended(self, kind: Hashable, began: float, busy: int) -> float:
        """Takes in a call that was answered; `busy` calls were under way in all.

        Returns how many times as long as usual it took.
        """
        now, known, bounds = self._clock(), self._kinds.get(kind), self.bounds
        seconds = now - began
        if known is None:
            if len(self._kinds) >= _KINDS:
                del self._kinds[next(iter(self._kinds))]
            known = self._kinds[kind] = _Kind(seconds, now, self._clock)
        known.tempo.took(seconds)
        slowness = seconds / max(known.seconds, bounds.quick)
        known.follow(seconds, now, busy <= max(bounds.least, self.limit // 2))
        self.felt(slowness, began, busy)
        return slowness

    def felt(self, slowness: float, began: float, busy: int) -> None:
        """Takes in a call whose slowness is known."""
        if began < self._cut:
            return  # it began before the limit was cut, which has answered its slowness
        self._slow.append(slowness)
        self._peak = max(self._peak, busy)
        now = self._clock()
        if len(self._slow) >= _CALLS or now - self._looked >= _SECONDS:
            self._look(now)

    def late(self, kind: Hashable, began: float) -> None:
        """A call's deadline passed. That says nothing when its caller gave it little time."""
        known = self._kinds.get(kind)
        if known and self._clock() - began > TOLERANCE * max(known.seconds, self.bounds.quick):
            self.refused(began)

    def refused(self, began: float) -> None:
        """The upstream refused a call because it has too many."""
        if began >= self._cut:
            self._cut = self._clock()
            self._set(self._limit * _REFUSED)

    def typical(self, kind: Hashable) -> float:
        """Seconds that half of the last calls of a kind took; 0 when that is not known."""
        known = self._kinds.get(kind)
        return known.tempo.median if known else 0.0

    def hopeless(self, kind: Hashable, left: float) -> bool:
        """Whether a call of a kind takes longer than the seconds that are left, as far as is known."""
        known = self._kinds.get(kind)
        return known is not None and known.tempo.hopeless(left)

    def _look(self, now: float) -> None:
        slow, used = statistics.median(self._slow), self._peak / self.limit
        self._slow.clear()
        self._peak, self._looked = 0, now
        if slow > TOLERANCE:
            # With few calls under way it may be slow for another reason than their number.
            share = max(TOLERANCE / slow, _DEEPEST if used >= _MANY else _REFUSED)
            self._cut = now
            self._set(self._limit * share)
        elif used >= _MOST or self._limit < self.bounds.start:
            self._set(self._limit + math.sqrt(self._limit))

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, self.floor), self.bounds.most)
        self.limit = int(self._limit)
