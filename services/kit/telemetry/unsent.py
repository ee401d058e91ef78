"""Encoded batches on their way to the bus."""

from collections import deque
from collections.abc import Callable

from services.kit import batches
from services.kit.bus import Bus, Event
from services.kit.errors import Code, Failure

_MOST = 50  # that wait for a bus that is away


class Unsent:
    """Gives them to the bus in their order, as many at a time as it takes; the oldest make room, and are counted."""

    def __init__(self, dropped: Callable[[str, int], None]) -> None:
        """`dropped` hears of what is lost: of what kind, and how many."""
        self._events: deque[Event] = deque()
        self._dropped = dropped

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: Event) -> None:
        """At the end."""
        self._events.append(event)

    async def send(self, bus: Bus) -> bool:
        """Publishes them all; false when the bus is away."""
        while batch := batches.first(self._events, lambda event: event.size):
            for _ in batch:
                self._events.popleft()
            try:
                await bus.publish(batch)
            except Failure as failure:
                if failure.code is Code.LIMIT_EXCEEDED:
                    self._dropped("batch", len(batch))
                    continue
                self._events.extendleft(reversed(batch))
                while len(self._events) > _MOST:
                    self._events.popleft()
                    self._dropped("batch", 1)
                return False
        return True
