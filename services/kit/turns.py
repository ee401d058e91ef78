"""Turns at something of which there are few, fair between tenants: who asks for much waits for itself, not others."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many at a time. One that is free goes to the waiting tenant with the fewest, of those to the one whose last
    turn is longest ago; the calls of one tenant go in their order."""

    def __init__(self, at_once: int) -> None:
        self._free, self._running = at_once, Counter[str]()
        # Of each tenant that waits, those whose last turn is longest ago first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        # When a tenant that has some, or waits, had its last turn.
        self._last: dict[str, int] = {}
        self._count = 0

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a turn and has it until the block ends."""
        await self._take(tenant)
        try:
            yield
        finally:
            self._end(tenant)

    async def _take(self, tenant: str) -> None:
        if self._free:
            self._give(tenant)
            return
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._tidy(tenant)
            else:
                self._end(tenant)  # it was given in the same moment: to the next
            raise

    def _give(self, tenant: str) -> None:
        self._free -= 1
        self._count += 1
        self._running[tenant] += 1
        self._last[tenant] = self._count

    def _end(self, tenant: str) -> None:
        self._free += 1
        self._running[tenant] -= 1
        for name in [tenant, *self._waiting]:
            self._tidy(name)
        if self._waiting:
            chosen = min(self._waiting, key=lambda name: (self._running[name], self._last.get(name, 0)))
            self._give(chosen)
            self._waiting[chosen].popleft().set_result(None)
            self._tidy(chosen)

    def _tidy(self, tenant: str) -> None:
        """Nobody waits who has given up, and nothing is kept of a tenant that neither has a turn nor waits."""
        queue = self._waiting.get(tenant, deque())
        while queue and queue[0].done():
            queue.popleft()
        if not queue:
            self._waiting.pop(tenant, None)
            if not self._running[tenant]:
                del self._running[tenant]
                self._last.pop(tenant, None)
