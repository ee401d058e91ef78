"""What the log centre is about: the record. Every slice speaks of it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

Value = str | int | float | bool
KINDS = ("log", "span", "event", "prediction", "metric")
SEVERITIES = ("DEBUG", "INFO", "WARN", "ERROR")
_TEXT, _WORD, _VALUE, _ATTRIBUTES = 16_384, 256, 1_000, 64
_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_NONE: Mapping[str, Value] = MappingProxyType({})


class Record(NamedTuple):
    """One thing that happened: a log line, a span, an event, a prediction, a figure."""

    record: str  # stable: the same record has the same id however often it comes
    tenant: str
    project: str
    time_ns: int
    kind: str
    severity: str = "INFO"
    service: str = ""
    name: str = ""
    text: str = ""
    request_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    model: str = ""
    version: int = 0
    status: str = ""
    duration_ms: float | None = None
    attributes: Mapping[str, Value] = _NONE
    scores: bytes = b""  # of a prediction: little-endian float64, one a row


def text_of(value: Value) -> str:
    """A value as a caller sees it and asks for it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def cut(text: str) -> str:
    """The text of a record, no longer than is kept: 16,384 characters."""
    return text[:_TEXT]


def word(text: str) -> str:
    """A name or an id of a record, no longer than is kept: 256 characters."""
    return text[:_WORD]


def bounded(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """At most 64 attributes with names that a query can say and values of at most 1,000 characters."""
    kept = list(attributes.items())[:_ATTRIBUTES]
    return {_named(name): value[:_VALUE] if isinstance(value, str) else value for name, value in kept}


@lru_cache(maxsize=1024)
def _named(name: str) -> str:
    return _NAME.sub("_", name)[:100]


def severity(name: str) -> str:
    """One of DEBUG, INFO, WARN, ERROR for what loggers call it."""
    return {"WARNING": "WARN", "CRITICAL": "ERROR", "FATAL": "ERROR", "TRACE": "DEBUG"}.get(name, name or "INFO")
