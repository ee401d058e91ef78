"""The failure that calls raise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class Violation:
    """A rule that a request breaks, and a JSON pointer to the place in the request."""

    pointer: str
    rule: str


class Failure(Exception):
    """A call failed: `code` says why (`not_found`), the text is a sentence for people.

    The codes are those of the problem documents. The client itself raises `unavailable` (no answer),
    `deadline_exceeded` (no answer in time), `no_key` (no address or key is known) and `login_ended` (the user must
    log in again).
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        violations: Sequence[Violation] = (),
        status: int = 0,
        request_id: str = "",
        retry_after: float | None = None,
        committed_size: int = 0,
    ) -> None:
        """`retry_after` is in seconds; `status` is the HTTP status, 0 without an answer."""
        super().__init__(detail)
        self.code, self.detail, self.violations = code, detail, tuple(violations)
        self.status, self.request_id = status, request_id
        self.retry_after, self.committed_size = retry_after, committed_size

    def __str__(self) -> str:
        where = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.detail}{where}"


def of_problem(status: int, body: bytes, headers: Any) -> Failure:
    """The failure of a problem document (RFC 9457); `internal` for any other answer."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or "code" not in document:
        return Failure("internal", f"the server answered with status {status}", status=status)
    listed = document.get("violations")
    violations = [
        Violation(str(found.get("pointer", "")), str(found.get("rule", found.get("detail", ""))))
        for found in (listed if isinstance(listed, list) else [])
        if isinstance(found, dict)
    ]
    return Failure(
        str(document["code"]),
        str(document.get("detail", "")),
        violations=violations,
        status=status,
        request_id=str(document.get("request_id") or headers.get("x-request-id", "")),
        retry_after=_retry_after(document, headers),
        committed_size=int(_number(document.get("committed_size")) or 0),
    )


def _retry_after(document: dict[str, Any], headers: Any) -> float | None:
    if milliseconds := _number(document.get("retry_after_ms")):
        return milliseconds / 1000
    return _number(headers.get("retry-after"))


def _number(value: Any) -> float | None:
    """A finite number from 0 on, else None: a proxy may write anything."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < float("inf") else None
