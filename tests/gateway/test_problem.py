import orjson
import pytest

from services.gateway.api import problem
from services.kit.errors import Code, Failure, Violation


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_its_document(code: Code) -> None:
    found = problem.document(Failure(code, "late is not there"), "/v1/models/late", "r1")

    assert (found["status"], found["code"]) == (code.http, code.text)
    assert found["type"].endswith(code.text)
    assert found["title"]
    assert found["detail"] == "late is not there"
    assert (found["instance"], found["request_id"]) == ("/v1/models/late", "r1")


def test_what_is_wrong_and_how_long_to_wait_is_told() -> None:
    failure = Failure(Code.RATE_LIMITED, "too often", [Violation("/a", "must not")], retry_after=0.25)
    found = orjson.loads(problem.dump(failure, "/v1", "r1"))

    assert found["violations"] == [{"pointer": "/a", "rule": "must not"}]
    assert found["retry_after_ms"] == 250
    assert (b"retry-after", b"1") in problem.headers(failure)


def test_clients_of_the_open_inference_protocol_find_their_error() -> None:
    failure = Failure(Code.NOT_FOUND, "there is no model late")

    assert problem.document(failure, "/v2/models/late", "r1")["error"] == "there is no model late"
    assert "error" not in problem.document(failure, "/v1/models/late", "r1")


def test_text_that_is_no_unicode_does_not_stop_an_answer() -> None:
    failure = Failure(Code.NOT_FOUND, "there is no \ud800")

    assert orjson.loads(problem.dump(failure, "/\udfff", "r1"))["instance"] == "/?"
