"""Requests that wait for the same version leave together in the next call.

A request that finds no call under way leaves at once, so nothing is delayed at concurrency 1; under load the price of a
call is shared by all that came in one turn of the event loop or while the last call was in flight. How many may be in
calls at once, and how many may wait, follows how long calls take: for each version, and for all together.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from services.gateway.overload.gradient import Gradient
from services.gateway.overload.priority import Priority
from services.gateway.overload.refusal import hopeless, overloaded, stale_at
from services.gateway.traffic import lanes
from services.gateway.traffic.engines import Answer, Engines, Item
from services.gateway.traffic.lanes import POOL, Awaited, Lane, Limits, Receiver, Target, Waiting, kind
from services.kit.deadlines import Deadlines
from services.kit.errors import Code, DeadlineExceeded, Failure, Unavailable
from services.kit.tasks import is_cancelled
from services.kit.tensors import Tensor

_LANES = 4_096  # lanes that are kept while they are idle
_PLAIN = Priority.INTERACTIVE


class Coalescer:
    """The lanes, one for each version that is being asked."""

    def __init__(
        self,
        engines: Engines,
        limits: Limits | None = None,
        width: Callable[[Target], int] = lambda target: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`width`: how many instances have a version; `clock` is that of deadlines."""
        self._engines, self._limits, self._width, self._clock = engines, limits or Limits(), width, clock
        self._lanes: dict[Target, Lane] = {}
        self._waiting_bytes = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._deadlines = Deadlines[Waiting](self._expire, clock)
        # Of all versions together: the limit of calls under way, and their number.
        self.pool, self._flying = Gradient(POOL, clock), 0
        # Lanes that wait for calls of others to end.
        self._held: dict[Lane, None] = {}

    def screen(self, target: Target, deadline: float, priority: Priority = _PLAIN) -> None:
        """Refuses a request before its body is read. Raises overloaded, deadline_exceeded."""
        if (lane := self._lanes.get(target)) is None:
            return
        if lane.gradient.hopeless(1, deadline - self._clock()):
            raise hopeless(target.model)
        line = lane.line
        if line.count >= self._room(lane) and priority >= line.last():
            raise overloaded(target.model)

    async def infer(self, target: Target, item: Item, priority: Priority = _PLAIN) -> list[Tensor]:
        """The outputs for one item. Raises its own Failure, Unloaded, overloaded or deadline_exceeded."""
        lane = self._lane(target)
        if lane.gathering or self._full(lane):
            return await self._answered(lane, item, priority)
        self._refuse_hopeless(lane, item)
        lane.gathering = True
        self._begin(lane)
        try:
            # Those that came in the same turn of the event loop join: an engine that answers on the loop blocks it.
            await asyncio.sleep(0)
            lane.gathering = False
            if not lane.line.count or lane.line.count >= self._room(lane):
                # In the caller's own task: its cancellation cancels no other request.
                return _value((await self._ask(lane, (item,)))[0])
            asked = Awaited()
            waiting = self._enqueue(lane, item, priority, asked)
        finally:
            lane.gathering = False
            self._landed(lane)
        return await self._wait(waiting, asked)

    def submit(self, target: Target, item: Item, receiver: Receiver, priority: Priority = _PLAIN) -> Waiting:
        """The same without a task; what it returns is for `cancel`. Raises overloaded, deadline_exceeded."""
        lane = self._lane(target)
        waiting = self._enqueue(lane, item, priority, receiver)
        if not lane.gathering and not self._full(lane):
            lane.gathering = True
            asyncio.get_running_loop().call_soon(self._gathered, lane)
        return waiting

    def cancel(self, waiting: Waiting) -> None:
        """Ends a request without an answer, and the call that is made for it alone."""
        call = waiting.call
        if self._end(waiting) and call:
            # On the next turn: a task that is cancelled before it has begun ends without what it does at its end.
            asyncio.get_running_loop().call_soon(call.cancel)

    def _gathered(self, lane: Lane) -> None:
        lane.gathering = False
        self._leave(lane)

    def _lane(self, target: Target) -> Lane:
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = Lane(target, Gradient(lanes.VERSION, self._clock))
        return lane

    def _full(self, lane: Lane) -> bool:
        """Whether no call of a lane may begin now: it has enough, or all lanes together have."""
        if self._flying >= self.pool.limit:
            return True
        if lane.flying and lane.busy >= lane.gradient.limit:
            return True
        calls = self._limits.calls
        return lane.flying >= calls and lane.flying >= calls * self._width(lane.target)

    def _room(self, lane: Lane) -> int:
        return min(lane.gradient.limit, self._limits.waiting)

    def _refuse_hopeless(self, lane: Lane, item: Item) -> None:
        if lane.gradient.hopeless(kind(item.rows, 1), item.deadline - self._clock()):
            raise hopeless(lane.target.model)

    def _enqueue(self, lane: Lane, item: Item, priority: Priority, receiver: Receiver) -> Waiting:
        """Lets a request wait. Raises overloaded, deadline_exceeded."""
        now, typical = self._clock(), lane.gradient.typical(kind(item.rows, 1))
        if item.deadline - now < typical:
            self._refuse_hopeless(lane, item)
        size, model = item.size, lane.target.model
        if self._waiting_bytes + size > self._limits.waiting_bytes:
            raise overloaded(model)
        waiting = Waiting(lane, item, size, priority, stale_at(now, typical), receiver)
        if out := lane.line.enter(waiting, self._room(lane)):
            if out is waiting:
                raise overloaded(model)
            self._waiting_bytes -= out.size
            self._refuse((out,), overloaded(model))
        self._waiting_bytes += size
        waiting.moment = self._deadlines.add(waiting, item.deadline)
        if self._flying >= self.pool.limit:
            self._held[lane] = None
        return waiting

    def _leave_line(self, waiting: Waiting) -> None:
        if waiting.lane.line.leave(waiting):
            self._waiting_bytes -= waiting.size

    async def _answered(self, lane: Lane, item: Item, priority: Priority) -> list[Tensor]:
        asked = Awaited()
        return await self._wait(self._enqueue(lane, item, priority, asked), asked)

    async def _wait(self, waiting: Waiting, asked: Awaited) -> list[Tensor]:
        try:
            return await asked.answer
        finally:
            self.cancel(waiting)

    def _end(self, waiting: Waiting) -> Receiver | None:
        """Ends a request; returns its receiver, None when it had ended before."""
        receiver, waiting.receiver, waiting.call = waiting.receiver, None, None
        if receiver:
            self._deadlines.drop(waiting, waiting.moment)
            self._leave_line(waiting)
        return receiver

    def _refuse(self, batch: Iterable[Waiting], error: BaseException) -> None:
        for waiting in batch:
            if receiver := self._end(waiting):
                # On the next turn: a receiver may submit again, while the lane is being changed here.
                asyncio.get_running_loop().call_soon(receiver.failed, error)

    def _expire(self, waiting: Waiting) -> None:
        self._refuse((waiting,), DeadlineExceeded(f"{waiting.lane.target.model} took too long"))

    def _begin(self, lane: Lane) -> None:
        lane.flying += 1
        self._flying += 1

    def _landed(self, lane: Lane) -> None:
        """A call has ended: the next one leaves with all that wait, as far as one call may hold."""
        lane.flying -= 1
        self._flying -= 1
        if not self._held:
            if lane.line.count and not lane.gathering:  # what has come in meanwhile and was not read yet goes along
                lane.gathering = True
                asyncio.get_running_loop().call_soon(self._gathered, lane)
            else:
                self._leave(lane)
            return
        self._held[lane] = None
        while self._held and self._flying < self.pool.limit:
            next_one = min(self._held, key=lambda held: held.line.urgency())
            del self._held[next_one]
            self._leave(next_one)

    def _leave(self, lane: Lane) -> None:
        while surplus := lane.line.surplus(self._room(lane), self._clock()):
            self._refuse((surplus,), overloaded(lane.target.model))
        while lane.line.count and not lane.gathering and not self._full(lane):
            if batch := self._take(lane):
                self._begin(lane)
                task = asyncio.get_running_loop().create_task(self._together(lane, batch))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                if len(batch) == 1:  # no other request ends with this one's cancellation
                    batch[0].call = task
        if lane.line.count and self._flying >= self.pool.limit:
            self._held[lane] = None
        elif not (lane.flying or lane.line.count or lane.gathering) and len(self._lanes) > _LANES:
            self._lanes.pop(lane.target, None)

    def _take(self, lane: Lane) -> list[Waiting]:
        batch: list[Waiting] = []
        size = rows = 0
        limits, line, gradient, now = self._limits, lane.line, lane.gradient, self._clock()
        room, most = self._room(lane), min(limits.items, lane.batch, max(gradient.limit - lane.busy, 1))
        while len(batch) < most and (waiting := line.next(room)):
            item = waiting.item
            if batch and (size + waiting.size > limits.bytes or rows + item.rows > limits.rows):
                break
            self._leave_line(waiting)
            if waiting.receiver is None:  # its caller has gone, or its time is over
                continue
            if gradient.hopeless(kind(item.rows, 1), item.deadline - now):
                self._refuse((waiting,), hopeless(lane.target.model))
                continue
            batch.append(waiting)
            size, rows = size + waiting.size, rows + item.rows
        return batch

    async def _together(self, lane: Lane, batch: Sequence[Waiting]) -> None:
        try:
            await self._answer(lane, batch)
        except asyncio.CancelledError as error:
            self._refuse(batch, error)
            raise
        except Exception as error:
            self._refuse(batch, error)
        finally:
            self._landed(lane)

    async def _answer(self, lane: Lane, batch: Sequence[Waiting]) -> None:
        try:
            answers = await self._ask(lane, [waiting.item for waiting in batch])
        except Failure as failure:
            # What only broke because it was together (an answer larger than a message) is asked for one by one.
            if len(batch) == 1 or failure.code not in (Code.BODY_TOO_LARGE, Code.INTERNAL):
                raise
            for waiting in batch:
                if waiting.receiver is None:  # its caller has gone, or its time is over
                    continue
                try:
                    await self._answer(lane, (waiting,))
                except Exception as error:
                    self._refuse((waiting,), error)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Failure):
                self._refuse((waiting,), answer)
            elif receiver := self._end(waiting):
                receiver.answered(answer)

    async def _ask(self, lane: Lane, items: Sequence[Item]) -> list[Answer]:
        """One call; its duration moves the limits."""
        gradient, began, calls = lane.gradient, self._clock(), self._flying
        lane.busy += len(items)
        busy = lane.busy
        try:
            answers = await self._engines.infer(*lane.target, items)
        except Failure as failure:
            if failure.code is Code.OVERLOADED:
                gradient.refused(began)
            raise
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            # Cancelled below us, as where a connection is closed: requests that still wait must hear of it.
            raise Unavailable(f"the call of {lane.target.model} was cut off", retry_after=1) from None
        finally:
            lane.busy -= len(items)
        slowness = lane.answered(items, began, self._clock(), busy + lane.line.count)
        self.pool.felt(slowness, began, calls)
        return answers


def _value(answer: Answer) -> list[Tensor]:
    if isinstance(answer, Failure):
        raise answer
    return answer
