"""Encoded batches that wait for the bus."""

from collections import deque
from collections.abc import Callable

from services.kit import batches
from services.kit.bus import Bus, Event
from services.kit.errors import Code, Failure

_MOST = 50  # batches that wait while the bus is away


class Unsent:
    """A queue in front of the bus. While that is away the oldest batches are dropped and counted."""

    def __init__(self, dropped: Callable[[str, int], None]) -> None:
        """`dropped` is called with the kind and the number of what is lost."""
        self._events: deque[Event] = deque()
        self._dropped = dropped

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: Event) -> None:
        """Adds one at the end."""
        self._events.append(event)

    async def send(self, bus: Bus) -> bool:
        """Publishes all of them; false when the bus is away."""
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
