"""The failures that callers see, and the only list of their codes.

A service raises a `Failure`. The edge turns it into the form of its protocol, and the client side turns it back. Any
other exception is a bug: it is logged with its traceback, and callers get `internal`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from grpc import StatusCode


class Code(Enum):
    """The codes: (gRPC status, HTTP status). Neither status is derived from the other."""

    UNAUTHENTICATED = (StatusCode.UNAUTHENTICATED, 401)
    TOKEN_INVALID = (StatusCode.UNAUTHENTICATED, 401)
    SIGNATURE_INVALID = (StatusCode.UNAUTHENTICATED, 401)
    SIGNATURE_STALE = (StatusCode.UNAUTHENTICATED, 401)
    FORBIDDEN = (StatusCode.PERMISSION_DENIED, 403)
    ORIGIN_DENIED = (StatusCode.PERMISSION_DENIED, 403)
    NOT_FOUND = (StatusCode.NOT_FOUND, 404)
    UNKNOWN_VERSION = (StatusCode.NOT_FOUND, 404)
    METHOD_NOT_ALLOWED = (StatusCode.UNIMPLEMENTED, 405)
    NOT_ACCEPTABLE = (StatusCode.INVALID_ARGUMENT, 406)
    REQUEST_TIMEOUT = (StatusCode.DEADLINE_EXCEEDED, 408)
    ALREADY_EXISTS = (StatusCode.ALREADY_EXISTS, 409)
    CONFLICT = (StatusCode.ABORTED, 409)
    FAILED_PRECONDITION = (StatusCode.FAILED_PRECONDITION, 409)
    FENCE_STALE = (StatusCode.FAILED_PRECONDITION, 409)
    REPLAYED = (StatusCode.ABORTED, 409)
    IN_PROGRESS = (StatusCode.ABORTED, 409)
    ETAG_MISMATCH = (StatusCode.ABORTED, 412)
    BODY_TOO_LARGE = (StatusCode.OUT_OF_RANGE, 413)
    UNSUPPORTED_MEDIA_TYPE = (StatusCode.INVALID_ARGUMENT, 415)
    UNSUPPORTED_FORMAT = (StatusCode.INVALID_ARGUMENT, 415)
    WRONG_OFFSET = (StatusCode.OUT_OF_RANGE, 416)
    MISDIRECTED = (StatusCode.INVALID_ARGUMENT, 421)
    INVALID_VALUE = (StatusCode.INVALID_ARGUMENT, 422)
    INVALID_NAME = (StatusCode.INVALID_ARGUMENT, 422)
    KEY_REUSED = (StatusCode.INVALID_ARGUMENT, 422)
    DIGEST_MISMATCH = (StatusCode.INVALID_ARGUMENT, 422)
    DIGEST_REQUIRED = (StatusCode.INVALID_ARGUMENT, 400)
    EGRESS_DENIED = (StatusCode.INVALID_ARGUMENT, 422)
    SQL_NOT_ALLOWED = (StatusCode.INVALID_ARGUMENT, 422)
    PATTERN_UNSUPPORTED = (StatusCode.INVALID_ARGUMENT, 422)
    TEMPLATE_INVALID = (StatusCode.INVALID_ARGUMENT, 422)
    QUERY_INVALID = (StatusCode.INVALID_ARGUMENT, 422)
    QUERY_TOO_COSTLY = (StatusCode.INVALID_ARGUMENT, 422)
    LIMIT_EXCEEDED = (StatusCode.RESOURCE_EXHAUSTED, 422)
    ETAG_REQUIRED = (StatusCode.FAILED_PRECONDITION, 428)
    RATE_LIMITED = (StatusCode.RESOURCE_EXHAUSTED, 429)
    QUOTA_EXCEEDED = (StatusCode.RESOURCE_EXHAUSTED, 429)
    HEADERS_TOO_LARGE = (StatusCode.INVALID_ARGUMENT, 431)
    CANCELLED = (StatusCode.CANCELLED, 499)
    MALFORMED_JSON = (StatusCode.INVALID_ARGUMENT, 400)
    BAD_FRAMING = (StatusCode.INVALID_ARGUMENT, 400)
    INTERNAL = (StatusCode.INTERNAL, 500)
    OVERLOADED = (StatusCode.UNAVAILABLE, 503)
    UNAVAILABLE = (StatusCode.UNAVAILABLE, 503)
    DEADLINE_EXCEEDED = (StatusCode.DEADLINE_EXCEEDED, 504)
    STORAGE_FULL = (StatusCode.RESOURCE_EXHAUSTED, 507)

    def __new__(cls, grpc: StatusCode, http: int) -> "Code":
        # Members with equal statuses must not become aliases of each other, so the value is a number of its own.
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, grpc: StatusCode, http: int) -> None:
        self.grpc, self.http = grpc, http

    @property
    def text(self) -> str:
        """Its name on the wire: not_found."""
        return self.name.lower()


@dataclass(frozen=True)
class Violation:
    """A rule that a request breaks, and a JSON pointer to the place in the request."""

    pointer: str
    rule: str


class Failure(Exception):
    """A failure for the caller: a code, and a lower-case sentence that names the thing and the rule."""

    preset: ClassVar[Code | None] = None
    _kinds: ClassVar[dict[Code, type["Failure"]]] = {}

    def __init__(
        self,
        code: Code,
        detail: str,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        committed_size: int = 0,
    ) -> None:
        """`retry_after` is in seconds; `committed_size` belongs to `wrong_offset` only."""
        super().__init__(detail)
        self.code, self.detail, self.violations = code, detail, tuple(violations)
        self.retry_after, self.committed_size = retry_after, committed_size

    def __reduce__(self) -> tuple[object, ...]:
        return Failure.of, (self.code.text, self.detail, self.violations, self.retry_after, self.committed_size)

    @classmethod
    def of(
        cls,
        code: str,
        detail: str,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
        committed_size: int = 0,
    ) -> "Failure":
        """The failure for the name of a code, as it comes from a wire. An unknown code is `internal`."""
        known = Code.__members__.get(code.upper(), Code.INTERNAL)
        failure = Failure(known, detail, violations, retry_after, committed_size)
        failure.__class__ = Failure._kinds.get(known, Failure)
        return failure

    def __init_subclass__(cls, preset: Code | None = None) -> None:
        if preset:
            cls.preset, Failure._kinds[preset] = preset, cls


class _Preset(Failure):
    def __init__(self, detail: str, violations: Sequence[Violation] = (), retry_after: float | None = None) -> None:
        assert self.preset
        super().__init__(self.preset, detail, violations, retry_after)


class NotFound(_Preset, preset=Code.NOT_FOUND):
    """The thing does not exist, or belongs to another tenant."""


class InvalidValue(_Preset, preset=Code.INVALID_VALUE):
    """A value breaks a rule; `violations` say which and where."""


def invalid(pointer: str, rule: str) -> InvalidValue:
    """invalid_value of one field: `/limit/burst` and `must be above 0` are `limit.burst must be above 0`."""
    return InvalidValue(f"{pointer[1:].replace('/', '.')} {rule}", [Violation(pointer, rule)])


def refuse(found: Iterable[Violation]) -> None:
    """Raises for violations, if there are any: invalid_name where a name is none, else invalid_value."""
    if violations := list(found):
        named = [violation for violation in violations if violation.rule.startswith("must be a name")]
        first = (named or violations)[0]
        text = f"{first.pointer[1:].replace('/', '.')} {first.rule}"
        raise Failure.of("invalid_name" if named else "invalid_value", text, violations)


class FailedPrecondition(_Preset, preset=Code.FAILED_PRECONDITION):
    """The thing is not in a state that allows it."""


class AlreadyExists(_Preset, preset=Code.ALREADY_EXISTS):
    """The name is taken."""


class Forbidden(_Preset, preset=Code.FORBIDDEN):
    """The caller lacks the permission."""


class Unauthenticated(_Preset, preset=Code.UNAUTHENTICATED):
    """The caller showed no valid credential."""


class Unavailable(_Preset, preset=Code.UNAVAILABLE):
    """The thing cannot be reached now."""


class Disconnected(Unavailable):
    """A call was sent, but its connection broke: it may have had its effect."""


class DeadlineExceeded(_Preset, preset=Code.DEADLINE_EXCEEDED):
    """The caller's deadline has passed."""


class Internal(_Preset, preset=Code.INTERNAL):
    """A bug, without its text."""


def pointer_part(name: str) -> str:
    """A name as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def match_etag(etag: str, current: str | int, name: str) -> None:
    """Raises etag_mismatch for who saw another state of a thing; no etag and `*` match every state."""
    if etag not in ("", "*", str(current)):
        raise Failure(Code.ETAG_MISMATCH, f"{name} has changed: its etag is {current}")
