"""Long work of which one process does each piece: started, resumed, cancelled, left to others, ended once."""

import asyncio
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Internal
from services.kit.schema import Schema
from services.kit.turns import Turns

log = logging.getLogger(__name__)
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
_PATIENCE = (1.0, 5.0, 30.0)  # seconds before an end that could not be stored is tried again; the last one repeats
_ANSWER = 1.0  # seconds that a cancellation waits for the work to end


class Leased(Protocol):
    """Stored work: its operation names it, and ends in the same transaction."""

    @property
    def operation(self) -> str: ...


T = TypeVar("T", bound=Leased)


class LeasedWork(ABC, Generic[T]):
    """One kind of work. As many at a time as asked for; others wait, those of each tenant for their own."""

    def __init__(self, schema: Schema, spawn: Spawn, at_once: int) -> None:
        self._operations, self._tenure, self._spawn = schema.operations, schema.tenure, spawn
        self._free = Turns(at_once)
        self._running: dict[str, asyncio.Task[None]] = {}
        # Those of them that can still be stopped.
        self._stoppable: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        schema.operations.on_cancel.append(self.cancel)
        schema.tenure.on_loss.append(self.leave)

    @abstractmethod
    async def _unfinished(self) -> Sequence[tuple[Scope, T]]:
        """What is stored and has not ended, of all tenants."""

    @abstractmethod
    async def _do(self, scope: Scope, work: T) -> None:
        """Does it, to its end and its operation's. Whatever it raises is how it ends."""

    @abstractmethod
    async def _give_up(self, scope: Scope, work: T, failure: Failure | None) -> None:
        """Ends it and its operation with a failure, or as cancelled. Raises fence_stale when others do it by now."""

    def begin(self, scope: Scope, work: T) -> None:
        """Starts work that is stored, in a task; work that runs here already is not started twice."""
        if work.operation not in self._running:
            self._start(scope, work)

    def _start(self, scope: Scope, work: T) -> None:
        task = self._spawn(self._run(scope, work))
        self._running[work.operation] = self._stoppable[work.operation] = task
        task.add_done_callback(lambda _: self._forget(work.operation))

    def _forget(self, operation: str) -> None:
        self._settle(operation)
        self._running.pop(operation, None)
        self._cancelled.discard(operation)

    def _settle(self, operation: str) -> None:
        """From here on nobody stops it."""
        self._stoppable.pop(operation, None)

    async def resume(self) -> None:
        """Takes up what a dead process left unfinished; what a living one does stays with it."""
        found = [each for each in await self._unfinished() if each[1].operation not in self._running]
        free = await self._tenure.take(work.operation for _, work in found)
        for scope, work in found:
            if work.operation in free:
                self.begin(scope, work)

    async def leave(self, operation: str) -> None:
        """Stops what another process has taken up."""
        if task := self._stoppable.pop(operation, None):
            task.cancel()

    async def cancel(self, scope: Scope, operation: str) -> None:
        """Stops work that runs here and can be stopped; work that nobody does yet finds the request when it starts."""
        await asyncio.sleep(0)  # a task that is cancelled before its first step would never hear of it
        if task := self._stoppable.pop(operation, None):
            self._cancelled.add(operation)
            task.cancel()
            await asyncio.wait({task}, timeout=_ANSWER)

    async def _run(self, scope: Scope, work: T) -> None:
        try:
            if await self._tenure.take([work.operation]):
                await self._attempt(scope, work)
        except asyncio.CancelledError:
            # Only a request to cancel ends it: a process that stops leaves it to the next one.
            if work.operation not in self._cancelled:
                raise
            await self._end(scope, work, None)
        except Failure as failure:
            if self._tenure.leaves(failure):
                log.warning("%s is left to a later attempt: %s", work.operation, failure)
            else:
                await self._end(scope, work, failure)
        except Exception:
            log.exception("%s failed", work.operation)
            await self._end(scope, work, Internal("internal error"))
        finally:
            await self._tenure.end(work.operation)

    async def _attempt(self, scope: Scope, work: T) -> None:
        kept = await self._operations.get(scope, work.operation)
        # The process that did it before may have ended it just before it gave it back.
        if kept.HasField("end_time"):
            return
        if kept.cancel_requested:
            await self._end(scope, work, None)
            return
        async with self._free.turn(scope.tenant):
            await self._do(scope, work)
        await self._operations.tell()

    async def _end(self, scope: Scope, work: T, failure: Failure | None) -> None:
        await self._keep_end(work.operation, partial(self._give_up, scope, work, failure))
        await self._operations.tell()

    async def _keep_end(self, operation: str, end: Callable[[], Awaitable[None]]) -> None:
        """Stores how work has ended, however long the database is away."""
        # From here on nobody stops it: work whose end is not kept would run for ever.
        self._settle(operation)
        for seconds in itertools.chain(_PATIENCE, itertools.repeat(_PATIENCE[-1])):
            try:
                await end()
                break
            except Failure as refused:
                if refused.code is Code.FENCE_STALE:
                    log.warning("another process ends %s: %s", operation, refused)
                    break
                # The disk that made the work fail may be full for the database, too.
                if refused.code not in (Code.STORAGE_FULL, Code.UNAVAILABLE):
                    raise
                log.warning("the end of %s is not stored yet: %s", operation, refused)
                await asyncio.sleep(seconds)
