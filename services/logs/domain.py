"""The record: what the log centre keeps, and all its slices work on."""

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

Value = str | int | float | bool
KINDS = ("log", "span", "event", "prediction", "metric")
_TEXT, _WORD, _VALUE, _ATTRIBUTES = 16_384, 256, 1_000, 64
_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_NONE: Mapping[str, Value] = MappingProxyType({})


class Record(NamedTuple):
    """One thing that happened: a log line, a span, an event, a prediction, a metric."""

    record: str  # its id: the same each time it is delivered
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
    scores: bytes = b""  # of a prediction: little-endian float64, one per row


def text_of(value: Value) -> str:
    """A value as callers see it, and as queries name it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def cut(text: str) -> str:
    """A record's text, cut at 16,384 characters."""
    return text[:_TEXT]


def word(text: str) -> str:
    """A name or an id in a record, cut at 256 characters."""
    return text[:_WORD]


def bounded(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """At most 64 attributes, with names that fit into a query and values cut at 1,000 characters."""
    kept = list(attributes.items())[:_ATTRIBUTES]
    return {_named(name): value[:_VALUE] if isinstance(value, str) else value for name, value in kept}


@lru_cache(maxsize=1024)
def _named(name: str) -> str:
    return _NAME.sub("_", name)[:100]


def severity(name: str) -> str:
    """A logger's level as one of DEBUG, INFO, WARN, ERROR."""
    return {"WARNING": "WARN", "CRITICAL": "ERROR", "FATAL": "ERROR", "TRACE": "DEBUG"}.get(name, name or "INFO")
