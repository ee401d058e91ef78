"""A bounded queue by priority; within a priority first in, first out, and last in, first out once it is half full.

In a long queue the oldest request is the one whose caller gives up next: served in order, every request would be
answered after its caller has gone (adaptive LIFO).
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from services.gateway.overload.priority import Priority


class Waits(Protocol):
    """An entry of the queue."""

    @property
    def priority(self) -> Priority: ...

    @property
    def stale_at(self) -> float:
        """When it is given up in a queue that is half full."""


T = TypeVar("T", bound=Waits)
_LEAST_FIRST = tuple(reversed(Priority))


class Line(Generic[T]):
    """The queue. Nothing is in it twice."""

    __slots__ = ("_of", "count")

    def __init__(self) -> None:
        self._of: tuple[OrderedDict[T, None], ...] = tuple(OrderedDict() for _ in Priority)
        self.count = 0

    def enter(self, one: T, room: int) -> T | None:
        """Adds an entry; returns the one that has no room then: the oldest of the least urgent, or itself."""
        out: T | None = None
        if self.count >= room:
            least = self.last()
            if least <= one.priority:
                return one
            out = next(iter(self._of[least]))
            self.leave(out)
        self._of[one.priority][one] = None
        self.count += 1
        return out

    def leave(self, one: T) -> bool:
        """Removes an entry, wherever it is; False when it is not there."""
        if one not in self._of[one.priority]:
            return False
        del self._of[one.priority][one]
        self.count -= 1
        return True

    def next(self, room: int) -> T | None:
        """The entry whose turn it is; it stays until it is removed."""
        waiting = next((found for found in self._of if found), None)
        if waiting is None:
            return None
        return next(reversed(waiting) if 2 * self.count >= room else iter(waiting))

    def last(self) -> Priority:
        """The lowest priority that waits."""
        return next((p for p in _LEAST_FIRST if self._of[p]), Priority.ADMIN)

    def urgency(self) -> Priority:
        """The priority of the next entry."""
        return next((p for p in Priority if self._of[p]), Priority.SEARCH)

    def surplus(self, room: int, now: float) -> T | None:
        """An entry to refuse: there is less room than before, or it has become stale in a queue that is half full, in
        which it would be served last."""
        if 2 * self.count < room:
            return None
        oldest = (next(iter(found)) for found in reversed(self._of) if found)
        return next((one for one in oldest if self.count > room or one.stale_at < now), None)
