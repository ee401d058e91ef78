"""Attributes of OpenTelemetry's semantic conventions, derived from a span's kind, name and status.

They are derived in the telemetry thread, so that requests do not pay for it; the log centre drops them again.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from services.kit.errors import Code
from services.kit.telemetry.spans import Kind, Span

# Derived attributes that add nothing to what a span has itself.
DERIVED = frozenset(
    {
        *("rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"),
        *("http.request.method", "http.route", "url.path", "error.type"),
    }
)
_CODES = {code.text: code for code in Code}
_OURS = {"internal", "unavailable", "deadline_exceeded", "storage_full"}  # failures that are the server's fault
_VERBS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


def attributes(span: Span) -> dict[str, Any]:
    """The attributes that the conventions add to the span's own."""
    found: dict[str, Any] = dict(_named(span.name)) if span.kind is Kind.SERVER else {}
    status = span.attributes.get("status", "")
    code = _CODES.get(status)
    if "rpc.system" in found:
        found["rpc.grpc.status_code"] = (code or Code.INTERNAL).grpc.value[0] if status else 0
    elif found:
        found["http.response.status_code"] = (code or Code.INTERNAL).http if status else 200
    if failed(span):
        found["error.type"] = status
    return found


def failed(span: Span) -> bool:
    """Whether the span is an error; on the server's side a caller's mistake is none."""
    status = span.attributes.get("status", "")
    return status in _OURS if span.kind is Kind.SERVER else bool(status)


@lru_cache(maxsize=1024)
def _named(name: str) -> Mapping[str, str]:
    verb, _, path = name.partition(" ")
    if verb in _VERBS and path.startswith("/"):
        return {"http.request.method": verb, "http.route": path, "url.path": path}
    service, _, method = name.removeprefix("forward ").partition("/")
    if service and method and " " not in name.removeprefix("forward "):
        return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    return {}
