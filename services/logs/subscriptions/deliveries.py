"""Sends deliveries until their receivers accept them; slow receivers do not delay those of other tenants."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

from services.kit.auth import Scope
from services.kit.errors import Failure
from services.logs.subscriptions.channel import Channels
from services.logs.subscriptions.domain import DEAD, DELIVERED, PENDING, next_try
from services.logs.subscriptions.store import Due, Store

log = logging.getLogger(__name__)
_EACH = 4  # requests to one receiver at a time
_TENANT = 16  # requests of one tenant at a time
_ALL = 64  # requests at a time
_LOOK_EVERY = 1.0  # seconds
_Receiver = tuple[Scope, str]  # scope and subscription


class Deliveries:
    """Sends due deliveries. A try that a crash cut off is repeated with the same id."""

    def __init__(
        self, store: Store, channels: Channels, now: Callable[[], datetime], schedule: tuple[float, ...]
    ) -> None:
        self._store, self._channels, self._now, self._schedule = store, channels, now, schedule
        self._news = asyncio.Event()
        self._flying: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[_Receiver] = Counter()
        self._of_tenant: Counter[str] = Counter()

    def wake(self) -> None:
        """Sends at once: a delivery has become due."""
        self._news.set()

    async def run(self) -> None:
        """Sends until it is cancelled."""
        try:
            while True:
                self._news.clear()
                await self._launch()
                try:
                    # Not wait_for: Python 3.11's can lose a cancellation.
                    async with asyncio.timeout(max(0.05, min(_LOOK_EVERY, *self._schedule))):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._flying.values():
                task.cancel()
            await asyncio.gather(*self._flying.values(), return_exceptions=True)

    async def _launch(self) -> None:
        try:
            due = await self._store.due(self._now(), 2 * _EACH) if await self._store.leads() else ()
        except Failure as failure:
            log.warning("deliveries wait: %s", failure)
            return
        for one in due:
            receiver, name = (one.scope, one.delivery.subscription), one.delivery.delivery
            if name in self._flying or len(self._flying) >= _ALL:
                continue
            if self._busy[receiver] >= _EACH or self._of_tenant[one.scope.tenant] >= _TENANT:
                continue
            self._busy[receiver] += 1
            self._of_tenant[one.scope.tenant] += 1
            task = asyncio.get_running_loop().create_task(self._send(one))
            self._flying[name] = task
            task.add_done_callback(partial(self._landed, name, receiver))

    def _landed(self, name: str, receiver: _Receiver, task: asyncio.Task[None]) -> None:
        del self._flying[name]
        self._busy[receiver] -= 1
        self._of_tenant[receiver[0].tenant] -= 1
        if not task.cancelled() and (error := task.exception()):
            log.error("the result of delivery %s was not stored", name, exc_info=error)
        self._news.set()

    async def _send(self, due: Due) -> None:
        attempts = due.delivery.attempts + 1
        status, error, state = await self._channels.of(due.url).send(due)
        again = next_try(self._schedule, attempts, self._now(), random.random()) if state == PENDING else None
        if state == PENDING and again is None:
            state = DEAD
        ended = self._now() if state == DELIVERED else None
        values = {"state": state, "attempts": attempts, "response_status": status, "error": error[:500]}
        await self._store.settle(
            due.scope, due.delivery.delivery, **values, next_attempt_time=again, deliver_time=ended
        )
