"""Those who wait, as many as there is room for: the most urgent first, and the newest first when it is half full.

Who has waited long is the one whose caller gives up next; in a long line the first come would be served when nobody
wants the answer any more, and so everybody behind him.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from services.gateway.overload.priority import Priority


class Waits(Protocol):
    """One who waits."""

    @property
    def priority(self) -> Priority: ...

    @property
    def stale_at(self) -> float:
        """When he is given up in a line that is half full."""


T = TypeVar("T", bound=Waits)
_LEAST_FIRST = tuple(reversed(Priority))


class Line(Generic[T]):
    """The line. Nobody is in it twice."""

    __slots__ = ("_of", "count")

    def __init__(self) -> None:
        self._of: tuple[OrderedDict[T, None], ...] = tuple(OrderedDict() for _ in Priority)
        self.count = 0

    def enter(self, one: T, room: int) -> T | None:
        """Lets somebody in; gives back who has no room then: the oldest of the least urgent, or he himself."""
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
        """Takes somebody out, wherever he stands; False when he is not there."""
        if one not in self._of[one.priority]:
            return False
        del self._of[one.priority][one]
        self.count -= 1
        return True

    def next(self, room: int) -> T | None:
        """Whose turn it is; he stays until he leaves."""
        waiting = next((found for found in self._of if found), None)
        if waiting is None:
            return None
        return next(reversed(waiting) if 2 * self.count >= room else iter(waiting))

    def last(self) -> Priority:
        """Of the least urgent who wait."""
        return next((p for p in _LEAST_FIRST if self._of[p]), Priority.ADMIN)

    def urgency(self) -> Priority:
        """Of who is next."""
        return next((p for p in Priority if self._of[p]), Priority.SEARCH)

    def surplus(self, room: int, now: float) -> T | None:
        """Somebody to send away: there is less room than there was, or he has waited for too long in a line that is
        half full, and would be served after all others."""
        if 2 * self.count < room:
            return None
        oldest = (next(iter(found)) for found in reversed(self._of) if found)
        return next((one for one in oldest if self.count > room or one.stale_at < now), None)
