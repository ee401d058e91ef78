"""Work that is deferred until the answers of this turn of the event loop are written."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Deferred:
    """Runs work on the next turn. A transport writes when a turn is over: work within it would delay its answers."""

    def __init__(self) -> None:
        self._due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def add(self, work: Callable[..., None], *arguments: Any) -> None:
        """Runs `work` on the next turn, in the order of the calls."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._do)
        self._due.append((work, arguments))

    def _do(self) -> None:
        due, self._due = self._due, []
        for work, arguments in due:
            try:
                work(*arguments)
            except Exception:  # a bug in one must not keep the others from running
                log.exception("deferred work failed")
