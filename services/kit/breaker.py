"""A circuit breaker for one instance of a service. Pure but for its clock and its dice; local to this process.

Closed it counts calls; it opens when half of at least 20 within 10 s failed, or 5 in a row did not get through. Open it
lets nothing through for a second, the next time for two, at most for 30. Then it tries: one call, then three more; all
four well, and it is closed again.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

_SLOTS = 10


class State(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Outcome(Enum):
    """How a call ended, as far as it says something of the instance."""

    WELL = "well"
    # A timeout, an internal error: it counts among many.
    BADLY = "badly"
    # It did not get there or back: a few in a row are enough.
    LOST = "lost"
    # The instance answered that it cannot now: well for its breaker; beside others it may be an outlier.
    REFUSED = "refused"
    # The caller cancelled: it says nothing of the instance.
    UNKNOWN = "unknown"


_BAD = (Outcome.BADLY, Outcome.LOST)


@dataclass(frozen=True)
class Rules:
    """When a breaker opens and for how long; times in seconds."""

    window: float = 10.0
    calls: int = 20
    share: float = 0.5
    in_a_row: int = 5
    shortest: float = 1.0
    longest: float = 30.0
    # Calls that are let through at once, stage by stage, before it closes.
    probes: tuple[int, ...] = (1, 3)


@dataclass(slots=True)
class _Slot:
    """What happened in a tenth of the window."""

    begun: float
    calls: int = 0
    failed: int = 0


class Breaker:
    """One instance's breaker. `begin` each call, `end` it with the ticket and its outcome."""

    def __init__(
        self,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = lambda: 0.5,
    ) -> None:
        """`clock` is in seconds and never goes back; `dice` gives 0..1, for the jitter of a fifth either way."""
        self.rules, self._clock, self._dice = rules or Rules(), clock, dice
        self._state = State.CLOSED
        self._slots: deque[_Slot] = deque()
        self._row = 0
        # Tickets of an earlier state say nothing of this one.
        self._era = 0
        self._seconds = 0.0
        self._until = self._closed_at = 0.0
        self._stage = self._begun = self._well = 0

    @property
    def state(self) -> State:
        """An open breaker whose time is over is half open. Probes that do not end are replaced by others."""
        if self._state is not State.CLOSED and (now := self._clock()) >= self._until:
            self._enter(State.HALF_OPEN)
            self._stage = self._begun = self._well = 0
            self._until = now + self.rules.window
        return self._state

    @property
    def shown(self) -> State:
        """The state for metrics: reading it changes nothing."""
        return self._state

    @property
    def opened_until(self) -> float:
        """Until when it is open, on its clock; says something of an open one only."""
        return self._until

    def admits(self) -> bool:
        """Whether a call may begin now."""
        state = self._state if self._state is State.CLOSED else self.state
        if state is State.HALF_OPEN:
            return self._begun < self.rules.probes[self._stage]
        return state is State.CLOSED

    def begin(self) -> int:
        """The ticket of a call that begins, whether it was admitted or not."""
        if self._state is State.HALF_OPEN:
            self._begun += 1
        return self._era

    def end(self, ticket: int, outcome: Outcome) -> None:
        """Takes in how a call ended."""
        if ticket != self._era:
            return
        if self._state is State.HALF_OPEN:
            self._tried(outcome)
        elif self._state is State.CLOSED and outcome is not Outcome.UNKNOWN:
            self._count(outcome)

    def retry_soon(self) -> None:
        """The instance can be reached again: no need to wait for the end of the time."""
        if self._state is State.OPEN:
            self._until = min(self._until, self._clock())

    def _count(self, outcome: Outcome) -> None:
        now, rules, bad = self._clock(), self.rules, outcome in _BAD
        if not self._slots or now >= self._slots[-1].begun + rules.window / _SLOTS:
            self._slots.append(_Slot(now))
            while self._slots[0].begun <= now - rules.window:
                self._slots.popleft()
        self._slots[-1].calls += 1
        self._slots[-1].failed += bad
        self._row = self._row + 1 if outcome is Outcome.LOST else 0
        if bad and (self._row >= rules.in_a_row or self._too_many()):
            if now - self._closed_at > rules.longest:
                self._seconds = 0.0
            self._open(now)

    def _too_many(self) -> bool:
        calls, failed = sum(slot.calls for slot in self._slots), sum(slot.failed for slot in self._slots)
        return calls >= self.rules.calls and failed >= self.rules.share * calls

    def _tried(self, outcome: Outcome) -> None:
        if outcome is Outcome.UNKNOWN:
            self._begun -= 1
        elif outcome in _BAD:
            self._open(self._clock())
        else:
            self._well += 1
            if self._well < self.rules.probes[self._stage]:
                return
            self._stage, self._begun, self._well = self._stage + 1, 0, 0
            if self._stage == len(self.rules.probes):
                self._enter(State.CLOSED)
                self._closed_at = self._clock()

    def _open(self, now: float) -> None:
        rules = self.rules
        self._seconds = min(max(self._seconds * 2, rules.shortest), rules.longest)
        self._until = now + self._seconds * (0.8 + 0.4 * self._dice())
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self._state = state
        self._era += 1
        self._slots.clear()
        self._row = 0
