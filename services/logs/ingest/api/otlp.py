"""Decodes OTLP telemetry into records."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.kit.auth import SYSTEM
from services.kit.bus import Event
from services.kit.redaction import redact
from services.kit.telemetry.columns import COLUMNS, unpacked
from services.kit.telemetry.conventions import DERIVED
from services.logs.domain import KINDS, Record, bounded, cut, severity, word
from services.logs.tables import Kept, grouped, size

_SCORES = 8 * 2**20  # bytes, at most
_SHORT = 100  # characters of a text whose redaction is cached: tenants, models and names come again and again


def records(event: Event) -> list[Kept]:
    """The records of one batch, with similar predictions as tables.

    Raises DecodeError for a damaged body, ValueError for an unknown signal.
    """
    signal = event.type.rsplit(".", 1)[-1]
    if signal == "ExportLogsServiceRequest":
        return list(_logs(event))
    if signal == "ExportTraceServiceRequest":
        return list(_spans(event))
    if signal == "ExportMetricsServiceRequest":
        return list(_metrics(event))
    raise ValueError(f"{event.type} is no signal of telemetry")


def _logs(event: Event) -> Iterator[Kept]:
    request = ExportLogsServiceRequest.FromString(event.body)
    index, batch = 0, _batch(event)
    for resource in request.resource_logs:
        shared = _values(resource.resource.attributes)
        for line in (line for scope in resource.scope_logs for line in scope.log_records):
            found = shared | _values(line.attributes)
            if type(columns := found.pop(COLUMNS, None)) is bytes:
                for made in _predictions(found, columns, batch, index):
                    index += size(made)
                    yield made
                continue
            kind = str(found.pop("aimass.kind", "log"))
            yield _record(
                found,
                record=f"{batch}{index:08x}",
                time_ns=line.time_unix_nano or line.observed_time_unix_nano,
                kind=kind if kind in KINDS else "log",
                severity=severity(line.severity_text.upper()),
                name=word(str(found.pop("aimass.name", ""))),
                text=cut(redact(line.body.string_value)) or _text(kind, found),
                trace_id=line.trace_id.hex(),
                span_id=line.span_id.hex(),
            )
            index += 1


def _predictions(found: dict[str, Any], columns: bytes, batch: str, index: int) -> list[Kept]:
    """The predictions of packed columns, with the ids that they would have as single records. Raises ValueError."""
    table, kind, name = unpacked(columns), str(found.pop("aimass.kind", "")), word(str(found.pop("aimass.name", "")))
    about = {"kind": kind, "severity": "INFO", "name": name, "text": _text(kind, found)}
    like = _record(found, record=batch, time_ns=0, **about)
    if any(len(scores) > _SCORES for scores in table.scores):
        table = table._replace(scores=[scores if len(scores) <= _SCORES else b"" for scores in table.scores])
    return grouped(like, index, table)


def _text(kind: str, found: dict[str, Any]) -> str:
    """A text for predictions, so that words find them; the hot path sends none."""
    if kind != "prediction":
        return ""
    return word(f"prediction of {found.get('model', '')} version {found.get('version', '')} {found.get('status', '')}")


def _spans(event: Event) -> Iterator[Record]:
    request = ExportTraceServiceRequest.FromString(event.body)
    for resource in request.resource_spans:
        shared = _values(resource.resource.attributes)
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            found = {key: value for key, value in (shared | _values(span.attributes)).items() if key not in DERIVED}
            found["duration_ms"] = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            status = str(found.get("status", ""))
            yield _record(
                found,
                record=f"{span.trace_id.hex()}-{span.span_id.hex()}",
                time_ns=span.start_time_unix_nano,
                kind="span",
                severity="ERROR" if status in ("internal", "unavailable") else "INFO",
                name=word(span.name),
                text=cut(redact(f"{span.name} {status}".strip())),
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_span_id=span.parent_span_id.hex(),
            )


def _metrics(event: Event) -> Iterator[Record]:
    request = ExportMetricsServiceRequest.FromString(event.body)
    index, batch = 0, _batch(event)
    for resource in request.resource_metrics:
        shared = _values(resource.resource.attributes)
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            for point in [*metric.gauge.data_points, *metric.sum.data_points]:
                value = point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
                found = shared | _values(point.attributes) | {"value": value}
                index += 1
                yield _record(
                    found,
                    record=f"{batch}{index:08x}",
                    time_ns=point.time_unix_nano,
                    kind="metric",
                    name=word(metric.name),
                    text=metric.name,
                )


def _batch(event: Event) -> str:
    """The prefix of the ids of an event's records."""
    return hashlib.sha256(event.id.encode()).hexdigest()[:24]


def _record(found: dict[str, Any], **fields: Any) -> Record:
    """A record: some attributes become fields, the rest stay attributes."""
    own = found.pop
    scores, version, duration = own("scores", b""), own("version", 0), own("duration_ms", None)
    return Record(
        tenant=str(own("aimass.tenant", "") or SYSTEM)[:63],
        project=str(own("aimass.project", "") or "default")[:63],
        service=word(str(own("service.name", ""))),
        request_id=word(str(own("request_id", ""))),
        model=word(str(own("model", ""))),
        version=version if isinstance(version, int) and abs(version) < 2**31 else 0,
        status=word(str(own("status", ""))),
        duration_ms=float(duration) if isinstance(duration, int | float) and math.isfinite(duration) else None,
        attributes=bounded({name: value for name, value in found.items() if type(value) is not bytes}),
        scores=scores if isinstance(scores, bytes) and len(scores) <= _SCORES else b"",
        **fields,
    )


def _values(pairs: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        value = pair.value
        if text := value.string_value:  # most values are texts, and `WhichOneof` costs as much again
            found[pair.key] = _clean(text) if len(text) <= _SHORT else redact(text)
            continue
        kind = value.WhichOneof("value")
        if kind in ("int_value", "double_value", "bool_value", "bytes_value", "string_value"):
            found[pair.key] = getattr(value, kind)
    return found


_clean = lru_cache(maxsize=4096)(redact)
