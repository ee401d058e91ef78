"""Telemetry for an operator's own collector, beside the log centre.

A collector that is slow, away or wrong costs a bounded queue and nothing else: what does not fit is counted and
dropped, the oldest first, and no request and no stop waits for it.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from services.kit.tasks import cancel
from services.kit.telemetry import metrics

log = logging.getLogger(__name__)
_HELD = 16 * 2**20  # bytes of batches that wait, of each signal
_SHORTEST, _LONGEST = 1.0, 30.0  # seconds until a batch is sent again


class Away(Exception):
    """The collector may take the batch later: after `seconds`, if it says when."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        super().__init__(why)
        self.seconds = seconds


class Refused(Exception):
    """The collector will never take the batch."""


class Transport(Protocol):
    """The way to one collector for one signal."""

    async def send(self, body: bytes) -> int:
        """Sends one batch; returns how many of its parts the collector did not want. Raises Away, Refused."""

    async def close(self) -> None: ...


class Line:
    """What waits for one transport."""

    def __init__(self, signal: str, transport: Transport) -> None:
        self._signal, self._transport = signal, transport
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._news, self._still = asyncio.Event(), asyncio.Event()
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to send."""
        self._task = asyncio.get_running_loop().create_task(self._send_for_ever())

    def add(self, body: bytes) -> None:
        """Adds a batch; the oldest ones make room for it."""
        self._waiting.append(body)
        self._held += len(body)
        while self._held > _HELD and len(self._waiting) > 1:
            self._held -= len(self._waiting.popleft())
            metrics.dropped.labels("collector").inc()
        self._news.set()
        if not self._away:
            self._still.clear()

    async def _send_for_ever(self) -> None:
        pause = _SHORTEST
        while True:
            while self._waiting:
                body = self._waiting[0]
                seconds = await self._send(body)
                if seconds is None:
                    pause = _SHORTEST
                    if self._waiting and self._waiting[0] is body:  # others may have pushed it out meanwhile
                        self._held -= len(self._waiting.popleft())
                else:
                    await asyncio.sleep(max(seconds, pause * random.uniform(0.8, 1.2)))
                    pause = min(pause * 2, _LONGEST)
            self._still.set()
            self._news.clear()
            await self._news.wait()

    async def _send(self, body: bytes) -> float | None:
        """None when the batch is done with; else for how long the collector wants to be left alone."""
        try:
            unwanted = await self._transport.send(body)
        except Away as away:
            if not self._away:
                log.warning("%s wait for the collector: %s", self._signal, away)
            self._away = True
            self._still.set()
            return min(away.seconds, _LONGEST)
        except Refused as refused:
            log.warning("the collector does not take %s: %s", self._signal, refused)
            metrics.dropped.labels("collector").inc()
        except Exception:  # what nobody foresaw must not be the last batch
            log.exception("a batch of %s is lost", self._signal)
            metrics.dropped.labels("collector").inc()
        else:
            metrics.dropped.labels("collector").inc(unwanted)
            if self._away:
                log.warning("the collector takes %s again", self._signal)
        self._away = False
        return None

    async def close(self, seconds: float) -> None:
        """Lets what waits go out within some seconds; a collector that is away is not waited for."""
        if not self._task:
            return
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._still.wait()
        await cancel(self._task)
        if self._waiting:
            metrics.dropped.labels("collector").inc(len(self._waiting))
        await self._transport.close()


class Collector:
    """Where the batches of a process go; a signal without a transport goes nowhere."""

    def __init__(self, transports: Mapping[str, Transport], resource: bytes) -> None:
        """Transports by signal; `resource` says, encoded, what the process is."""
        self.resource = resource
        self._lines = {signal: Line(signal, transport) for signal, transport in transports.items()}

    def wants(self, signal: str) -> bool:
        """Whether batches of a signal go anywhere."""
        return signal in self._lines

    def start(self) -> None:
        """Begins to send."""
        for line in self._lines.values():
            line.start()

    def add(self, signal: str, body: bytes) -> None:
        """Adds an encoded request of a signal that is wanted; never waits."""
        self._lines[signal].add(body)

    async def close(self, seconds: float) -> None:
        """Lets what waits go out within some seconds."""
        await asyncio.gather(*(line.close(seconds) for line in self._lines.values()))
