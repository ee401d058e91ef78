"""Threads that answer calls beside the event loop, with a bounded queue."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from services.inference.domain.batches import Answer, Item
from services.inference.engine import Calls
from services.kit.errors import Code, DeadlineExceeded, Failure


class Threads:
    """Answers `count` calls at a time, lets `queue` wait."""

    def __init__(self, count: int, queue: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="engine")
        self.count, self._most, self._calls = count, count + queue, 0

    @property
    def full(self) -> bool:
        return self._calls >= self._most

    async def answer(
        self, calls: Calls, work: Callable[[Sequence[Item]], list[Answer]], items: Sequence[Item]
    ) -> list[Answer]:
        """What `work` answers, or deadline_exceeded for each when it takes longer than any item's time."""
        self._calls += 1
        calls.enter()
        call = asyncio.get_running_loop().run_in_executor(self._pool, work, items)
        call.add_done_callback(lambda _: self._done(calls))
        try:
            async with asyncio.timeout(max(item.deadline for item in items) - time.monotonic()):
                # The thread goes on when the caller gives up; what is counted as in flight must be what is.
                return await asyncio.shield(call)
        except TimeoutError:
            return [DeadlineExceeded("the model took too long")] * len(items)

    def check(self) -> None:
        """Raises overloaded when no more calls may wait."""
        if self.full:
            raise Failure(Code.OVERLOADED, "too many calls wait for an engine", retry_after=0.1)

    def close(self) -> None:
        """Waits for the calls that are being answered."""
        self._pool.shutdown(cancel_futures=True)

    def _done(self, calls: Calls) -> None:
        self._calls -= 1
        calls.leave()
