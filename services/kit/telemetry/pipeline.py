"""From records and spans to the bus: bounded queues, one thread that encodes, one task that publishes."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from services.kit.auth import SYSTEM
from services.kit.bus import Bus, Event
from services.kit.event import TELEMETRY
from services.kit.pace import Pace
from services.kit.tasks import cancel, keep_running
from services.kit.telemetry import metrics, spans
from services.kit.telemetry.collector import Collector
from services.kit.telemetry.files import ToRecords, process_log
from services.kit.telemetry.otlp import logs, logs_with_tables, request, resource, traces
from services.kit.telemetry.otlp_metrics import collector_metrics, encode_metrics
from services.kit.telemetry.records import Record
from services.kit.telemetry.spans import Span
from services.kit.telemetry.unsent import Unsent
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
_BOUND = 20_000  # records, and spans
_HELD = 64 * 2**20  # bytes of queued records
_BATCH, _BATCH_BYTES = 1_000, 2 * 2**20
_EVERY, _STEADY = 0.2, 0.5  # seconds between batches, and under steady load: each batch has a high fixed cost
_METRICS_EVERY = 60.0
_LAST = 2.0  # seconds that a stop waits for the bus, and for a collector


class Telemetry:
    """A process's telemetry: created early, so that nothing is missed, and started once there is a bus."""

    def __init__(self, process: str, home: Path, level: str = "INFO") -> None:
        """Log records go to `<home>/logs/<process>.log` as JSON lines, rotated at 64 MiB."""
        self._records: deque[Record] = deque()
        self._spans: deque[Span] = deque()
        self._unsent = Unsent(self._drop)
        self._held = 0
        self.dropped = 0
        self._bus: Bus | None = None
        self._collector: Collector | None = None
        self._task: asyncio.Task[None] | None = None
        self._publishing = asyncio.Lock()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="telemetry")
        self.process, self._measured = process, time.monotonic()
        self._resource = resource({"service.name": process})
        self._handlers: list[logging.Handler] = [process_log(home / "logs", process), ToRecords(self.record)]
        root = logging.getLogger("services")
        root.setLevel(level)
        for handler in self._handlers:
            root.addHandler(handler)
        self._sink = self._ended  # one object, so that `close` can compare: another process may have taken its place
        spans.set_sink(self._sink)

    def record(self, record: Record) -> None:
        """Adds a record; drops and counts it when the queue is full."""
        if len(self._records) >= _BOUND or self._held > _HELD:
            self._drop("record", 1)
        else:
            self._held += record.size
            self._records.append(record)

    def _ended(self, span: Span) -> None:
        if len(self._spans) >= _BOUND:
            self._drop("span", 1)
        else:
            self._spans.append(span)

    def _drop(self, kind: str, count: int) -> None:
        self.dropped += count
        metrics.dropped.labels(kind).inc(count)

    def start(self, bus: Bus, collector: Collector | None = None) -> None:
        """Starts to publish, and to export to a collector."""
        self._bus, self._collector = bus, collector
        if collector:
            collector.start()
        self._task = asyncio.get_running_loop().create_task(keep_running(self._publish_for_ever))

    async def flush(self) -> None:
        """Publishes what is queued now, not what comes meanwhile: that would make many small batches."""
        async with self._publishing:
            due = len(self._records) + len(self._spans)
            while self._bus and (due > 0 or self._unsent):
                due -= await self._encode_next()
                if not await self._unsent.send(self._bus):
                    return

    async def _encode_next(self) -> int:
        """Encodes the oldest records and spans as events; returns how many."""
        records = self._take()
        if records:
            await self._add("logs", partial(self._encode_records, records))
        ended = [self._spans.popleft() for _ in range(min(len(self._spans), _BATCH))]
        if ended:
            await self._add("traces", partial(self._encode_spans, ended))
        metrics.waiting.labels("record").set(len(self._records))
        metrics.waiting.labels("span").set(len(self._spans))
        return len(records) + len(ended)

    def _take(self) -> list[Record]:
        taken: list[Record] = []
        size = 0
        while self._records and len(taken) < _BATCH and size < _BATCH_BYTES:
            record = self._records.popleft()
            size += record.size
            taken.append(record)
        self._held -= size
        return taken

    async def _add(self, signal: str, encode: Callable[[], tuple[bytes, bytes]]) -> None:
        """Queues what `encode`, in the thread, makes: a request for the log centre, and one for the collector."""
        body, copy = await asyncio.get_running_loop().run_in_executor(self._encoder, encode)
        self._unsent.add(_event(body, signal))
        if copy and self._collector:
            self._collector.add(signal, copy)

    def _encode_records(self, records: list[Record]) -> tuple[bytes, bytes]:
        metrics.observe_predictions(records)
        return request(logs_with_tables(records)), self._copy("logs", lambda: logs(records))

    def _encode_spans(self, ended: list[Span]) -> tuple[bytes, bytes]:
        metrics.observe(ended)
        content = traces(ended)
        return request(content, self._resource), self._copy("traces", lambda: content)

    def _encode_metrics(self) -> tuple[bytes, bytes]:
        body = encode_metrics(metrics.REGISTRY.collect(), self.process)
        return body, self._copy("metrics", lambda: collector_metrics(metrics.REGISTRY.collect()))

    def _copy(self, signal: str, content: Callable[[], bytes]) -> bytes:
        """A request for the collector; empty if it does not want the signal."""
        if self._collector is None or not self._collector.wants(signal):
            return b""
        return request(content(), self._collector.resource)

    async def measure(self) -> None:
        """Publishes the present values of all metrics."""
        await self._add("metrics", self._encode_metrics)
        await self.flush()

    async def _publish_for_ever(self) -> None:
        pace = Pace(_STEADY)
        while True:
            await asyncio.sleep(_EVERY)
            try:
                if 0 < len(self._records) + len(self._spans) < _BATCH:
                    await pace.wait()
                await self.flush()
                if time.monotonic() - self._measured > _METRICS_EVERY:
                    self._measured = time.monotonic()
                    await self.measure()
            except Exception:  # a record that cannot be encoded must not end all telemetry
                self._drop("batch", 1)
                log.exception("a batch of telemetry is lost")

    async def close(self) -> None:
        """Publishes the rest and removes the log handlers."""
        for handler in self._handlers:
            logging.getLogger("services").removeHandler(handler)
            handler.close()
        if spans.sink() is self._sink:
            spans.set_sink(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                await self.flush()  # after the one in progress, whose batch would be lost if it were cancelled
        await cancel(self._task)
        if self._collector:
            await self._collector.close(_LAST)
        self._encoder.shutdown()


def _event(body: bytes, signal: str) -> Event:
    package = "trace" if signal == "traces" else signal
    kind = f"opentelemetry.proto.collector.{package}.v1.Export{package.capitalize()}ServiceRequest"
    headers = {"ce_specversion": "1.0", "ce_id": uuid7(), "ce_type": kind, "ce_source": "telemetry", "tenant": SYSTEM}
    return Event(TELEMETRY, headers["ce_id"], body, headers)  # a key of its own: batches have no order
