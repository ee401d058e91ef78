"""Sending: each delivery until its receiver takes it, none held up by another's receiver."""

import asyncio
import base64
import hashlib
import hmac
import logging
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

from services.kit.auth import Scope
from services.kit.egress import Egress
from services.kit.errors import Code, Failure
from services.kit.secrets import Vault
from services.logs.subscriptions.domain import BLOCKED, DEAD, DELIVERED, PENDING, next_try
from services.logs.subscriptions.service import context_of
from services.logs.subscriptions.store import Due, Store

log = logging.getLogger(__name__)
_EACH = 4  # calls to one receiver at a time
_ALL = 64
_LOOK_EVERY = 1.0  # seconds


class Deliveries:
    """Sends what is due, signed as Standard Webhooks say. A try that a crash cut off is made again with the same id."""

    def __init__(
        self,
        store: Store,
        egress: Egress,
        vault: Vault,
        now: Callable[[], datetime],
        schedule: tuple[float, ...],
        seconds: float,
    ) -> None:
        self._store, self._egress, self._vault, self._now = store, egress, vault, now
        self._schedule, self._seconds = schedule, seconds
        self._news = asyncio.Event()
        self._flying: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[tuple[Scope, str]] = Counter()

    def wake(self) -> None:
        """Says that something is due."""
        self._news.set()

    async def run(self) -> None:
        """Sends for ever."""
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
            if name in self._flying or self._busy[receiver] >= _EACH or len(self._flying) >= _ALL:
                continue
            self._busy[receiver] += 1
            task = asyncio.get_running_loop().create_task(self._send(one))
            self._flying[name] = task
            task.add_done_callback(partial(self._landed, name, receiver))

    def _landed(self, name: str, receiver: tuple[Scope, str], task: asyncio.Task[None]) -> None:
        del self._flying[name]
        self._busy[receiver] -= 1
        if not task.cancelled() and (error := task.exception()):
            log.error("delivery %s was not settled", name, exc_info=error)
        self._news.set()

    async def _send(self, due: Due) -> None:
        attempts = due.delivery.attempts + 1
        status, error, state = await self._try(due)
        again = next_try(self._schedule, attempts, self._now(), random.random()) if state == PENDING else None
        if state == PENDING and again is None:
            state = DEAD
        ended = self._now() if state == DELIVERED else None
        values = {"state": state, "attempts": attempts, "response_status": status, "error": error[:500]}
        await self._store.settle(
            due.scope, due.delivery.delivery, **values, next_attempt_time=again, deliver_time=ended
        )

    async def _try(self, due: Due) -> tuple[int, str, str]:
        """HTTP status, what went wrong, and the state that follows."""
        try:
            headers = {**due.message.headers, **self._signature(due)}
            answer = await self._egress.request("POST", due.url, headers, due.message.body, self._seconds, 65_536)
        except ValueError as error:
            return 0, f"the secret cannot be opened: {error}", BLOCKED
        except Failure as failure:
            return 0, failure.detail, BLOCKED if failure.code is Code.EGRESS_DENIED else PENDING
        if 200 <= answer.status < 300:
            return answer.status, "", DELIVERED
        # 410 says that nobody listens there any more.
        return answer.status, f"the receiver answered {answer.status}", DEAD if answer.status == 410 else PENDING

    def _signature(self, due: Due) -> dict[str, str]:
        secret = self._vault.open(due.secret, context_of(due.scope, due.delivery.subscription))
        name, stamp = due.delivery.delivery, str(int(self._now().timestamp()))
        signed = b".".join([name.encode(), stamp.encode(), due.message.body])
        mark = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": f"v1,{mark}"}
