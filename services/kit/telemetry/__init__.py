"""What a process tells of itself: spans, log records, predictions and figures, as OTLP batches on the telemetry topic,
in files, and as text for a scraper.

Nothing here blocks a request: what is told waits in bounded queues, and what does not fit is counted and dropped.
"""

from services.kit.telemetry.metrics import REGISTRY, exposition, gauge, version
from services.kit.telemetry.otlp import encode
from services.kit.telemetry.pipeline import Telemetry
from services.kit.telemetry.records import Record
from services.kit.telemetry.spans import Kind, Span, belongs, child, current, failed, span, traceparent

__all__ = [
    "REGISTRY",
    "Kind",
    "Record",
    "Span",
    "Telemetry",
    "belongs",
    "child",
    "current",
    "encode",
    "exposition",
    "failed",
    "gauge",
    "span",
    "traceparent",
    "version",
]
