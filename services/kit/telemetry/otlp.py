"""Spans, records and figures as OTLP requests. Runs in the telemetry thread, off the path of requests."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from prometheus_client import Metric

from services.kit.redaction import redact
from services.kit.telemetry.records import Record
from services.kit.telemetry.spans import Span

_SEVERITY = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "WARN": 13, "ERROR": 17, "CRITICAL": 21}


def encode(batch: Sequence[Record]) -> bytes:
    """Records as one ExportLogsServiceRequest."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.scope.name = "aimass"
    scope.log_records.extend(_log(record) for record in batch)
    return request.SerializeToString()


def encode_spans(batch: Sequence[Span], process: str) -> bytes:
    """Spans as one ExportTraceServiceRequest."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(_pair("service.name", process))
    scope = resource.scope_spans.add()
    scope.scope.name = "aimass"
    scope.spans.extend(_span(span) for span in batch)
    return request.SerializeToString()


def encode_metrics(metrics: Iterable[Metric], process: str) -> bytes:
    """Figures as one ExportMetricsServiceRequest; of a histogram its sum and count, its buckets are for the scraper."""
    request, now = ExportMetricsServiceRequest(), time.time_ns()
    resource = request.resource_metrics.add()
    resource.resource.attributes.append(_pair("service.name", process))
    scope = resource.scope_metrics.add()
    for metric in metrics:
        for sample in metric.samples:
            if sample.name.endswith(("_bucket", "_created")):
                continue
            made = scope.metrics.add(name=sample.name)
            if metric.type == "gauge":
                point = made.gauge.data_points.add()
            else:
                made.sum.is_monotonic = True
                made.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
                point = made.sum.data_points.add()
            point.time_unix_nano, point.as_double = now, sample.value
            point.attributes.extend(_pair(key, value) for key, value in sample.labels.items())
    return request.SerializeToString()


def _log(record: Record) -> LogRecord:
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
        body=AnyValue(string_value=_text(record.text)),
        attributes=[_pair(key, value) for source in (named, record.attributes) for key, value in source.items()],
        trace_id=bytes.fromhex(parts[1]) if len(parts) == 4 else b"",
        span_id=bytes.fromhex(parts[2]) if len(parts) == 4 else b"",
    )


def _span(span: Span) -> OtlpSpan:
    named = {"aimass.tenant": span.scope.tenant, "aimass.project": span.scope.project, "service.name": span.service}
    return OtlpSpan(
        trace_id=span.trace_id.to_bytes(16, "big"),
        span_id=span.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent_id.to_bytes(8, "big") if span.parent_id else b"",
        name=span.name,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=max(span.end_ns, span.start_ns),
        attributes=[_pair(key, value) for source in (named, span.attributes) for key, value in source.items()],
    )


def _pair(key: str, value: Any) -> KeyValue:
    return KeyValue(key=key, value=_any(value))


def _any(value: Any) -> AnyValue:
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=_text(str(value)))


def _text(text: str) -> str:
    """Without secrets, and without lone surrogates (names of files may have them), which no message can hold."""
    return redact(text if text.isascii() else text.encode(errors="replace").decode())
