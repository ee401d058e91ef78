"""Telemetry of a process: spans, log records, predictions and metrics, as OTLP batches on the bus, in files, and for a
Prometheus scraper.

Nothing here blocks a request: records wait in bounded queues, and those that do not fit are counted and dropped.
"""

from services.kit.telemetry.metrics import REGISTRY, exposition, gauge, version
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
    "exposition",
    "failed",
    "gauge",
    "span",
    "traceparent",
    "version",
]
