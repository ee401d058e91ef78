"""The audit trail. A call is answered once its event is stored; events of several calls are stored together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from services.gateway.access import events
from services.kit.auth import Principal
from services.kit.bus import Event
from services.kit.errors import Code, Failure, Unavailable
from services.kit.pace import Pace

log = logging.getLogger(__name__)
_TOGETHER = 200  # events in a transaction
_EVERY = 0.04  # seconds between transactions, where many call
_AWAY = (Code.UNAVAILABLE, Code.STORAGE_FULL)


class Trail:
    """Stores events: at once, or together in the transaction after the one under way."""

    def __init__(self, write: Callable[[Sequence[Event]], Awaitable[None]], now: Callable[[], datetime]) -> None:
        self._write, self._now = write, now
        self._pace = Pace(_EVERY)
        self._waiting: list[tuple[Event, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, caller: Principal, request_id: str, method: str, resource: str, **fields: str) -> None:
        """Returns when the event of a call is stored; `fields` are its outcome and the caller's address.

        One that cannot be stored is logged as an error: the call has had its effect.
        """
        fields |= {"request_id": request_id, "principal": caller.id, "method": method, "resource": resource}
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events.call_audited(caller.scope, fields, self._now()), kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_all())
        try:
            await kept
        except Failure as failure:
            log.error(
                "the audit trail lacks %s by %s: %s", method, caller.id, failure, extra={"request_id": request_id}
            )

    async def _write_all(self) -> None:
        while self._waiting:
            await self._pace.wait()
            taken, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            await self._settle(taken)

    async def _settle(self, taken: Sequence[tuple[Event, "asyncio.Future[None]"]]) -> None:
        try:
            await self._write([event for event, _ in taken])
        except Failure as failure:
            if len(taken) > 1 and failure.code not in _AWAY:  # perhaps because of one of them only
                for one in taken:
                    await self._settle([one])
                return
            _end(taken, failure)
        except Exception as error:
            _end(taken, error)
        except BaseException:
            _end([*taken, *self._waiting], Unavailable("the gateway stops"))
            raise
        else:
            _end(taken, None)


def _end(taken: Sequence[tuple[Event, "asyncio.Future[None]"]], error: Exception | None) -> None:
    """Ends the waits of the calls that still wait."""
    for _, kept in taken:
        if not kept.done():
            kept.set_result(None) if error is None else kept.set_exception(error)
