"""What is taken for a finding, and what is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import wire
from tests.fuzz.findings import Finding, Kept, Secrets
from tests.fuzz.judging import judged
from tests.fuzz.vitals import Bound, Sample, growth, rising

LIVE = b'{"status":"live"}'
KEY = "aim_abcdefgh_" + "x" * 43


def answer(status: int, body: bytes = b"", kind: bytes = b"application/problem+json") -> wire.Answer:
    return wire.Answer(status, {b"content-type": kind}, body)


def problem(status: int, code: str) -> wire.Answer:
    return answer(status, b'{"code":"%b"}' % code.encode())


@pytest.mark.parametrize(
    "wrong",
    [
        problem(500, "internal"),
        problem(503, "unavailable"),
        problem(504, "deadline_exceeded"),
        problem(422, "internal"),
        problem(422, "no_such_code"),
        answer(404, b"<h1>Not found</h1>", b"text/html"),
        answer(404, b"[]"),
        answer(404, b"Not found"),
    ],
)
def test_what_no_caller_may_see_is_a_finding(wrong: wire.Answer) -> None:
    assert judged(wrong, b"GET / HTTP/1.1", True, {LIVE})


@pytest.mark.parametrize("fine", [problem(422, "invalid_value"), answer(404), answer(200, b"{}", b"application/json")])
def test_a_problem_with_a_known_code_is_none(fine: wire.Answer) -> None:
    assert judged(fine, b"GET / HTTP/1.1", True, {LIVE}) == ""


def test_who_proved_nothing_may_see_public_answers_only() -> None:
    assert judged(answer(200, b'{"models":[]}'), b"", False, {LIVE})
    assert judged(answer(200, LIVE), b"", False, {LIVE}) == ""


def test_a_time_that_nothing_can_keep_may_be_over() -> None:
    over = problem(504, "deadline_exceeded")
    assert judged(over, b"X-Request-Timeout: 1e-9\r\n", True, {LIVE}) == ""
    assert judged(answer(504), b"HEAD / HTTP/1.1\r\nX-Request-Timeout: 1e-9\r\n", True, {LIVE}) == ""
    assert judged(problem(500, "internal"), b"X-Request-Timeout: 1e-9\r\n", True, {LIVE})


def test_what_is_signed_may_come_too_early_also_where_the_answer_has_no_body() -> None:
    early = answer(503, b'{"code":"unavailable","detail":"signed requests are taken again in 4 s"}')
    silent, signed = answer(503), b"HEAD / HTTP/1.1\r\nSignature-Input: aimass=()\r\n\r\n"
    silent.headers[b"retry-after"] = b"4"

    assert judged(early, b"GET / HTTP/1.1\r\n\r\n", True, {LIVE}) == ""
    assert judged(silent, signed, True, {LIVE}) == ""
    assert judged(silent, b"HEAD / HTTP/1.1\r\n\r\n", True, {LIVE})
    assert judged(answer(503), signed, True, {LIVE}), "who is to come again is told when"
    assert judged(silent, signed.replace(b"HEAD", b"GET"), True, {LIVE})


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
WHOLE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"
BARE = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n"


def test_answers_are_told_apart_in_a_row() -> None:
    answers, rest = wire.stream(b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + BARE + WHOLE)
    assert [(one.status, one.body) for one in answers] == [(200, b"abc"), (200, b""), (404, b"{}")]
    assert rest == b""


@pytest.mark.parametrize("size", range(len(BARE) + 1, len(BARE + LIVE)))
def test_what_has_not_come_whole_is_left(size: int) -> None:
    part = (BARE + LIVE)[:size]
    assert wire.stream(WHOLE + part)[1] == part


def test_what_is_no_answer_is_said() -> None:
    with pytest.raises(ValueError, match="no answer"):
        wire.stream(WHOLE + b"Traceback\r\n\r\n")


def samples(*memory: float) -> list[Sample]:
    return [Sample(index * 100, value, 10, 10, 0, 10) for index, value in enumerate(memory)]


@pytest.mark.parametrize(
    "settle",
    [
        lambda i: min(i, 8) * 30.0,
        lambda i: 300.0 - i,
        lambda i: 300 + 25.0 * (i % 2),
        lambda i: 200 + 2.0 * i,
    ],
    ids=["settles", "falls", "sways", "rises a little"],
)
def test_what_does_not_grow_is_no_finding(settle: Callable[[int], float]) -> None:
    assert rising(samples(*map(settle, range(20))), Bound()) == []


@pytest.mark.parametrize("grow", [lambda i: 100 + 10.0 * i, lambda i: 100 + 10.0 * i + 7 * (i % 2)])
def test_what_grows_is_a_finding(grow: Callable[[int], float]) -> None:
    found = rising(samples(*map(grow, range(20))), Bound())
    assert len(found) == 1
    assert found[0].startswith(("memory rises by 70", "memory rises by 63"))


def test_one_look_says_nothing_of_growth() -> None:
    assert growth(samples(100.0), "memory") == 0.0


def test_a_finding_is_kept_without_its_secrets_and_played_with_those_of_another_day(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "findings", lambda: Secrets(KEY))
    data = b"GET / HTTP/1.1\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n"
    kept.add(Finding("http", 1, 7, f"who is {KEY}?", data))

    stored = kept.where(kept.found[0]).read_bytes()
    assert KEY.encode() not in stored + (tmp_path / "findings" / "http-1-7.txt").read_bytes()
    other = KEY.replace("x", "y")
    assert Secrets(other).show(stored) == data.replace(KEY.encode(), other.encode())
