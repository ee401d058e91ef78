"""What a client makes of an answer that is no success, whoever wrote it."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass import Failure, Violation
from aimass.failures import of_problem

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("code", "detail", "violations", "request_id", "retry_after_ms", "committed_size", "status")


def failed(document: Any, status: int = 422, **headers: str) -> Failure:
    return of_problem(status, orjson.dumps(document), {key.replace("_", "-"): v for key, v in headers.items()})


@given(st.integers(400, 599), st.dictionaries(st.sampled_from(NAMES), json), st.text(max_size=8))
def test_no_document_breaks_it(status: int, document: dict[str, Any], header: str) -> None:
    try:
        body = orjson.dumps(document)
    except TypeError:
        return  # what JSON cannot write, nobody sends
    found = of_problem(status, body, {"retry-after": header})

    assert found.status == status
    assert found.retry_after is None or found.retry_after >= 0


@given(st.binary(max_size=50))
def test_any_bytes_of_an_answer_become_a_failure(body: bytes) -> None:
    assert of_problem(502, body, {}).status == 502


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'"x"', b"{}", b'{"detail": "x"}', b"\xff", b"{"])
def test_what_is_no_problem_document_is_internal_and_named_by_its_status(body: bytes) -> None:
    found = of_problem(502, body, {})

    assert (found.code, found.detail) == ("internal", "the server answered with status 502")


@pytest.mark.parametrize(
    ("milliseconds", "header", "seconds"),
    [
        (1500, "", 1.5),
        (1500, "9", 1.5),
        (0, "9", 9.0),
        (None, "2.5", 2.5),
        (None, "", None),
        (None, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        (None, "-5", None),
        (None, "nan", None),
        (None, "inf", None),
        ("soon", "", None),
        ([], "3", 3.0),
    ],
)
def test_how_long_to_wait_is_in_the_document_or_in_the_header(
    milliseconds: Any, header: str, seconds: float | None
) -> None:
    document = {"code": "rate_limited", "retry_after_ms": milliseconds}

    assert failed(document, 429, retry_after=header).retry_after == seconds


def test_violations_are_pointers_and_rules() -> None:
    found = failed({"code": "invalid_value", "violations": [{"pointer": "/a", "rule": "must be set"}, {"detail": "x"}]})

    assert found.violations == (Violation("/a", "must be set"), Violation("", "x"))


@pytest.mark.parametrize("violations", [None, 7, "x", {"pointer": "/a"}, ["x", None, 7]])
def test_violations_that_are_none_are_passed_over(violations: Any) -> None:
    assert failed({"code": "invalid_value", "violations": violations}).violations == ()


@pytest.mark.parametrize(("said", "size"), [(7, 7), ("7", 7), (None, 0), ("x", 0), (-3, 0), (2**40, 2**40)])
def test_a_wrong_offset_says_what_is_stored(said: Any, size: int) -> None:
    assert failed({"code": "wrong_offset", "committed_size": said}, 416).committed_size == size


def test_the_request_is_named_by_the_document_or_by_the_header() -> None:
    assert failed({"code": "x", "request_id": "r-1"}, x_request_id="r-2").request_id == "r-1"
    assert failed({"code": "x"}, x_request_id="r-2").request_id == "r-2"
    assert failed({"code": "x"}).request_id == ""


def test_a_failure_reads_as_a_sentence_with_its_code() -> None:
    assert str(Failure("not_found", "there is no model late")) == "not_found: there is no model late"
    assert str(Failure("not_found", "no", request_id="r-1")) == "not_found: no (request r-1)"


def test_a_failure_says_nothing_that_nobody_said() -> None:
    found = Failure("no_key", "no key is known")

    assert (found.status, found.request_id, found.retry_after, found.committed_size) == (0, "", None, 0)
    assert found.violations == ()
