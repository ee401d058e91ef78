"""Load balancing: which of several instances takes the next call. Its state is local to this process.

Each choice is among those that may be called now, so instances may come, leave and be kept out between two choices.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from enum import StrEnum
from typing import Generic, Protocol, TypeVar


class Way(StrEnum):
    """How instances are chosen, as settings and the contract spell it."""

    # The less busy of two that are picked by chance, the heavier more often.
    POWER_OF_TWO = "power_of_two"
    # The fewest calls under way in relation to the weight; in turn among equals.
    LEAST_CONNECTIONS = "least_connections"
    # One after the other.
    ROUND_ROBIN = "round_robin"
    # As often as weights say, spread as evenly as can be.
    WEIGHTED = "weighted"


class Choosable(Hashable, Protocol):
    """One that can be chosen: how many calls it has under way, and its share in relation to others."""

    @property
    def load(self) -> int: ...
    @property
    def weight(self) -> int: ...


C = TypeVar("C", bound=Choosable)
_CALL = 1 << 40
HEAVIEST = 1000  # that an instance may weigh
_MOST = 8  # times as many as may be chosen, that are remembered


class Turns(Generic[C]):
    """Smooth weighted round robin.

    Each call is credited to the candidates by their weights; the one with the most credit takes it and pays for it.
    So no credit ever exceeds a few calls, whichever candidates there are at a time (the carpool problem: Ajtai et
    al., "Fairness in scheduling", 1998).
    """

    def __init__(self, even: bool = False) -> None:
        """`even`: all weights count as equal."""
        self._even = even
        # The credit of each, in parts of a call: whole numbers, so that equal ones stay equal.
        self._owed: dict[C, int] = {}

    def next(self, among: Sequence[C]) -> C:
        """One of some, of which there is at least one."""
        owed, total = self._owed, 0
        for one in among:
            total += 1 if self._even else one.weight
            if one not in owed:
                self._enter(among)
        best, most, part = among[0], None, _CALL // total
        for one in among:
            owed[one] = has = owed[one] + (part if self._even else part * one.weight)
            if most is None or has > most:
                best, most = one, has
        owed[best] -= part * total
        return best

    def _enter(self, among: Sequence[C]) -> None:
        """A new candidate gets the average credit of the others: it does not catch up."""
        if len(self._owed) > _MOST * len(among):  # others have left for good
            for one in self._owed.keys() - set(among):
                del self._owed[one]
        known = [self._owed[one] for one in among if one in self._owed]
        start = sum(known) // len(known) if known else 0
        for one in among:
            self._owed.setdefault(one, start)


class Balancer(Generic[C]):
    """Chooses in one way."""

    def __init__(self, way: Way = Way.POWER_OF_TWO, dice: Callable[[], float] = random.random) -> None:
        """`dice` gives 0..1."""
        self.way, self._dice = way, dice
        self._turns: Turns[C] = Turns(even=way is Way.ROUND_ROBIN)

    def choose(self, among: Sequence[C]) -> C:
        """One of some, of which there is at least one."""
        if len(among) == 1:
            return among[0]
        if self.way is Way.POWER_OF_TWO:
            return self._of_two(among)
        if self.way is Way.LEAST_CONNECTIONS:
            return self._turns.next(_least(among))
        return self._turns.next(among)

    def _of_two(self, among: Sequence[C]) -> C:
        total = 0
        for one in among:
            total += one.weight
        first = _at(among, self._dice() * total, None)
        other = _at(among, self._dice() * (total - first.weight), first)
        return first if first.load * other.weight <= other.load * first.weight else other


def _at(among: Sequence[C], point: float, without: C | None) -> C:
    """The candidate at a point of a line on which each has the length of its weight."""
    found = among[0]
    for one in among:
        if one is without:
            continue
        found = one
        point -= one.weight
        if point < 0:
            break
    return found


def _least(among: Sequence[C]) -> Sequence[C]:
    """Those that are the least busy."""
    best = among[0]
    for one in among:
        if one.load * best.weight < best.load * one.weight:
            best = one
    return [one for one in among if one.load * best.weight == best.load * one.weight]
