"""What OpenTelemetry's conventions say of a span, read off its kind, name and status in the telemetry thread.

So no request pays for it, and the log centre, which has the names as they are, leaves it out again.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from services.kit.errors import Code
from services.kit.telemetry.spans import Kind, Span

# What is said here and follows from what a span says itself.
DERIVED = frozenset(
    {
        *("rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"),
        *("http.request.method", "http.route", "url.path", "error.type"),
    }
)
_CODES = {code.text: code for code in Code}
_OURS = {"internal", "unavailable", "deadline_exceeded", "storage_full"}  # whose fault a failure is: the server's
_VERBS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


def attributes(span: Span) -> dict[str, Any]:
    """Attributes beside the span's own."""
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
    """Whether it is an error of its side: what a caller did wrong is none of the server's."""
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
