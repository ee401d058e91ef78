"""Which of several instances stand out: more of their calls fail, or they take longer, than those of the others. Pure.

Each is compared with the median of the others, so that one bad instance does not hide another one, and an instance that
is like most is none also when most are bad. It has to be further away than the others are, and than chance explains
for so many calls.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from services.kit.breaker import Outcome
from services.kit.tally import Seconds

K = TypeVar("K")
_ENOUGH = 0.01  # seconds above the others, up to which an instance is not slow
_NORMAL = 1.4826  # standard deviations, of what is normally distributed, in a median of distances
# Times are counted in steps, four from each power of two seconds to the next, from nanoseconds to days.
_STEPS, _FIRST, _LAST = 4, -32, 18


class EjectionRules(BaseModel):
    """When an instance is left out and for how long; times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    # From one look at the instances to the next.
    interval: Seconds = 10.0
    # Calls of an instance since the last look, and instances that have had so many: with fewer none is judged.
    calls: Annotated[int, Field(ge=1)] = 50
    instances: Annotated[int, Field(ge=2)] = 3
    # Standard deviations that it has to be away from the others, and how much more of its calls have to fail.
    factor: Annotated[float, Field(gt=0, le=100)] = 3.0
    gap: Annotated[float, Field(gt=0, le=1)] = 0.1
    # Times as long as the others, for half of its calls; where it is not said, how long they take says nothing.
    slower: Annotated[float, Field(ge=1.5, le=1000)] | None = None
    # For how long it is left out the first time, so much longer each next time, and at most.
    time: Seconds = 30.0
    longest: Seconds = 300.0
    # The share of the connected ones that may be left out, including those that breakers keep out; 0: none.
    share: Annotated[float, Field(ge=0, le=0.5)] = 0.5


class Record:
    """What came of the calls of an instance."""

    __slots__ = ("calls", "failed", "times")

    def __init__(self, timed: bool = False) -> None:
        self.calls = self.failed = 0
        # A histogram of the durations of calls that went well; empty where they do not matter.
        self.times = [0] * (_STEPS * (_LAST - _FIRST)) if timed else []

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Takes in how a call ended; 0 seconds: its duration says nothing."""
        if outcome is Outcome.UNKNOWN:
            return
        self.calls += 1
        if outcome is not Outcome.WELL:
            self.failed += 1
        elif seconds:
            part, power = math.frexp(seconds)
            self.times[_STEPS * (power - _FIRST - 1) + int(part * 2 * _STEPS)] += 1

    @property
    def failing(self) -> float:
        """The share of calls that failed."""
        return self.failed / self.calls if self.calls else 0.0

    @property
    def chance(self) -> float:
        """The standard deviation that so many calls have by chance."""
        return math.sqrt(self.failing * (1 - self.failing) / self.calls) if self.calls else 0.0

    @property
    def middle(self) -> float:
        """The median duration in seconds, about; 0 where it is not known."""
        left = sum(self.times) / 2
        for step, count in enumerate(self.times):
            if count >= left > 0:
                return math.ldexp(_STEPS + step % _STEPS + left / count, step // _STEPS + _FIRST) / (2 * _STEPS)
            left -= count
        return 0.0


def outliers(seen: Mapping[K, Record], rules: EjectionRules) -> dict[K, str]:
    """The outliers and why: those that fail most first, then the slowest."""
    found = dict[K, str]()
    called = {one: record for one, record in seen.items() if record.calls >= rules.calls}
    failing = {one: record.failing for one, record in called.items()}
    chances = {one: record.chance for one, record in called.items()}
    for one, others in _beyond(failing, chances, lambda middle: rules.gap, rules).items():
        found[one] = f"{failing[one]:.0%} of {called[one].calls} calls failed, of others {others:.0%}"
    if rules.slower is None:
        return found
    more = rules.slower - 1
    took = {one: record.middle for one, record in called.items() if sum(record.times) >= rules.calls}
    chances = dict.fromkeys(took, 0.0)
    for one, others in _beyond(took, chances, lambda middle: max(more * middle, _ENOUGH), rules).items():
        found.setdefault(one, f"calls take {took[one]:.3f} s, of others {others:.3f} s")
    return found


def _beyond(
    values: Mapping[K, float], chances: Mapping[K, float], least: Callable[[float], float], rules: EjectionRules
) -> dict[K, float]:
    """Those whose value is too far above those of the others, the highest first, with the middle of the others.

    `chances` are the standard deviations of the values by chance, `least` how far is too far beside a middle: no less
    beside a higher one.
    """
    found = dict[K, float]()
    if len(values) < rules.instances:
        return found
    for one in sorted(values, key=lambda one: values[one], reverse=True):
        others = [other for other in values if other != one]
        middle = _middle(values[other] for other in others)
        if values[one] - middle <= least(middle):
            break  # nor is any of the next: their values are lower, and the middle of their others is no lower
        spread = _NORMAL * _middle(abs(values[other] - middle) for other in others)
        deviation = math.hypot(spread, chances[one], _middle(chances[other] for other in others))
        if values[one] - middle > rules.factor * deviation:
            found[one] = middle
    return found


def _middle(values: Iterable[float]) -> float:
    """The median of some values: what every process loads should not need `statistics`."""
    found = sorted(values)
    return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
