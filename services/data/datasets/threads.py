"""Threads that work on files of this machine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from services.kit.disk import on_disk

T = TypeVar("T")
_COUNT = 2


class FileThreads:
    """A few of them, so that the event loop waits for no disk."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_COUNT, thread_name_prefix="tables")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """What the work returns. Raises what it raises; storage_full when the disk is."""
        with on_disk():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def close(self) -> None:
        """Waits for what runs."""
        self._threads.shutdown()
