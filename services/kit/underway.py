"""The calls that a door answers, so that it can close: those that would not end by themselves are ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from services.kit.errors import Unavailable

_QUIET = 1.0  # seconds in which a stream has said nothing: it waits for news and may as well wait elsewhere
_MARGIN = 0.5  # seconds before the end of all patience in which every call is told so
_TICK = 0.1


class Underway:
    """Calls of one door. One that the transport cuts is lost; one that is ended here is told when to retry."""

    def __init__(self) -> None:
        # What each task has waited for its service since, and whether it has more to say afterwards.
        self._waiting: dict[asyncio.Task[Any], tuple[float, bool]] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        # When the last call began, on the monotonic clock.
        self.latest = 0.0

    @contextlib.contextmanager
    def waiting(self, stream: bool = False) -> Iterator[None]:
        """Around the time in which a call waits for its service. Raises unavailable when it was ended."""
        task = asyncio.current_task()
        assert task
        self.latest = time.monotonic()
        self._waiting[task] = self.latest, stream
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise Unavailable("the service is stopping: call again", retry_after=0.5) from None
        finally:
            self._waiting.pop(task, None)
            self._ended.discard(task)

    async def each(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """A stream's items. Raises unavailable when it was ended."""
        while True:
            with self.waiting(stream=True):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item

    async def end(self, grace: float, stopping: asyncio.Future[Any]) -> None:
        """Until the server has stopped: ends streams that are quiet, and before `grace` seconds are over every call."""
        last = time.monotonic() + grace - min(_MARGIN, grace / 2)
        while not stopping.done():
            now = time.monotonic()
            for task, (since, stream) in list(self._waiting.items()):
                if task not in self._ended and (now >= last or (stream and now - since >= _QUIET)):
                    self._ended.add(task)
                    task.cancel()
            await asyncio.wait({stopping}, timeout=_TICK)
