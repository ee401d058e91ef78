"""Failures keep everything they say on their way over a wire; what is not ours is said in our words."""

import pickle
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.v1.failure_pb2 import FailureDetail
from services.kit import errors
from services.kit.errors import Code, Failure, NotFound, Violation
from services.kit.status import TRAILER, detail_of, failure_from, failure_of

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# On a busy machine an example may take its time.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
violations = st.lists(st.builds(Violation, text, text), max_size=4)
failures = st.builds(
    Failure,
    st.sampled_from(Code),
    text,
    violations,
    st.one_of(st.none(), st.integers(1, 10**6).map(lambda milliseconds: milliseconds / 1000)),
    st.integers(0, 2**62),
)


class Ended:
    """A call that ended with a status, as gRPC gives it."""

    def __init__(self, code: StatusCode, details: str | None = "", trailers: Any = ()) -> None:
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers


def said(failure: Failure) -> tuple[object, ...]:
    return failure.code, failure.detail, failure.violations, failure.retry_after, failure.committed_size


@patiently
@given(failures)
def test_a_failure_crosses_a_wire_whole(failure: Failure) -> None:
    wire = detail_of(failure).SerializeToString()
    ended = Ended(failure.code.grpc, failure.detail, (("x", "y"), (TRAILER, wire)))
    back = failure_of(ended, "data")

    assert said(back)[:3] == said(failure)[:3]
    assert back.committed_size == failure.committed_size
    assert abs((back.retry_after or 0) - (failure.retry_after or 0)) <= 0.001


@patiently
@given(failures)
def test_a_failure_crosses_a_process_whole(failure: Failure) -> None:
    assert said(pickle.loads(pickle.dumps(failure))) == said(failure)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (StatusCode.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED, "data took too long"),
        (StatusCode.UNAVAILABLE, Code.UNAVAILABLE, "data is unavailable"),
        (StatusCode.CANCELLED, Code.UNAVAILABLE, "data is unavailable"),
        (StatusCode.UNIMPLEMENTED, Code.METHOD_NOT_ALLOWED, "data has no such method"),
        (StatusCode.RESOURCE_EXHAUSTED, Code.BODY_TOO_LARGE, "the message is larger than 16 MiB"),
        (StatusCode.OUT_OF_RANGE, Code.BODY_TOO_LARGE, "the message is larger than 16 MiB"),
        (StatusCode.INTERNAL, Code.INTERNAL, "internal error"),
        (StatusCode.UNKNOWN, Code.INTERNAL, "internal error"),
        (StatusCode.PERMISSION_DENIED, Code.INTERNAL, "internal error"),
        (StatusCode.DATA_LOSS, Code.INTERNAL, "internal error"),
    ],
)
def test_what_the_transport_says_is_not_repeated(status: StatusCode, code: Code, words: str) -> None:
    found = failure_of(Ended(status, "10.0.0.7:9101: connection refused"), "data")

    assert (found.code, found.detail) == (code, words)


@pytest.mark.parametrize("trailers", [None, (), ((TRAILER, b"\xff\xff"),), (("other-bin", b"x"),)])
def test_a_trailer_that_is_none_of_ours_is_passed_over(trailers: Any) -> None:
    assert failure_of(Ended(StatusCode.UNAVAILABLE, None, trailers), "data").code is Code.UNAVAILABLE


def test_a_code_of_a_newer_service_is_internal() -> None:
    found = failure_from(FailureDetail(code="quantum_entangled"), "what is it")

    assert (found.code, found.detail) == (Code.INTERNAL, "what is it")


def test_a_failure_comes_back_as_the_class_that_it_was() -> None:
    found = failure_from(detail_of(NotFound("iris has no version 9")), "iris has no version 9")

    assert type(found) is NotFound
    assert type(pickle.loads(pickle.dumps(found))) is NotFound


PRESETS = [kind for kind in vars(errors).values() if isinstance(kind, type) and getattr(kind, "preset", None)]


@pytest.mark.parametrize("kind", PRESETS, ids=lambda kind: kind.__name__)
def test_every_class_has_its_code_and_keeps_what_it_is_given(kind: Any) -> None:
    failure = kind("a sentence", [Violation("/a", "must be set")], 2.0)

    assert said(failure) == (kind.preset, "a sentence", (Violation("/a", "must be set"),), 2.0, 0)
    assert str(failure) == "a sentence"


def test_every_code_is_a_code_of_its_own() -> None:
    assert len(Code) == len(Code.__members__), "equal statuses do not make aliases"
    assert {code.text.upper() for code in Code} == set(Code.__members__)
    assert all(code.text == code.text.lower() and " " not in code.text for code in Code)


@pytest.mark.parametrize("code", Code, ids=lambda code: code.text)
def test_every_code_has_a_status_of_a_failure_on_both_protocols(code: Code) -> None:
    assert 400 <= code.http <= 599
    assert code.grpc is not StatusCode.OK


@pytest.mark.parametrize(
    ("code", "http"),
    [
        (Code.NOT_FOUND, 404),
        (Code.CONFLICT, 409),
        (Code.FAILED_PRECONDITION, 409),
        (Code.ETAG_MISMATCH, 412),
        (Code.INVALID_VALUE, 422),
        (Code.ETAG_REQUIRED, 428),
        (Code.RATE_LIMITED, 429),
        (Code.QUOTA_EXCEEDED, 429),
        (Code.STORAGE_FULL, 507),
    ],
)
def test_a_state_that_forbids_is_409_and_412_is_for_etags_only(code: Code, http: int) -> None:
    assert code.http == http
    assert [other for other in Code if other.http == 412] == [Code.ETAG_MISMATCH]
