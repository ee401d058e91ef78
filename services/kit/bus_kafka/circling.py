"""Notices a consumer that is broken: it returns at once, keeps a processor busy, never returns, or is not heard of.

Seen with kafka-python 3.0: the leader of a group joins again because partitions came or went, a poll ends before the
join does, and the next one takes the group for joined. From then on polls do not wait, no sign of life is sent, and
the group goes on without it, for as long as the process lives. It may go on to bring what it was given before, so that
what a poll finds says nothing: that it has stopped to send signs of life and wants to join no more does. A new consumer
in its place reads on. One that is just joining sends no signs of life either, and is left alone: it may wait for a
member that was killed, and to leave and to join again would only make that take longer.
"""

import time
from collections.abc import Callable
from typing import Any

STUCK = 30.0  # seconds: a poll asks for a quarter of one
_AT_ONCE = 0.05
_PATIENCE = 10.0
_MUTE = 2.0  # seconds for which a consumer may be so: what joins begins to send them in the same moment
_BUSY, _BUSY_PATIENCE = 0.1, 2.0  # of the time of a poll that waits by itself, a processor is needed for a hundredth


def is_mute(consumer: Any) -> bool:
    """Whether a consumer of a group takes it for joined and sends no signs of life."""
    coordinator = consumer._coordinator
    return not coordinator._heartbeat_enabled and not coordinator.need_rejoin()


class Circling:
    """Watches the polls of one consumer."""

    def __init__(self, pause: Callable[[float], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`pause` waits some seconds, so that a consumer that does not wait by itself costs little."""
        self._pause, self._clock = pause, clock
        self._since: float | None = None
        self._busy = 0.0
        self._mute: float | None = None

    def silent(self, mute: bool) -> bool:
        """Whether the consumer is mute behind a poll, also one that found something. True when it is for too long."""
        now = self._clock()
        self._mute = (now if self._mute is None else self._mute) if mute else None
        if self._mute is None or now - self._mute <= _MUTE:
            return False
        self._mute = None
        return True

    def after(self, found: bool, took: float, worked: float = 0.0) -> bool:
        """A poll took `took` seconds, of which its thread worked for some. True when polls have brought nothing for too
        long without waiting for it."""
        if found:
            self._since, self._busy = None, 0.0
            return False
        self._busy = self._busy + took if worked > _BUSY * took else 0.0
        if self._busy > _BUSY_PATIENCE:
            self._busy = 0.0
            return True
        if took > _AT_ONCE:
            self._since = None
            return False
        now = self._clock()
        self._since = now if self._since is None else self._since
        self._pause(_AT_ONCE)
        if now - self._since <= _PATIENCE:
            return False
        self._since = None
        return True
