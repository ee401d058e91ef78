"""What the child makes of a query, called as its parent calls it but in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import deltalake
import pyarrow as pa
import pytest

from services.data.datasets import work
from services.data.datasets.rows import MOST_BYTES
from services.data.sql import check_query
from services.kit.errors import Code, Failure

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    home = tmp_path_factory.mktemp("query")
    table = pa.table({"id": range(1, 4001), "text": ["é" * 500] * 4000})
    deltalake.write_deltalake(str(home / "t"), table.slice(0, 3))
    deltalake.write_deltalake(str(home / "t"), table.slice(3), mode="append")

    def answer(sql: str, most: int = 100, version: int = 1, name: str = "t") -> dict[str, Any]:
        tables = {name: {"uri": str(home / "t"), "version": version}}
        request = {"sql": check_query(sql, {name}).text, "tables": tables, "start": 0, "max_rows": most}
        found: dict[str, Any] = json.loads(json.dumps(work.main(request, cast(Any, None))))
        return found

    return answer


def ids(found: dict[str, Any]) -> list[int]:
    return [row["id"] for row in found["rows"]]


@pytest.mark.parametrize(("most", "truncated"), [(1, True), (3999, True), (4000, False), (4001, False)])
def test_an_answer_is_cut_when_there_is_more(ask: Ask, most: int, truncated: bool) -> None:
    found = ask("SELECT id FROM t ORDER BY id", most)

    assert (ids(found), found["truncated"]) == (list(range(1, min(most, 4000) + 1)), truncated)


def test_an_answer_of_no_rows_has_columns(ask: Ask) -> None:
    found = ask("SELECT id, text FROM t WHERE id < 0")

    assert (found["rows"], found["truncated"]) == ([], False)
    assert found["columns"] == [["id", "int64"], ["text", "string"]]


def test_an_answer_of_large_rows_is_cut_by_its_bytes(ask: Ask) -> None:
    found = ask("SELECT * FROM t ORDER BY id", 4000)

    assert found["truncated"]
    assert 1000 < len(found["rows"]) < 4000
    assert len(json.dumps(found["rows"], ensure_ascii=False).encode()) < MOST_BYTES


def test_a_row_that_no_answer_can_hold_is_refused_and_not_left_out(ask: Ask) -> None:
    large = "REPLACE(REPLACE(text, 'é', text), 'é', 'ééééé')"
    few = ask(f"SELECT id, CASE WHEN id > 1 THEN {large} END AS large FROM t WHERE id < 3 ORDER BY id")
    with pytest.raises(Failure, match="row 1 of the answer is larger than 3 MiB") as caught:
        ask(f"SELECT {large} AS large FROM t WHERE id = 2")

    assert (ids(few), few["truncated"], caught.value.code) == ([1], True, Code.LIMIT_EXCEEDED)


def test_a_version_is_read_as_it_was(ask: Ask) -> None:
    assert ids(ask("SELECT id FROM t ORDER BY id", version=0)) == [1, 2, 3]


def test_a_table_may_have_a_name_with_a_hyphen(ask: Ask) -> None:
    assert ask('SELECT count(*) AS n FROM "my-t"', name="my-t")["rows"] == [{"n": 4000}]


def test_values_come_as_json_can_say_them(ask: Ask) -> None:
    sql = """
        SELECT 9007199254740993 AS big, 0.0 / 0.0 AS nan, 1.0 / 0.0 AS inf, NULL AS nothing, id = 1 AS yes,
               TIMESTAMP '2013-01-01 05:00:00' AS t, DATE '2013-01-01' AS d, 'é' || chr AS s
        FROM (SELECT id, '"' AS chr FROM t ORDER BY id LIMIT 1) AS q
    """
    found = ask(sql)

    assert found["rows"] == [
        {
            "big": "9007199254740993",
            "nan": "NaN",
            "inf": "Infinity",
            "nothing": None,
            "yes": True,
            "t": "2013-01-01T05:00:00Z",
            "d": "2013-01-01",
            "s": 'é"',
        }
    ]
    assert dict(found["columns"])["nothing"] == "string"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT nosuch FROM t", Code.QUERY_INVALID),
        ("SELECT * FROM t AS a JOIN t AS b ON a.id = b.id", Code.QUERY_INVALID),
        ("SELECT id, id AS ID FROM t", Code.QUERY_INVALID),
        ("SELECT 1 / (id - id) AS x FROM t", Code.QUERY_INVALID),
        ("SELECT CAST(text AS DATE) AS x FROM t", Code.QUERY_INVALID),
        ("SELECT sum(text) AS x FROM t", Code.QUERY_INVALID),
        ("SELECT id FROM t WHERE id", Code.QUERY_INVALID),
        ("SELECT id FROM t GROUP BY text", Code.QUERY_INVALID),
        ("SELECT id FROM t LIMIT 99999999999999999999999", Code.QUERY_INVALID),
        ("SELECT date() AS x FROM t", Code.QUERY_INVALID),
        ("SELECT (id, id) AS x FROM t", Code.FAILED_PRECONDITION),
        ("SELECT INTERVAL '1 day' AS x FROM t", Code.FAILED_PRECONDITION),
    ],
)
def test_what_cannot_be_answered_is_the_callers_failure(ask: Ask, sql: str, code: Code) -> None:
    with pytest.raises(Failure) as caught:
        ask(sql)

    assert caught.value.code is code
    assert "/" not in caught.value.detail
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 400


def test_the_same_query_gives_the_same_rows_in_the_same_order(ask: Ask) -> None:
    sql = "SELECT id % 97 AS k, count(*) AS n FROM t GROUP BY id % 97"

    assert ask(sql) == ask(sql)


def test_no_word_of_a_refusal_tells_where_tables_lie(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        ask(f'SELECT "{tmp_path}" FROM t')

    assert str(tmp_path) not in caught.value.detail
