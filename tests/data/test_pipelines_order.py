"""Rows of a step stand in the order that its SQL asks for, and a cursor goes on after any value."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.errors import Code, Failure
from tests.data.steps import Step

ROWS = {"id": [3, 1, 2, 4], "g": [1, 2, 1, 2], "n": [None, 5, 1, 3]}


class Silent:
    """A parent that is told nothing."""

    def progress(self, message: dict[str, Any]) -> None: ...


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Step:
    step = Step(tmp_path_factory.mktemp("order"), cast(Any, Silent()))
    step.add(ROWS)
    return step


@pytest.fixture
def step(tmp_path: Path) -> Step:
    return Step(tmp_path, cast(Any, Silent()))


def ids(step: Step, sql: str, **said: Any) -> list[int]:
    return [row["id"] for row in step.rows(step.run(sql, **said)["files"])]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT id FROM raw ORDER BY g, id", [2, 3, 1, 4]),
        ("SELECT r.id, r.g FROM raw AS r ORDER BY r.g, id DESC", [3, 2, 4, 1]),
        ("SELECT r.id, r.g AS x FROM raw AS r ORDER BY r.g DESC, r.id", [1, 4, 2, 3]),
        ("SELECT id, g FROM raw ORDER BY g + 0, id DESC", [3, 2, 4, 1]),
        ("SELECT g, id FROM raw ORDER BY 1, 2 DESC", [3, 2, 4, 1]),
        ("SELECT id FROM raw ORDER BY g DESC, id LIMIT 3", [1, 4, 2]),
        ("SELECT id FROM raw ORDER BY n", [2, 4, 1, 3]),
        ("SELECT id, n FROM raw ORDER BY n NULLS FIRST", [3, 2, 4, 1]),
        ("SELECT a.id FROM raw AS a JOIN raw AS b ON a.id = b.id ORDER BY b.g, b.id", [2, 3, 1, 4]),
        ("SELECT id FROM raw UNION ALL SELECT id + 10 FROM raw ORDER BY id DESC LIMIT 5", [14, 13, 12, 11, 4]),
        ("SELECT max(id) AS id FROM raw GROUP BY g ORDER BY count(*), max(n)", [3, 4]),
    ],
)
def test_rows_stand_as_they_were_asked_for(stored: Step, sql: str, expected: list[int]) -> None:
    assert ids(stored, sql) == expected


def test_rows_that_are_left_out_do_not_disturb_the_order(stored: Step) -> None:
    found = stored.run("SELECT id FROM raw ORDER BY g, id", exclude={"two": "id = 2"}, quarantine={"four": "id = 4"})

    assert [row["id"] for row in stored.rows(found["files"])] == [3, 1]
    (broken,) = stored.rows(found["quarantine"])
    assert (broken["record"], broken["origin"]) == ('{"id":4}', "out:4")


def test_a_cursor_sorts_whatever_the_sql_asks_for(stored: Step) -> None:
    assert ids(stored, "SELECT id FROM raw ORDER BY g DESC", cursor="id", after=1) == [2, 3, 4]


@settings(max_examples=20, deadline=None)
@given(texts=st.sets(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=2, max_size=5))
def test_a_text_of_any_kind_is_a_place_to_go_on(texts: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    step = Step(tmp_path_factory.mktemp("texts"), cast(Any, Silent()))
    ordered = sorted(texts)
    step.add({"k": ordered[::-1]})
    for place, text in enumerate(ordered):
        found = step.run(cursor="k", after=text)
        assert [row["k"] for row in step.rows(found["files"])] == ordered[place + 1 :]


@pytest.mark.parametrize("year", [1, 13, 999, 1677, 1969, 2262, 9999])
def test_a_time_of_any_year_is_a_place_to_go_on(step: Step, year: int) -> None:
    at = datetime(year, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
    times = [at, at + timedelta(microseconds=1)]
    step.add(pa.table({"t": pa.array(times, pa.timestamp("us", tz="UTC"))}))
    first = step.run(cursor="t", after=(at - timedelta(microseconds=1)).isoformat() if year > 1 else None)
    second = step.run(cursor="t", after=at.isoformat())

    assert first["cursor"] == second["cursor"] == times[1].isoformat()
    assert [row["t"] for row in step.rows(second["files"])] == times[1:]


@pytest.mark.parametrize("year", [1, 999, 1970, 9999])
def test_a_date_of_any_year_is_a_place_to_go_on(step: Step, year: int) -> None:
    days = [date(year, 3, 4), date(year, 3, 5)]
    step.add({"d": days})

    assert [row["d"] for row in step.rows(step.run(cursor="d", after=str(days[0]))["files"])] == days[1:]


@pytest.mark.parametrize("last", [-(2**63), -(2**53) - 1, 0, 2**53 + 1, 2**63 - 2])
def test_a_number_of_any_size_is_a_place_to_go_on(step: Step, last: int) -> None:
    step.add({"id": [last, last + 1]})
    found = step.run(cursor="id", after=last)

    assert (step.rows(found["files"]), found["cursor"]) == ([{"id": last + 1}], last + 1)


def test_a_cursor_may_have_any_name(step: Step) -> None:
    step.add({'a "b" c': [1, 2], "SELECT": [3, 4]})

    assert step.run(cursor='a "b" c', after=1)["cursor"] == 2
    assert step.run(cursor="SELECT", after=3)["cursor"] == 4


def test_a_row_without_a_cursor_is_not_passed_over(step: Step) -> None:
    step.add({"id": [1, 2, None]})

    with pytest.raises(Failure, match="the cursor id of out is NULL in a row") as caught:
        step.run(cursor="id", after=2)
    assert caught.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize("condition", ["nosuch > 1", "id + 'x' > 1", "CAST('x' AS BIGINT) = id", "1 / (id - id) = 1"])
def test_a_condition_that_cannot_be_computed_fails_the_step(stored: Step, condition: str) -> None:
    with pytest.raises(Failure) as caught:
        stored.run("SELECT id FROM raw", exclude={"odd": condition})

    assert caught.value.code is Code.QUERY_INVALID
    assert "/" not in caught.value.detail


def test_a_condition_may_ask_for_columns_of_any_name(step: Step) -> None:
    step.add({'a "b"': [1, 2], "CASE": ["x", "y"]})
    found = step.run('SELECT "a ""b""", "CASE" FROM raw', exclude={"one": '"a ""b""" = 1', "y": "\"CASE\" = 'y'"})

    assert found["excluded"] == {"one": 1, "y": 1}


def test_no_rows_are_a_result_with_columns(step: Step) -> None:
    step.add(ROWS)
    found = step.run("SELECT id, g FROM raw WHERE id > 9", cursor="id")

    assert (found["files"], found["quarantine"], found["cursor"]) == ([], [], None)
    assert found["columns"] == [["id", "int64"], ["g", "int64"]]
    assert [(s["nulls"], s["distinct"], s["minimum"]) for s in found["statistics"]] == [(0, 0, "")] * 2


@pytest.mark.parametrize("micros", [-(2**62), -62_135_596_800_000_001, 253_402_300_800_000_000, 2**62])
def test_a_time_that_cannot_be_told_is_no_cursor(step: Step, micros: int) -> None:
    step.add(pa.table({"id": [1], "t": pa.array([micros], pa.timestamp("us", tz="UTC"))}))

    with pytest.raises(Failure, match="the cursor t of out has a time outside of the years 1 to 9999") as caught:
        step.run(cursor="t")
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert step.run(cursor="id")["cursor"] == 1
