"""Port: what runs models."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from services.inference.domain.batches import Answer, Item
from services.inference.domain.engines import Released
from services.inference.domain.tensors import Signature


class Calls:
    """How many calls of an engine are under way. Used on the event loop only."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def enter(self) -> None:
        """A call begins."""
        self.count += 1
        self._none.clear()

    def leave(self) -> None:
        """A call has ended."""
        self.count -= 1
        if not self.count:
            self._none.set()

    async def ended(self) -> None:
        """Returns when none is under way."""
        await self._none.wait()


class Engine(Protocol):
    """A loaded version, warmed up."""

    calls: Calls
    # Whether it can answer; calls of one that cannot fail at once.
    up: bool

    @property
    def signature(self) -> Signature:
        """What was found when it was loaded; `batch_invariant` holds where it runs."""

    async def infer(self, items: Sequence[Item]) -> list[Answer]:
        """An answer for each item, in their order. Raises overloaded, or unavailable when it cannot answer now."""

    async def close(self) -> None:
        """Lets go of the version; nothing is under way."""


class Loader(Protocol):
    """Makes engines."""

    # Whether what runs them can be reached.
    up: bool

    async def load(self, name: str, released: Released, read: Callable[[], Awaitable[bytes]]) -> Engine:
        """An engine for a version whose name is unique in the installation; `read` gives its graph.

        Raises Failure with the reason when it cannot serve, unavailable when that may be different soon.
        """

    async def changed(self) -> Sequence[Engine]:
        """Waits until engines went down or came up again, and says which."""

    async def watch(self) -> None:
        """Looks for ever after what runs them."""

    async def close(self) -> None:
        """Waits for what is under way."""
