"""Detects a broken consumer: its polls return at once, spin, never return, or it sends no heartbeats.

Seen with kafka-python 3.0: the leader of a group rejoins because partitions were added or removed, a poll ends before
the rejoin does, and the next one takes the group for joined. From then on polls do not wait, no heartbeats are sent,
and the group goes on without this member, for as long as the process lives. Polls may still return records that were
fetched before, so they prove nothing; heartbeats that are off in a consumer that does not rejoin do. A new consumer
reads on. One that is rejoining sends no heartbeats either and is left alone: it may be waiting for a member that was
killed, and leaving would only make that take longer.
"""

import time
from collections.abc import Callable
from typing import Any

STUCK = 30.0  # seconds without an answer; a poll waits for a quarter of a second
_AT_ONCE = 0.05  # seconds: a poll that took no longer has not waited
_PATIENCE = 10.0  # seconds of polls that do not wait
_MUTE = 2.0  # seconds without heartbeats; a member that has joined sends them at once
_BUSY, _BUSY_PATIENCE = 0.1, 2.0  # share of CPU time, and seconds of it; a poll that waits needs a hundredth


def is_mute(consumer: Any) -> bool:
    """Whether a consumer takes its group for joined and yet sends no heartbeats."""
    coordinator = consumer._coordinator
    return not coordinator._heartbeat_enabled and not coordinator.need_rejoin()


class Circling:
    """Watches the polls of one consumer."""

    def __init__(self, pause: Callable[[float], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`pause` waits some seconds: between polls that do not wait themselves."""
        self._pause, self._clock = pause, clock
        self._since: float | None = None
        self._busy = 0.0
        self._mute: float | None = None

    def silent(self, mute: bool) -> bool:
        """Call after each poll with `is_mute`. True when that has held for too long."""
        now = self._clock()
        self._mute = (now if self._mute is None else self._mute) if mute else None
        if self._mute is None or now - self._mute <= _MUTE:
            return False
        self._mute = None
        return True

    def after(self, found: bool, took: float, worked: float = 0.0) -> bool:
        """Call after each poll: it took `took` seconds, `worked` of them on the CPU.

        True when polls have found nothing for too long without waiting.
        """
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
