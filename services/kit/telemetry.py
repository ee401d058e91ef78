"""What a process tells of itself: spans, log records and predictions, as OTLP batches on a topic and in files.

Nothing here blocks a request: records wait in bounded queues, and what does not fit is counted and dropped.
"""

import asyncio
import contextlib
import json
import logging
import logging.handlers
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, use_span

from services.kit.auth import SYSTEM, Scope
from services.kit.bus import TELEMETRY, Bus, Event
from services.kit.errors import Failure
from services.kit.timestamps import uuid7

_BOUND = 20_000
_BATCH = 1_000
_EVERY = 0.2  # seconds
_SEVERITY = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
_QUIET = ("services.logs", "services.kit.telemetry", "services.kit.bus")  # the log centre does not log its own ingest
_tracer: trace.Tracer = trace.NoOpTracer()
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One log record or prediction. `attributes` hold strings and numbers; `scope` says whose it is."""

    kind: str
    name: str
    text: str
    scope: Scope
    attributes: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "INFO"
    service: str = ""
    trace: str = ""  # a traceparent
    time_ns: int = field(default_factory=time.time_ns)


class Telemetry:
    """A process's telemetry: made early so that nothing is missed, started when there is a bus."""

    def __init__(self, process: str, home: Path, level: str = "INFO") -> None:
        """Log records go to `<home>/logs/<process>.log` as JSON lines, rotated at 64 MiB."""
        self._waiting: deque[Record] = deque()
        self._spans: deque[bytes] = deque()
        self.dropped = 0
        self._bus: Bus | None = None
        self._task: asyncio.Task[None] | None = None
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="telemetry")
        self._process = process
        folder = home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(folder / f"{process}.log", maxBytes=64 * 2**20, backupCount=3)
        file.setFormatter(_JsonLines())
        self._handlers: list[logging.Handler] = [file, _ToRecords(self)]
        self._provider = TracerProvider(resource=Resource({"service.name": process}))
        self._provider.add_span_processor(
            BatchSpanProcessor(_Exporter(self), schedule_delay_millis=int(_EVERY * 1000), max_queue_size=_BOUND)
        )
        root = logging.getLogger("services")
        root.setLevel(level)
        for handler in self._handlers:
            root.addHandler(handler)
        global _tracer
        _tracer = self._provider.get_tracer("aimass")

    def record(self, record: Record) -> None:
        """Adds a record; drops and counts it when the queue is full."""
        if len(self._waiting) >= _BOUND:
            self.dropped += 1
        else:
            self._waiting.append(record)

    def export(self, spans: bytes) -> None:
        """Adds an encoded batch of spans; called by the span processor's thread."""
        if len(self._spans) < 100:
            self._spans.append(spans)

    def start(self, bus: Bus) -> None:
        """Begins to publish."""
        self._bus = bus
        self._task = asyncio.get_running_loop().create_task(self._publish_for_ever())

    async def flush(self) -> None:
        """Publishes what waits."""
        loop = asyncio.get_running_loop()
        while self._bus and (self._waiting or self._spans):
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            events = [_event(self._spans.popleft(), "trace") for _ in range(len(self._spans))]
            if batch:
                events.append(_event(await loop.run_in_executor(self._encoder, encode, batch), "logs"))
            try:
                await self._bus.publish(events)
            except Failure:
                self.dropped += len(batch)
                return

    async def _publish_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self.flush()

    async def close(self) -> None:
        """Publishes the rest and lets go of the handlers."""
        for handler in self._handlers:
            logging.getLogger("services").removeHandler(handler)
            handler.close()
        await asyncio.get_running_loop().run_in_executor(None, self._provider.shutdown)
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()
        self._encoder.shutdown()


def _event(body: bytes, signal: str) -> Event:
    kind = f"opentelemetry.proto.collector.{signal}.v1.Export{signal.capitalize()}ServiceRequest"
    headers = {"ce_specversion": "1.0", "ce_id": uuid7(), "ce_type": kind, "ce_source": "telemetry", "tenant": SYSTEM}
    return Event(TELEMETRY, signal, body, headers)


def encode(batch: Sequence[Record]) -> bytes:
    """Records as one OTLP request."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.scope.name = "aimass"
    for record in batch:
        scope.log_records.append(_otlp(record))
    return request.SerializeToString()


def _otlp(record: Record) -> LogRecord:
    named = {
        "aimass.kind": record.kind,
        "aimass.name": record.name,
        "aimass.tenant": record.scope.tenant,
        "aimass.project": record.scope.project,
        "service.name": record.service,
    }
    parts = record.trace.split("-")
    return LogRecord(
        time_unix_nano=record.time_ns,
        severity_text=record.severity,
        severity_number=_SEVERITY.get(record.severity, 9),  # type: ignore[arg-type]
        body=AnyValue(string_value=record.text),
        attributes=[KeyValue(key=key, value=_any(value)) for key, value in (named | dict(record.attributes)).items()],
        trace_id=bytes.fromhex(parts[1]) if len(parts) == 4 else b"",
        span_id=bytes.fromhex(parts[2]) if len(parts) == 4 else b"",
    )


def _any(value: Any) -> AnyValue:
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=str(value))


class _Exporter(SpanExporter):
    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._telemetry.export(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", ""),
            "tenant": getattr(record, "tenant", SYSTEM),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _ToRecords(logging.Handler):
    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_QUIET):
            return
        scope = Scope(getattr(record, "tenant", SYSTEM), getattr(record, "project", "default"))
        found = {"request_id": getattr(record, "request_id", "")}
        if record.exc_info and record.exc_info[0]:
            found["exception"] = record.exc_info[0].__name__
        service = record.name.split(".")[1] if record.name.count(".") else ""
        self._telemetry.record(
            Record("log", record.name, record.getMessage(), scope, found, record.levelname, service, traceparent())
        )


@contextlib.contextmanager
def span(name: str, metadata: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[Span]:
    """A span around a block, under the caller's span when the metadata has a `traceparent`."""
    metadata = metadata or {}
    parent = _parent(metadata.get("traceparent", ""))
    context = trace.set_span_in_context(parent) if parent else None
    if request_id := metadata.get("x-request-id"):
        attributes["request_id"] = request_id
    started = _tracer.start_span(name, context=context, attributes=attributes)
    try:
        with use_span(started, record_exception=False, set_status_on_exception=False):
            yield started
    finally:
        started.end()


def failed(span: Span, code: str) -> None:
    """Marks a span with the code of a failure."""
    span.set_attribute("status", code)


def traceparent() -> str:
    """The current span as a W3C traceparent; empty when there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _parent(text: str) -> Span | None:
    parts = text.split("-")
    if [len(part) for part in parts] != [2, 32, 16, 2]:
        return None
    try:
        trace_id, span_id = int(parts[1], 16), int(parts[2], 16)
    except ValueError:
        return None
    return NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(1)))
