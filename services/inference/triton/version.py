"""A version on a Triton server: calls of it, together as far as one call may hold, each within its time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from services.inference.domain import batches
from services.inference.domain.batches import Answer, Batch, Item
from services.inference.domain.engines import Released
from services.inference.domain.tensors import Signature, Values
from services.inference.engine import Calls
from services.inference.triton.configuration import shape_here, shape_there
from services.inference.triton.server import Broken, Gone, Refused, Server
from services.kit.breaker import Breaker, Outcome
from services.kit.errors import Code, DeadlineExceeded, Failure, Unavailable

T = TypeVar("T")
_PATIENCE = 1.0  # seconds within which any server should have answered
_Call = Callable[[Sequence[Values], Sequence[str], float], Coroutine[Any, Any, list[Values]]]


@dataclass(frozen=True)
class Placed:
    """How a version lies on the server. `rows` of one call; 0: no bound, and Triton puts no requests together."""

    signature: Signature
    rows: int
    digest: str


class Keeper(Protocol):
    """What keeps versions on the server."""

    def enter(self) -> None:
        """A call begins. Raises overloaded."""

    def leave(self) -> None:
        """A call has ended."""

    def lost(self) -> None:
        """A call did not get through."""

    async def heal(self, version: "TritonVersion", broken: bool) -> None:
        """Brings a version back that the server has lost, or has but cannot run. Raises unavailable."""

    async def drop(self, version: "TritonVersion") -> None:
        """Lets the server forget a version, unless another instance needs it."""


class TritonVersion:
    """An engine."""

    def __init__(
        self, name: str, released: Released, read: Callable[[], Awaitable[bytes]], server: Server, keeper: Keeper
    ) -> None:
        self.name, self.released, self.read = name, released, read
        self.calls, self.up = Calls(), False
        self.placed = Placed(released.signature, 0, "")
        self._server, self._keeper, self._breaker = server, keeper, Breaker()

    @property
    def signature(self) -> Signature:
        return self.placed.signature

    async def infer(self, items: Sequence[Item]) -> list[Answer]:
        if not self.up or not self._breaker.admits():
            raise Unavailable("the model's engine is away", retry_after=1)
        self._keeper.enter()
        self.calls.enter()
        try:
            answers, planned = batches.plan(self.signature, items, time.monotonic())
            if len(planned) == 1:
                await self._answer(planned[0], items, answers)
            else:
                await _all(self._answer(batch, items, answers) for batch in planned)
            return answers
        finally:
            self.calls.leave()
            self._keeper.leave()

    def set(self, up: bool) -> None:
        """Whether it is there; one that came back need not wait for the end of its breaker's time."""
        self.up = up
        if up:
            self._breaker.retry_soon()

    async def close(self) -> None:
        await self._keeper.drop(self)

    async def _answer(self, batch: Batch, items: Sequence[Item], answers: list[Answer]) -> None:
        deadline = max([items[part.place].deadline for part in batch.parts])
        try:
            batch.take(await self.run(batch.inputs, batch.outputs, deadline), answers)
        except DeadlineExceeded as failure:
            batch.refuse(failure, answers)
        except (Refused, ValueError) as error:
            if len(batch.parts) == 1:
                batch.refuse(batches.refused(error), answers)
                return
            # One of them has values that the graph refuses: alone, only that one fails.
            await _all(self._answer(single, items, answers) for single in batch.alone())
        except Failure as failure:
            if failure.code is not Code.BODY_TOO_LARGE:
                raise
            batch.refuse(failure, answers)

    async def run(self, inputs: Sequence[Values], outputs: Sequence[str], deadline: float) -> list[Values]:
        """Values by input in the order of the signature -> those of the named outputs. Heals what the server has lost.

        Raises Refused, unavailable, deadline_exceeded.
        """
        return await self._split(self._call, inputs, outputs, deadline)

    async def attempt(self, inputs: Sequence[Values], outputs: Sequence[str], deadline: float) -> list[Values]:
        """The same of a version that is about to be healed."""
        try:
            return await self._split(self._ask, inputs, outputs, deadline)
        except Gone:
            raise Unavailable("the model's engine is away", retry_after=1) from None

    async def _split(
        self, call: _Call, inputs: Sequence[Values], outputs: Sequence[str], deadline: float
    ) -> list[Values]:
        """Rows that are too many for one call in several."""
        most, rows = self.placed.rows, inputs[0].shape[0] if inputs and inputs[0].shape else 1
        if not most or rows <= most:
            return await call(inputs, outputs, deadline)
        cuts = [(first, min(first + most, rows)) for first in range(0, rows, most)]
        calls = [call([batches.cut(value, *ends) for value in inputs], outputs, deadline) for ends in cuts]
        return [batches.join(parts) for parts in zip(*await _all(calls), strict=True)]

    async def _call(self, inputs: Sequence[Values], outputs: Sequence[str], deadline: float) -> list[Values]:
        try:
            return await self._ask(inputs, outputs, deadline)
        except Gone as gone:
            broken = isinstance(gone, Broken)
        # The server was restarted, or the version was removed: a prediction has no effect, so it is repeated.
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._keeper.heal(self, broken)
            return await self._ask(inputs, outputs, deadline)
        except TimeoutError:
            raise DeadlineExceeded("the model took too long") from None
        except Gone:  # also while it is healed: a server that stops or starts says that it is not ready
            raise Unavailable("the model's engine is away", retry_after=1) from None

    async def _ask(self, inputs: Sequence[Values], outputs: Sequence[str], deadline: float) -> list[Values]:
        joins = self.placed.rows > 0
        given = [
            (spec.name, value._replace(shape=shape_there(value.shape, joins)))
            for spec, value in zip(self.signature.inputs, inputs, strict=True)
        ]
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the model took too long")
        found = await self._observed(left, self._server.infer(self.name, given, outputs, left))
        specs = {spec.name: spec for spec in self.signature.outputs}
        return [found[name]._replace(shape=shape_here(specs[name], found[name].shape)) for name in outputs]

    async def _observed(self, left: float, call: Coroutine[Any, Any, dict[str, Values]]) -> dict[str, Values]:
        """What a call gives; how it ended is told to the breaker."""
        ticket, outcome = self._breaker.begin(), Outcome.UNKNOWN
        try:
            found = await call
            outcome = Outcome.WELL
            return found
        except (Refused, Gone):
            outcome = Outcome.WELL
            raise
        except Unavailable:
            outcome = Outcome.LOST
            self._keeper.lost()
            raise
        except Failure as failure:
            # What had little time says nothing of the server.
            if failure.code is Code.INTERNAL or (failure.code is Code.DEADLINE_EXCEEDED and left > _PATIENCE):
                outcome = Outcome.BADLY
            raise
        finally:
            self._breaker.end(ticket, outcome)


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each gives. The first failure ends the others and is raised when none of them is under way any more."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]
