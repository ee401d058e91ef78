"""What the child makes of a step, called as its parent calls it but in this process."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.child import Child
from services.kit.errors import Code, Failure
from tests.data.steps import Step

ROWS = {"id": [3, 1, 2, 4], "delay": [1.0, None, 30.0, -5.0], "carrier": ["UA", "DL", "it's", None]}


@pytest.fixture
def child() -> Iterator[Child]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Child(ours)


@pytest.fixture
def step(tmp_path: Path, child: Child) -> Step:
    return Step(tmp_path, child)


def test_a_result_is_written_with_what_was_found_in_it(step: Step) -> None:
    step.add(ROWS)
    found = step.run("SELECT id, delay FROM raw ORDER BY id")

    assert [row["id"] for row in step.rows(found["files"])] == [1, 2, 3, 4]
    assert found["columns"] == [["id", "int64"], ["delay", "double"]]
    assert [(s["column"], s["nulls"], s["minimum"]) for s in found["statistics"]] == [
        ("id", 0, "1"),
        ("delay", 1, "-5.0"),
    ]
    assert (found["quarantined"], found["excluded"], found["quarantine"], found["cursor"]) == ({}, {}, [], None)


def test_the_first_condition_that_is_true_decides(step: Step) -> None:
    step.add(ROWS)
    found = step.run(
        "SELECT * FROM raw ORDER BY id",
        quarantine={"negative": "delay < 0", "nobody": "carrier IS NULL"},
        exclude={"cancelled": "delay IS NULL", "late": "delay > 15", "all": "id > 2"},
    )

    assert found["quarantined"] == {"negative": 1}
    assert found["excluded"] == {"cancelled": 1, "late": 1, "all": 1}
    assert found["files"] == []
    (broken,) = step.rows(found["quarantine"])
    assert json.loads(broken["record"]) == {"id": 4, "delay": -5.0, "carrier": None}
    assert (broken["reason"], broken["origin"]) == ("negative", "out:4")


def test_a_condition_that_is_unknown_does_not_hold(step: Step) -> None:
    step.add({"id": [1], "delay": [None]})

    assert (
        step.run("SELECT id, CAST(delay AS DOUBLE) AS delay FROM raw", exclude={"late": "delay > 15"})["excluded"] == {}
    )


def test_a_cursor_sorts_and_goes_on_behind_its_last_value(step: Step) -> None:
    step.add(ROWS)
    first = step.run(cursor="id", exclude={"last": "id = 4"})
    assert ([row["id"] for row in step.rows(first["files"])], first["cursor"]) == ([1, 2, 3], 4)

    step.add({"id": [6, 5], "delay": [1.0, 2.0], "carrier": ["UA", "UA"]})
    second = step.run(cursor="id", after=first["cursor"])
    assert ([row["id"] for row in step.rows(second["files"])], second["cursor"]) == ([5, 6], 6)
    third = step.run(cursor="id", after=second["cursor"])
    assert (third["files"], third["cursor"], third["statistics"][0]["numbers"]) == ([], 6, 0)


def test_text_in_a_cursor_stays_text(step: Step) -> None:
    step.add({"k": ["a' OR '1'='1", "b"]})
    first = step.run(cursor="k", exclude={"b": "k = 'b'"})
    assert first["cursor"] == "b"
    assert step.run(cursor="k", after="a' OR '1'='1")["cursor"] == "b"
    assert step.run(cursor="k", after="zz")["files"] == []


def test_a_time_is_compared_to_the_microsecond(step: Step) -> None:
    at = datetime(2013, 1, 1, 5, 0, 0, 999, tzinfo=UTC)
    step.add({"t": [at]})
    first = step.run(cursor="t")
    step.add({"t": [at + timedelta(microseconds=1)]})
    second = step.run(cursor="t", after=first["cursor"])

    assert (first["cursor"], sum(file["rows"] for file in second["files"])) == ("2013-01-01T05:00:00.000999+00:00", 1)


@pytest.mark.parametrize(
    ("sql", "cursor", "code", "text"),
    [
        ("SELECT delay FROM raw", "id", Code.FAILED_PRECONDITION, "has no column id to be the cursor"),
        ("SELECT * FROM raw", "delay", Code.FAILED_PRECONDITION, "holds double, which cannot be a cursor"),
        ("SELECT 1 AS id FROM raw", "id", Code.FAILED_PRECONDITION, "the cursor id of out has a value twice"),
        ("SELECT nullif(id, 2) AS id FROM raw", "id", Code.FAILED_PRECONDITION, "is NULL in a row"),
        ("SELECT nosuch FROM raw", "", Code.QUERY_INVALID, "No field named"),
        ("SELECT id, id + 1 AS ID FROM raw", "", Code.QUERY_INVALID, "the column ID is there twice"),
        ("SELECT INTERVAL '1 day' AS i FROM raw", "", Code.FAILED_PRECONDITION, "which no column can have"),
        ("SELECT CAST(carrier AS BIGINT) AS n FROM raw", "", Code.QUERY_INVALID, "Cannot cast string"),
    ],
)
def test_what_cannot_be_a_version_is_refused(step: Step, sql: str, cursor: str, code: Code, text: str) -> None:
    step.add(ROWS)
    with pytest.raises(Failure, match=text) as caught:
        step.run(sql, cursor=cursor)

    assert caught.value.code is code
    assert "/" not in caught.value.detail


def test_a_cursor_must_go_up_across_batches_as_well(step: Step) -> None:
    count = 70_000
    step.add({"id": [*range(count), count - 1]})

    with pytest.raises(Failure, match="has a value twice"):
        step.run(cursor="id")


def test_many_rows_come_in_order(step: Step) -> None:
    step.add({"id": list(range(150_000, 0, -1))})
    found = step.run(cursor="id")

    assert [row["id"] for row in step.rows(found["files"])] == list(range(1, 150_001))
    assert found["statistics"][0]["minimum"] == "1"


@settings(max_examples=12, deadline=None)
@given(parts=st.lists(st.integers(1, 6), min_size=1, max_size=4), odd=st.booleans())
def test_runs_that_follow_each_other_add_up_to_one(
    parts: list[int], odd: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        step = Step(tmp_path_factory.mktemp("step"), Child(ours))
        exclude = {"odd" if odd else "even": f"id % 2 = {int(odd)}"}
        kept, counted, last, start = list[int](), 0, None, 0
        for size in parts:
            step.add({"id": list(range(start, start + size))})
            start += size
            found = step.run(cursor="id", after=last, exclude=exclude)
            kept += [row["id"] for row in step.rows(found["files"])]
            counted, last = counted + sum(found["excluded"].values()), found["cursor"]
        whole = step.run(cursor="id", exclude=exclude)

    assert [row["id"] for row in step.rows(whole["files"])] == kept
    assert sum(whole["excluded"].values()) == counted
    assert kept == [n for n in range(sum(parts)) if n % 2 != int(odd)]
