"""What nobody waits for: done behind the answers that go out in this turn of the event loop."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Deferred:
    """The work of one turn. A transport writes when the turn is over; what is done in it delays all of its answers."""

    def __init__(self) -> None:
        self._due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def add(self, work: Callable[..., None], *said: Any) -> None:
        """Does it on the next turn, in the order in which they come."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._do)
        self._due.append((work, said))

    def _do(self) -> None:
        due, self._due = self._due, []
        for work, said in due:
            try:
                work(*said)
            except Exception:  # what nobody foresaw of one keeps no other from being done
                log.exception("what follows an answer is not done")
