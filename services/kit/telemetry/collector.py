"""Export of telemetry to an operator's own collector, beside the log centre.

A collector that is slow, away or faulty costs a bounded queue and nothing else: the oldest batches are dropped and
counted, and no request waits for it.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from services.kit.tasks import cancel, keep_running
from services.kit.telemetry import metrics

log = logging.getLogger(__name__)
_HELD = 16 * 2**20  # bytes of queued batches, of each signal
_SHORTEST, _LONGEST = 1.0, 30.0  # seconds until a batch is retried


class Away(Exception):
    """The batch may be retried: after `seconds`, if the collector says when."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        super().__init__(why)
        self.seconds = seconds


class Refused(Exception):
    """The collector rejects the batch for good."""


class Transport(Protocol):
    """A connection to a collector for one signal."""

    async def send(self, body: bytes) -> int:
        """Sends one batch; returns how many of its items the collector rejected. Raises Away, Refused."""

    async def close(self) -> None: ...


class Exporter:
    """The queue in front of one transport."""

    def __init__(self, signal: str, transport: Transport) -> None:
        self._signal, self._transport = signal, transport
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._news, self._still = asyncio.Event(), asyncio.Event()
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts to send."""
        self._task = asyncio.get_running_loop().create_task(keep_running(self._send_for_ever))

    def add(self, body: bytes) -> None:
        """Queues a batch; drops the oldest ones to make room for it."""
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
                    if self._waiting and self._waiting[0] is body:  # `add` may have dropped it meanwhile
                        self._held -= len(self._waiting.popleft())
                else:
                    await asyncio.sleep(max(seconds, pause * random.uniform(0.8, 1.2)))
                    pause = min(pause * 2, _LONGEST)
            self._still.set()
            self._news.clear()
            await self._news.wait()

    async def _send(self, body: bytes) -> float | None:
        """None when the batch was sent or is lost; else the seconds until the collector wants it again."""
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
        except Exception:  # a bug must not end the export
            log.exception("a batch of %s is lost", self._signal)
            metrics.dropped.labels("collector").inc()
        else:
            metrics.dropped.labels("collector").inc(unwanted)
            if self._away:
                log.warning("the collector takes %s again", self._signal)
        self._away = False
        return None

    async def close(self, seconds: float) -> None:
        """Sends what is queued, for at most `seconds`; does not wait for a collector that is away."""
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
    """The exporters of a process, by signal."""

    def __init__(self, transports: Mapping[str, Transport], resource: bytes) -> None:
        """Transports by signal; `resource` is the encoded resource of the process."""
        self.resource = resource
        self._exporters = {signal: Exporter(signal, transport) for signal, transport in transports.items()}

    def wants(self, signal: str) -> bool:
        """Whether a signal is exported."""
        return signal in self._exporters

    def start(self) -> None:
        """Starts to send."""
        for exporter in self._exporters.values():
            exporter.start()

    def add(self, signal: str, body: bytes) -> None:
        """Queues an encoded request of a signal that is exported; never waits."""
        self._exporters[signal].add(body)

    async def close(self, seconds: float) -> None:
        """Sends what is queued, for at most `seconds`."""
        await asyncio.gather(*(exporter.close(seconds) for exporter in self._exporters.values()))
