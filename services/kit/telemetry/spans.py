"""Spans: what a process did, for whom and for how long. They must be cheap, as every request has some.

A span of OpenTelemetry's SDK costs 55 us and its encoding as much again; one of these 5 us, and it is encoded in
another thread.
"""

import contextlib
import random
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from enum import IntEnum
from types import TracebackType
from typing import Any

from services.kit.auth import SYSTEM, Scope
from services.kit.errors import Failure

_bits = random.Random().getrandbits
_current: ContextVar["Span | None"] = ContextVar("span", default=None)
# A UUID of version 7, which is a valid trace id: not all zeros.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_QUIET = "aimass.v1.Bus/"  # calls that carry telemetry: each span of them would cause another
_sink: Callable[["Span"], None] | None = None


class Kind(IntEnum):
    """OpenTelemetry's kinds of spans."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span:
    """One piece of work. As a context manager it is the current span of its block, and ends with it."""

    __slots__ = (
        "_token",
        "attributes",
        "end_ns",
        "kind",
        "name",
        "parent_id",
        "scope",
        "service",
        "span_id",
        "start_ns",
        "trace_id",
    )

    def __init__(
        self, name: str, trace_id: int, parent_id: int, attributes: dict[str, Any], kind: Kind = Kind.INTERNAL
    ) -> None:
        self.name, self.trace_id, self.parent_id, self.attributes = name, trace_id, parent_id, attributes
        self.kind = kind
        self.span_id = _bits(64) | 1
        self.start_ns = time.time_ns()
        self.end_ns = 0
        self.scope, self.service = Scope(SYSTEM), ""
        self._token: Token[Span | None] | None = None

    def set_attribute(self, key: str, value: Any) -> None:
        """Sets a string, number or bool that the span can be searched by."""
        self.attributes[key] = value

    def __enter__(self) -> "Span":
        self._token = _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end_ns = time.time_ns()
        if isinstance(error, Failure):
            self.attributes.setdefault("status", error.code.text)
        if self._token:
            with contextlib.suppress(ValueError):  # a stream that another task has closed: its context is gone
                _current.reset(self._token)
        if _sink and not self.name.startswith(_QUIET):
            _sink(self)


def span(name: str, metadata: Mapping[str, str] | None = None, kind: Kind = Kind.INTERNAL, **attributes: Any) -> Span:
    """A span for a block: a child of the metadata's `traceparent` if there is one, else of the current span.

    `tenant` and `project` among the attributes are its scope, as with `belongs`.
    """
    around = _current.get()
    above = _parent(metadata.get("traceparent", "")) if metadata else None
    request_id = metadata.get("x-request-id") if metadata else None
    if above is None and around is not None:
        above = (around.trace_id, around.span_id)
    if above is None:
        above = (_bits(128) | 1, 0)
    made = Span(name, above[0], above[1], attributes, kind)
    if around is not None and around.trace_id == made.trace_id:
        made.scope, made.service = around.scope, around.service
        request_id = request_id or around.attributes.get("request_id")
    if "tenant" in attributes:
        made.scope = Scope(attributes.pop("tenant"), attributes.pop("project", "default"))
    if request_id:
        attributes.setdefault("request_id", request_id)
    return made


def belongs(scope: Scope, service: str = "") -> None:
    """Sets the scope and the service of the current span, once known; records in it have them as well."""
    found = _current.get()
    if found is not None:
        found.scope = scope
        if service:
            found.service = service


def failed(span: Span, code: str) -> None:
    """Sets a span's status to the code of a failure."""
    span.attributes["status"] = code


def current() -> Span | None:
    """The span that this task works in."""
    return _current.get()


def traceparent() -> str:
    """The current span as a W3C traceparent; empty when there is none."""
    found = _current.get()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-01" if found else ""


def child(parent: str = "", request_id: str = "") -> str:
    """A traceparent for work that is recorded without a span: in the parent's trace, else the current, else a new one.

    In the parent's trace it has a span id of its own, in the current span it has that span's. A new trace has the
    request's UUID as its id, if it has one, so that a search needs only one id.
    """
    trace = _parent(parent) if parent else None
    around = _current.get()
    if trace is None and around is not None:
        return f"00-{around.trace_id:032x}-{around.span_id:016x}-01"
    if trace is None and _UUID.fullmatch(request_id):
        return f"00-{request_id.replace('-', '')}-{_bits(64) | 1:016x}-01"
    return f"00-{trace[0] if trace else _bits(128) | 1:032x}-{_bits(64) | 1:016x}-01"


def set_sink(sink: Callable[[Span], None] | None) -> None:
    """Sets the receiver of spans that have ended."""
    global _sink
    _sink = sink


def sink() -> Callable[[Span], None] | None:
    """The receiver of spans that have ended."""
    return _sink


def _parent(text: str) -> tuple[int, int] | None:
    if len(text) != 55 or text[2] != "-" or text[35] != "-" or text[52] != "-":
        return None
    try:
        trace_id, span_id = int(text[3:35], 16), int(text[36:52], 16)
    except ValueError:
        return None
    return (trace_id, span_id) if trace_id and span_id else None
