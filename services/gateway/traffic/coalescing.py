"""Requests that wait for the same version leave together in the next call.

A request that finds no call under way leaves at once, so nothing is delayed at concurrency 1; under load the price of a
call is shared by all that came in one turn of the event loop or while the last call was in flight.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from services.gateway.traffic.domain.tensors import Tensor
from services.gateway.traffic.engines import Answer, Engines, Item
from services.kit.auth import Scope
from services.kit.errors import Code, DeadlineExceeded, Failure


class Target(NamedTuple):
    """What requests must have in common to share a call."""

    scope: Scope
    model: str
    version: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one call and of what may wait."""

    # Of one call; one item alone may be larger.
    items: int = 1_000
    bytes: int = 8 * 2**20
    rows: int = 10_000
    # Calls of one version under way at once, for each instance that has it.
    calls: int = 2
    # What may wait: requests of one version, bytes of all.
    waiting: int = 2_000
    waiting_bytes: int = 128 * 2**20


@dataclass(slots=True, eq=False)
class _Waiting:
    item: Item
    size: int
    answer: asyncio.Future[list[Tensor]]


@dataclass(slots=True)
class _Lane:
    target: Target
    flying: int = 0
    # A call is about to leave: who comes now joins it.
    gathering: bool = False
    waiting: deque[_Waiting] = field(default_factory=deque)


class Coalescer:
    """The lanes, one for each version that is being asked."""

    def __init__(
        self, engines: Engines, limits: Limits | None = None, width: Callable[[Target], int] = lambda target: 1
    ) -> None:
        """`width`: how many instances have a version."""
        self._engines, self._limits, self._width = engines, limits or Limits(), width
        self._lanes: dict[Target, _Lane] = {}
        self._waiting_bytes = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def infer(self, target: Target, item: Item) -> list[Tensor]:
        """The outputs for one item. Raises its own Failure, Unloaded, overloaded or deadline_exceeded."""
        lane = self._lane(target)
        if lane.gathering or self._full(lane):
            size = item.size
            self._refuse_too_many(lane, size)
            return await self._answered(lane, self._enqueue(lane, item, size))
        lane.flying += 1
        lane.gathering = True
        try:
            # Those that came in the same turn of the event loop join: an engine that answers on the loop blocks it.
            await asyncio.sleep(0)
            lane.gathering = False
            if not lane.waiting:
                # In the caller's own task: his going away cancels nobody else's request.
                return _value((await self._engines.infer(*target, (item,)))[0])
            waiting = self._enqueue(lane, item, item.size)
        finally:
            lane.gathering = False
            self._landed(lane)
        return await self._answered(lane, waiting)

    def submit(self, target: Target, item: Item) -> asyncio.Future[list[Tensor]]:
        """The same without a task of the caller's: he cancels the answer when he goes away. Raises overloaded."""
        lane, size, loop = self._lane(target), item.size, asyncio.get_running_loop()
        self._refuse_too_many(lane, size)
        waiting = self._enqueue(lane, item, size)
        timer = loop.call_later(max(item.deadline - time.monotonic(), 0.0), _expire, lane, waiting)
        waiting.answer.add_done_callback(lambda _: timer.cancel())
        if not lane.gathering and not self._full(lane):
            lane.gathering = True
            loop.call_soon(self._gathered, lane)
        return waiting.answer

    def _gathered(self, lane: _Lane) -> None:
        lane.gathering = False
        self._leave(lane)

    def _lane(self, target: Target) -> _Lane:
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = _Lane(target)
        return lane

    def _full(self, lane: _Lane) -> bool:
        calls = self._limits.calls
        return lane.flying >= calls and lane.flying >= calls * self._width(lane.target)

    def _refuse_too_many(self, lane: _Lane, size: int) -> None:
        limits = self._limits
        if len(lane.waiting) >= limits.waiting or self._waiting_bytes + size > limits.waiting_bytes:
            raise Failure(Code.OVERLOADED, f"{lane.target.model} has too many requests waiting", retry_after=1)

    def _enqueue(self, lane: _Lane, item: Item, size: int) -> _Waiting:
        waiting = _Waiting(item, size, asyncio.get_running_loop().create_future())
        lane.waiting.append(waiting)
        self._waiting_bytes += size
        return waiting

    async def _answered(self, lane: _Lane, waiting: _Waiting) -> list[Tensor]:
        left = waiting.item.deadline - time.monotonic()
        # A timer of its own is a tenth of what asyncio.timeout costs.
        timer = asyncio.get_running_loop().call_later(max(left, 0.0), _expire, lane, waiting)
        try:
            return await waiting.answer
        finally:
            timer.cancel()

    def _landed(self, lane: _Lane) -> None:
        """A call has ended: the next one leaves with all that wait, as far as one call may hold."""
        lane.flying -= 1
        self._leave(lane)

    def _leave(self, lane: _Lane) -> None:
        while lane.waiting and not lane.gathering and not self._full(lane):
            if batch := self._take(lane):
                lane.flying += 1
                task = asyncio.get_running_loop().create_task(self._together(lane, batch))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                if len(batch) == 1:  # nobody else's request ends with his going away
                    batch[0].answer.add_done_callback(partial(_abandon, task))
        if not lane.flying and not lane.waiting and not lane.gathering:
            self._lanes.pop(lane.target, None)

    def _take(self, lane: _Lane) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = rows = 0
        limits = self._limits
        while lane.waiting and len(batch) < limits.items:
            waiting = lane.waiting[0]
            item = waiting.item
            if batch and (size + waiting.size > limits.bytes or rows + item.rows > limits.rows):
                break
            lane.waiting.popleft()
            self._waiting_bytes -= waiting.size
            if not waiting.answer.done():  # its caller may have gone or run out of time
                batch.append(waiting)
                size, rows = size + waiting.size, rows + item.rows
        return batch

    async def _together(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        try:
            await self._answer(lane, batch)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        except Exception as error:
            _refuse(batch, error)
        finally:
            self._landed(lane)

    async def _answer(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        try:
            answers = await self._engines.infer(*lane.target, [waiting.item for waiting in batch])
        except Failure as failure:
            # What only broke because it was together (an answer larger than a message) is asked for one by one.
            if len(batch) == 1 or failure.code not in (Code.BODY_TOO_LARGE, Code.INTERNAL):
                raise
            for waiting in batch:
                try:
                    await self._answer(lane, (waiting,))
                except Exception as error:
                    _refuse((waiting,), error)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Failure):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)


def _abandon(call: asyncio.Task[None], answer: asyncio.Future[list[Tensor]]) -> None:
    if answer.cancelled():
        call.cancel()


def _expire(lane: _Lane, waiting: _Waiting) -> None:
    _refuse((waiting,), DeadlineExceeded(f"{lane.target.model} took too long"))


def _refuse(batch: Iterable[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


def _value(answer: Answer) -> list[Tensor]:
    if isinstance(answer, Failure):
        raise answer
    return answer
