"""Bounds the calls of one service that are under way: as many again may wait, and hopeless ones are refused."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from services.gateway.overload.gradient import Bounds, Gradient
from services.gateway.overload.line import Line
from services.gateway.overload.priority import Priority
from services.gateway.overload.refusal import hopeless, overloaded, stale_at
from services.kit.errors import Code, DeadlineExceeded, Failure

# Calls of our services take as long as their databases: below a tenth of a second none counts as slow.
SERVICE = Bounds(least=32, most=1_000, start=256, quick=0.1)


class _Waiting:
    __slots__ = ("kind", "let_in", "priority", "stale_at", "until")

    def __init__(self, kind: str, priority: Priority, until: float, stale_at: float) -> None:
        self.kind, self.priority, self.until, self.stale_at = kind, priority, until, stale_at
        self.let_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Gate:
    """The gate of one service."""

    def __init__(self, name: str, bounds: Bounds = SERVICE, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` is what error texts call the service; `clock` is in seconds."""
        self._name, self._clock = name, clock
        self.gradient = Gradient(bounds, clock)
        self.line: Line[_Waiting] = Line()
        self.busy = 0

    @contextlib.asynccontextmanager
    async def call(self, kind: str, priority: Priority, until: float) -> AsyncIterator["Passage"]:
        """Lets one call of a kind through when it is its turn; `until` is its deadline.

        Raises overloaded at once when too many wait, deadline_exceeded at once when it would be answered too late.
        """
        await self._enter(kind, priority, until)
        passage = Passage(self, kind, self._clock())
        try:
            yield passage
            passage.end()
        except Failure as failure:
            passage.end(failure.code)
            raise
        finally:
            passage.end(Code.CANCELLED)

    async def _enter(self, kind: str, priority: Priority, until: float) -> None:
        now, gradient = self._clock(), self.gradient
        if gradient.hopeless(kind, until - now):
            raise hopeless(self._name)
        if self.busy < gradient.limit and not self.line.count:
            self.busy += 1
            return
        waiting = _Waiting(kind, priority, until, stale_at(now, gradient.typical(kind)))
        if out := self.line.enter(waiting, gradient.limit):
            if out is waiting:
                raise overloaded(self._name)
            self._refuse(out, overloaded(self._name))
        try:
            async with asyncio.timeout(until - now):
                await waiting.let_in
        except BaseException as error:
            let_in = waiting.let_in
            if not self.line.leave(waiting) and not let_in.cancelled() and not let_in.exception():
                self.leave()  # it was let in as it was cancelled
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"{self._name} took too long") from None
            raise

    def leave(self) -> None:
        """A call has ended: the next one begins."""
        self.busy -= 1
        line, gradient, now = self.line, self.gradient, self._clock()
        while old := line.surplus(gradient.limit, now):
            line.leave(old)
            self._refuse(old, overloaded(self._name))
        while self.busy < gradient.limit and (waiting := line.next(gradient.limit)):
            line.leave(waiting)
            if gradient.hopeless(waiting.kind, waiting.until - now):
                self._refuse(waiting, hopeless(self._name))
            elif not waiting.let_in.done():
                self.busy += 1
                waiting.let_in.set_result(None)

    @staticmethod
    def _refuse(waiting: _Waiting, failure: Failure) -> None:
        if not waiting.let_in.done():
            waiting.let_in.set_exception(failure)


class Passage:
    """One call that was let through."""

    def __init__(self, gate: Gate, kind: str, began: float) -> None:
        self._gate, self._kind, self._began, self._ended = gate, kind, began, False

    def end(self, code: Code | None = None) -> None:
        """The call has been answered, or has failed with a code; it frees its place. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        gradient, busy = self._gate.gradient, self._gate.busy
        if code is None:
            gradient.ended(self._kind, self._began, busy)
        elif code is Code.OVERLOADED:
            gradient.refused(self._began)
        elif code is Code.DEADLINE_EXCEEDED:
            gradient.late(self._kind, self._began)
        self._gate.leave()
