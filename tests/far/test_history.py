"""The judge of bad days is fair: it says apart what is no fault of who was asked, and what is."""

from typing import Any, cast

import pytest

from tests.far.history import Line, judge


def line(status: int) -> Line:
    return {"kind": "prediction", "name": "1", "status": status, "took": 0.1, "said": "why"}


@pytest.mark.parametrize(
    ("statuses", "wrong"),
    [
        ([200, 429, 503, 504], []),
        ([200, 0], ["1 of 2 requests ended without an answer"]),
        ([500, 502], ["2 of 2 requests ended as internal: why"]),
        ([0, 500], ["1 of 2 requests ended without an answer", "1 of 2 requests ended as internal: why"]),
    ],
)
def test_requests_without_an_answer_and_those_that_ended_as_internal_are_told_apart(
    statuses: list[int], wrong: list[str]
) -> None:
    nobody_is_asked = cast(Any, None)  # a history of predictions says everything

    assert judge(nobody_is_asked, [line(status) for status in statuses]) == wrong
