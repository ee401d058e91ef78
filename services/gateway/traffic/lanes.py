"""Where requests for one version wait, and how long its calls take."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.gateway.overload.gradient import TOLERANCE, Bounds, Gradient
from services.gateway.overload.line import Line
from services.gateway.overload.priority import Priority
from services.gateway.traffic.engines import Item
from services.kit.auth import Scope
from services.kit.tensors import Tensor

# Requests of one version.
VERSION = Bounds(least=4, most=2_000, start=256, quick=0.01)
_BATCH = 32
# Share of the time per request in a call of half the size, below which the larger call is worth it.
_WORTH = 0.8
_DOWN, _UP = 0.5, 0.02  # weight of a new measurement that is lower, or higher
_CALLS = 2  # calls of the size that is worth it, that may always be under way
# Calls of all versions.
POOL = Bounds(least=16, most=1_000, start=64, quick=0.01)


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
    # What may wait at most: requests of one version, bytes of all.
    waiting: int = 2_000
    waiting_bytes: int = 128 * 2**20


class Receiver(Protocol):
    """Gets the answer to a request, by one call of one of its methods. Reference cycles are broken by then."""

    def answered(self, outputs: list[Tensor]) -> None:
        """The outputs are there. Raises nothing."""

    def failed(self, error: BaseException) -> None:
        """They will not come."""


class Awaited:
    """A receiver whose answer a task awaits."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[list[Tensor]] = asyncio.get_running_loop().create_future()

    def answered(self, outputs: list[Tensor]) -> None:
        if not self.answer.done():
            self.answer.set_result(outputs)

    def failed(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.answer.cancel()
        elif not self.answer.done():
            self.answer.set_exception(error)


class Waiting:
    """A request that waits for a call."""

    __slots__ = ("call", "item", "lane", "moment", "priority", "receiver", "size", "stale_at")

    def __init__(
        self, lane: "Lane", item: Item, size: int, priority: Priority, stale_at: float, receiver: Receiver
    ) -> None:
        self.lane, self.item, self.size, self.priority, self.stale_at = lane, item, size, priority, stale_at
        # None: it has ended, and the receiver knows.
        self.receiver: Receiver | None = receiver
        # The call that is made for it alone.
        self.call: asyncio.Task[None] | None = None
        # The tick of its deadline, by which `Deadlines` drops it.
        self.moment = 0


class Lane:
    """The requests for one version."""

    __slots__ = ("_each", "batch", "busy", "flying", "gathering", "gradient", "line", "target")

    def __init__(self, target: Target, gradient: Gradient) -> None:
        self.target, self.gradient = target, gradient
        # Calls under way, and the requests in them.
        self.flying = self.busy = 0
        # A call is about to leave: requests that come now join it.
        self.gathering = False
        self.line: Line[Waiting] = Line()
        # Requests that one call may hold: it grows while large calls take no longer than small ones.
        self.batch = _BATCH
        # Seconds of one request in calls of 1, 2 to 3, 4 to 7 ... requests; 0: not known.
        self._each = [0.0] * 12

    def answered(self, items: Sequence[Item], began: float, now: float, busy: int) -> float:
        """Takes in a call that was answered; returns how many times as long as usual it took."""
        many = len(items)
        slowness = self.gradient.ended(kind(sum([item.rows for item in items]), many), began, busy)
        seconds = now - began
        if slowness <= TOLERANCE and 2 * many >= self.batch:
            self.batch *= 2
        self._weigh(many, seconds / many)
        return slowness

    def _weigh(self, many: int, each: float) -> None:
        """Raises the floor of the limit where large calls cost little more than small ones."""
        size, known = min(many.bit_length(), len(self._each)) - 1, self._each
        # What a call takes behind others says little of its size, so it goes up slowly.
        share = _DOWN if each < known[size] else _UP
        known[size] += (each - known[size]) * (share if known[size] else 1.0)
        best = 0
        for larger in range(1, len(known)):
            if known[larger] and known[best] and known[larger] <= known[best] * _WORTH ** (larger - best):
                best = larger
        self.gradient.floor = max(self.gradient.bounds.least, _CALLS << best if best else 0)


def kind(rows: int, items: int) -> int:
    """What calls are compared by: the size of their requests, not the number."""
    return (rows // items).bit_length()
