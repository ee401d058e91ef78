"""Notices a consumer that gives nothing any more: one that returns at once again and again, or not at all.

Seen with kafka-python 3.0 on a busy machine: a consumer whose coordinator was lost kept a processor busy, sent no sign
of life and left its group, for as long as the process lived. A new one in its place reads on.
"""

import time
from collections.abc import Callable

STUCK = 30.0  # seconds: a poll asks for a quarter of one
_AT_ONCE = 0.05
_PATIENCE = 10.0


class Circling:
    """Watches the polls of one consumer."""

    def __init__(self, pause: Callable[[float], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`pause` waits some seconds, so that a consumer that does not wait by itself costs little."""
        self._pause, self._clock = pause, clock
        self._since: float | None = None

    def after(self, found: bool, took: float) -> bool:
        """A poll took `took` seconds. True when polls have brought nothing, and at once, for too long."""
        if found or took > _AT_ONCE:
            self._since = None
            return False
        now = self._clock()
        self._since = now if self._since is None else self._since
        self._pause(_AT_ONCE)
        if now - self._since <= _PATIENCE:
            return False
        self._since = None
        return True
