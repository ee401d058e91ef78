"""Failures as RFC 9457 problem documents, the only form of errors over HTTP."""

import math
from typing import Any

import orjson

from services.kit.errors import Code, Failure

MEDIA_TYPE = b"application/problem+json"
_TITLES = {code: code.text.replace("_", " ").capitalize() for code in Code}


class NotAllowed(Failure):
    """The path has other methods than this one; `allowed` is what `Allow` says."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(Code.METHOD_NOT_ALLOWED, f"{method[:20]} is not allowed here, {allowed} is")
        self.allowed = allowed


class Packed(Failure):
    """The body is compressed; `Accept-Encoding` says that none may be (RFC 9110, 12.5.3)."""

    def __init__(self) -> None:
        super().__init__(Code.UNSUPPORTED_MEDIA_TYPE, "compressed requests are not read")


def document(failure: Failure, instance: str, request_id: str) -> dict[str, Any]:
    """The members of a problem; `instance` is the path of the request."""
    code = failure.code
    found: dict[str, Any] = {
        "type": f"https://aimass.dev/problems/{code.text}",
        "title": _TITLES[code],
        "status": code.http,
        "detail": failure.detail,
        "instance": instance,
        "code": code.text,
        "request_id": request_id,
    }
    if failure.violations:
        found["violations"] = [{"pointer": v.pointer, "rule": v.rule} for v in failure.violations]
    if failure.retry_after is not None:
        found["retry_after_ms"] = math.ceil(failure.retry_after * 1000)
    if code is Code.WRONG_OFFSET:
        found["committed_size"] = failure.committed_size
    if instance.startswith("/v2"):
        found["error"] = failure.detail  # what clients of the Open Inference Protocol read
    return found


def dump(failure: Failure, instance: str, request_id: str) -> bytes:
    """The document as JSON; text that is no Unicode is replaced."""
    found = document(failure, instance, request_id)
    try:
        return orjson.dumps(found)
    except orjson.JSONEncodeError:
        clean = {
            key: value.encode(errors="replace").decode() if isinstance(value, str) else value
            for key, value in found.items()
            if key != "violations"
        }
        return orjson.dumps(clean)


def headers(failure: Failure) -> list[tuple[bytes, bytes]]:
    """The headers that belong to a failure."""
    found = [(b"content-type", MEDIA_TYPE)]
    if failure.retry_after is not None:
        found.append((b"retry-after", b"%d" % max(1, math.ceil(failure.retry_after))))
    if isinstance(failure, Packed):
        found += [(b"accept-encoding", b"identity"), (b"connection", b"close")]
    if isinstance(failure, NotAllowed):
        found.append((b"allow", failure.allowed.encode()))
    return found
