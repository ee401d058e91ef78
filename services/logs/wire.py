"""Records on the wire."""

from aimass.v1 import logs_pb2 as pb
from services.logs.domain import Record, text_of


def to_wire(record: Record) -> pb.LogRecord:
    """A record as callers see it, without scores."""
    made = pb.LogRecord(
        record=record.record,
        kind=record.kind,
        severity=record.severity,
        service=record.service,
        name=record.name,
        text=record.text,
        request_id=record.request_id,
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_span_id=record.parent_span_id,
        model=record.model,
        version=record.version,
        status=record.status,
        duration_ms=record.duration_ms or 0.0,
        attributes={name: text_of(value) for name, value in record.attributes.items()},
    )
    made.time.FromNanoseconds(record.time_ns)
    return made
