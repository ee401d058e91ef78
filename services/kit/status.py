"""A failure on a gRPC wire: a status, a text and a trailer, and back.

A status without our trailer came from the transport, so its text is not repeated.
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from itertools import accumulate
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from grpc import StatusCode

from aimass.v1.failure_pb2 import FailureDetail
from aimass.v1.failure_pb2 import Violation as WireViolation
from services.kit.breaker import Outcome
from services.kit.errors import Code, DeadlineExceeded, Disconnected, Failure, Internal, Violation

TRAILER = "aimass-failure-bin"
Metadata: TypeAlias = Iterable[tuple[str, str]]
FAIR = 1.0  # seconds that a call must have had for its timeout to say something of the instance
# Bytes of a failure's sentence, of its violations, and of one that counts others. gRPC drops a call's trailers above
# 8 KiB, and the sentence is among them twice, once with three bytes for each that is not ASCII.
_SENTENCE, _VIOLATIONS, _REST = 1024, 2048, 64


async def _no_more(status: int, detail: bytes) -> Metadata:
    return ()


def fit(failure: Failure) -> None:
    """Cuts a failure to what a wire carries; of violations that are left out it says how many there are.

    Where a service answers, whether or not there is a wire: what its caller sees is the same.
    """
    sentence = failure.detail.encode(errors="replace")
    if len(sentence) > _SENTENCE:
        failure.detail = sentence[:_SENTENCE].decode(errors="ignore")
        failure.args = (failure.detail,)
    violations, sizes = failure.violations, list(map(_size, failure.violations))
    if sum(sizes) > _VIOLATIONS:
        kept = sum(size <= _VIOLATIONS - _REST for size in accumulate(sizes))
        failure.violations = (*violations[:kept], Violation("", f"{len(violations) - kept} more rules are broken"))


def _size(violation: Violation) -> int:
    return sum(len(text.encode(errors="replace")) for text in (violation.pointer, violation.rule)) + 8


async def refuse(context: Any, failure: Failure, more: Callable[[int, bytes], Awaitable[Metadata]] = _no_more) -> None:
    """Ends a call with a failure's status, text and trailer; `more` gives further trailers for status and trailer."""
    fit(failure)
    status, detail = failure.code.grpc, detail_of(failure).SerializeToString()
    await context.abort(status, failure.detail, ((TRAILER, detail), *await more(status.value[0], detail)))


def detail_of(failure: Failure) -> FailureDetail:
    """A failure as it crosses a wire."""
    return FailureDetail(
        code=failure.code.text,
        violations=[WireViolation(pointer=v.pointer, rule=v.rule) for v in failure.violations],
        retry_after_ms=int((failure.retry_after or 0) * 1000),
        committed_size=failure.committed_size,
        text=failure.detail,
    )


def failure_from(detail: FailureDetail, text: str) -> Failure:
    """The failure that crossed a wire; `text` is the sentence of one that came without."""
    violations = [Violation(v.pointer, v.rule) for v in detail.violations]
    wait = detail.retry_after_ms / 1000 or None
    return Failure.of(detail.code, detail.text or text, violations, wait, detail.committed_size)


def failure_of(error: Any, service: str) -> Failure:
    """What a status means: what the servicer raised, or what the transport says, in our words."""
    for key, value in error.trailing_metadata() or ():
        if key == TRAILER:
            with contextlib.suppress(DecodeError):
                return failure_from(FailureDetail.FromString(value), error.details() or "")
    match error.code():
        case StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{service} took too long")
        case StatusCode.UNAVAILABLE | StatusCode.CANCELLED:
            return Disconnected(f"{service} is unavailable", retry_after=1)
        case StatusCode.UNIMPLEMENTED:
            return Failure(Code.METHOD_NOT_ALLOWED, f"{service} has no such method")
        case StatusCode.RESOURCE_EXHAUSTED | StatusCode.OUT_OF_RANGE:
            return Failure(Code.BODY_TOO_LARGE, "the message is larger than 16 MiB")
    return Internal("internal error")


def outcome_of(error: Any, seconds: float) -> Outcome:
    """What the error of a call that had so many seconds says of the instance.

    What it refuses itself says that it is well, also that it is busy; not that it cannot now.
    """
    code = error.code()
    if code is StatusCode.DEADLINE_EXCEEDED:
        return Outcome.BADLY if seconds >= FAIR else Outcome.UNKNOWN
    if any(key == TRAILER for key, _ in error.trailing_metadata() or ()):
        return outcome_by(failure_of(error, "").code)
    if code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED):
        return Outcome.LOST
    return Outcome.BADLY if code in (StatusCode.INTERNAL, StatusCode.UNKNOWN) else Outcome.WELL


def outcome_by(code: Code) -> Outcome:
    """What a failure that the instance says itself means for it."""
    if code is Code.INTERNAL:
        return Outcome.BADLY
    return Outcome.REFUSED if code is Code.UNAVAILABLE else Outcome.WELL
