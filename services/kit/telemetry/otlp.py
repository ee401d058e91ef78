"""Encodes spans and records as OTLP requests. Runs in the telemetry thread, off the path of requests."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from services.kit.auth import Scope
from services.kit.telemetry import conventions
from services.kit.telemetry.columns import COLUMNS, tables
from services.kit.telemetry.records import Record
from services.kit.telemetry.spans import Span
from services.kit.telemetry.wire import attribute, framed, text, varint

_SEVERITY = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "WARN": 13, "ERROR": 17, "CRITICAL": 21}
_SCOPE = framed(0x0A, framed(0x0A, b"aimass"))


def logs_with_tables(batch: Sequence[Record]) -> bytes:
    """As `logs`, for the log centre: similar predictions as columns."""
    made, rest = tables(batch)
    found = [framed(0x12, _log(one.first, {**one.shared, COLUMNS: one.columns}, "")) for one in made]
    found += [framed(0x12, _log(record, record.attributes, record.trace)) for record in rest]
    return framed(0x12, _SCOPE + b"".join(found))


def logs(batch: Sequence[Record]) -> bytes:
    """Records as the content of a request, without its resource."""
    return framed(
        0x12, _SCOPE + b"".join([framed(0x12, _log(record, record.attributes, record.trace)) for record in batch])
    )


def traces(batch: Sequence[Span]) -> bytes:
    """Spans as the content of a request, without its resource."""
    return framed(0x12, _SCOPE + b"".join([framed(0x12, _span(span)) for span in batch]))


def resource(attributes: Mapping[str, str]) -> bytes:
    """The resource: attributes of the process, part of every request."""
    return framed(0x0A, b"".join([attribute(0x0A, key, value) for key, value in attributes.items()]))


def request(content: bytes, resource: bytes = b"") -> bytes:
    """A request, of any signal: all have the same structure."""
    return framed(0x0A, resource + content)


def _log(record: Record, attributes: Mapping[str, Any], trace: str) -> bytes:
    found = [b"\x09", record.time_ns.to_bytes(8, "little")]
    found.append(_about(record.kind, record.name, record.scope, record.service, record.severity))
    found.append(framed(0x2A, text(record.text)))
    found += [attribute(0x32, key, value) for key, value in attributes.items()]
    parts = trace.split("-")
    if len(parts) == 4:
        found += (framed(0x4A, bytes.fromhex(parts[1])), framed(0x52, bytes.fromhex(parts[2])))
    return b"".join(found)


@lru_cache(maxsize=4096)
def _about(kind: str, name: str, scope: Scope, service: str, severity: str) -> bytes:
    """Severity and attributes that many records share."""
    named = {"aimass.kind": kind, "aimass.name": name, "aimass.tenant": scope.tenant, "aimass.project": scope.project}
    named["service.name"] = service
    severe = b"\x10" + varint(_SEVERITY.get(severity, 9)) + framed(0x1A, severity.encode(errors="replace"))
    return severe + b"".join([attribute(0x32, key, value) for key, value in named.items()])


_FAILED = b"\x18\x02"  # Status: STATUS_CODE_ERROR


def _span(span: Span) -> bytes:
    named = {"aimass.tenant": span.scope.tenant, "aimass.project": span.scope.project, "service.name": span.service}
    also = conventions.attributes(span)
    return b"".join(
        [
            framed(0x0A, span.trace_id.to_bytes(16, "big")),
            framed(0x12, span.span_id.to_bytes(8, "big")),
            framed(0x22, span.parent_id.to_bytes(8, "big")) if span.parent_id else b"",
            framed(0x2A, span.name.encode(errors="replace")),
            b"\x30" + varint(span.kind),
            b"\x39",
            span.start_ns.to_bytes(8, "little"),
            b"\x41",
            max(span.end_ns, span.start_ns).to_bytes(8, "little"),
            *(attribute(0x4A, key, value) for key, value in (named | also | span.attributes).items()),
            framed(0x7A, _FAILED) if conventions.failed(span) else b"",
        ]
    )
