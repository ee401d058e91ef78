"""SELECTs over versions, answered by real children."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.support.house import House, house
from tests.support.refused import refused


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data", AIMASS_DATA_QUERY_SECONDS="3") as running:
        await add(running, "flights", {"id": [1, 2], "carrier": ["UA", "DL"]}, append=True)
        await add(running, "flights", {"id": [3, 4], "carrier": ["UA", "AA"], "gate": ["A", "B"]}, append=True)
        await add(running, "numbers", {"n": list(range(3000))})
        yield running


@pytest.fixture
def ask(home: House) -> Any:
    async def answer(sql: str, *tables: tuple[str, str, int], **said: Any) -> Any:
        named = [pb.QueryTable(alias=alias, data_set=data_set, version=v) for alias, data_set, v in tables]
        request = pb.QueryDataSetsRequest(sql=sql, tables=named or [pb.QueryTable(data_set="flights")], **said)
        return await home.stub(DataSetsStub, "data").QueryDataSets(request)

    return answer


async def test_a_query_answers_rows_and_their_columns(ask: Any) -> None:
    found = await ask("SELECT carrier, count(*) AS n, max(gate) AS gate FROM flights GROUP BY carrier ORDER BY carrier")

    assert [dict(row) for row in found.rows] == [
        {"carrier": "AA", "n": 1, "gate": "B"},
        {"carrier": "DL", "n": 1, "gate": None},
        {"carrier": "UA", "n": 2, "gate": "A"},
    ]  # fmt: skip
    assert [(c.name, c.type) for c in found.schema.columns] == [("carrier", 4), ("n", 2), ("gate", 4)]
    assert not found.truncated


async def test_versions_can_be_compared_by_their_names(ask: Any) -> None:
    sql = "SELECT (SELECT count(*) FROM old) AS before, (SELECT count(*) FROM latest) AS after"
    found = await ask(sql, ("old", "flights", 1), ("latest", "flights", 0))

    assert dict(found.rows[0]) == {"before": 2, "after": 4}


async def test_an_answer_ends_where_it_was_told_to(ask: Any) -> None:
    few = await ask("SELECT n FROM numbers ORDER BY n", ("", "numbers", 0), max_rows=2)
    usual = await ask("SELECT n FROM numbers ORDER BY n", ("", "numbers", 0))
    most = await ask("SELECT n FROM numbers ORDER BY n DESC", ("", "numbers", 0), max_rows=5000)

    assert [(len(found.rows), found.truncated) for found in (few, usual, most)] == [
        (2, True),
        (100, True),
        (1000, True),
    ]
    assert most.rows[0]["n"] == 2999


async def test_pages_are_of_the_versions_of_the_first(home: House, ask: Any) -> None:
    sql, table, found, token = "SELECT n FROM numbers WHERE n % 2 = 0 ORDER BY n DESC", ("", "numbers", 0), [], ""
    sizes = list[int]()
    while token or not sizes:
        page = await ask(sql, table, max_rows=700, page_token=token)
        token, sizes = page.next_page_token, [*sizes, len(page.rows)]
        found += [int(row["n"]) for row in page.rows]
        await add(home, "numbers", {"n": [1, 2]})

    assert (sizes, found) == ([700, 700, 100], list(range(2998, -1, -2)))
    assert not page.truncated
    assert [row["n"] for row in (await ask(sql, table)).rows] == [2]


async def test_a_token_is_of_one_query(ask: Any) -> None:
    sql, table = "SELECT n FROM numbers", ("", "numbers", 0)
    token = (await ask(sql, table, max_rows=1)).next_page_token

    assert [row["n"] for row in (await ask(sql, table, max_rows=1, page_token=token)).rows] == [1]
    for other, tables in ((f"{sql} WHERE n > 1", [table]), (sql, [("numbers", "flights", 0)]), (sql, [table] * 2)):
        assert (await refused(ask(other, *tables, page_token=token))).code is Code.INVALID_VALUE
    assert (await refused(ask(sql, table, page_token="x"))).violations[0].pointer == "/page_token"


WRONG = [
    ("DROP TABLE flights", Code.SQL_NOT_ALLOWED),
    ("SELECT * FROM numbers", Code.SQL_NOT_ALLOWED),
    ("SELECT nosuch FROM flights", Code.QUERY_INVALID),
    ("SELECT CAST(carrier AS BIGINT) FROM flights", Code.QUERY_INVALID),
    ("SELECT * FROM flights AS a JOIN flights AS b ON a.id = b.id", Code.QUERY_INVALID),
]


async def test_a_wrong_query_is_the_callers_failure(ask: Any) -> None:
    for sql, code in WRONG:
        with pytest.raises(Failure) as caught:
            await ask(sql)
        assert caught.value.code is code
        assert "/" not in caught.value.detail


async def test_a_query_that_takes_too_long_is_stopped(ask: Any) -> None:
    sql = " JOIN ".join(["SELECT count(*) FROM numbers AS a", *(f"numbers AS {x} ON {x}.n >= 0" for x in "bcd")])

    with pytest.raises(Failure, match="took longer than 3 s") as caught:
        await ask(sql, ("", "numbers", 0))
    assert caught.value.code is Code.LIMIT_EXCEEDED


async def test_names_must_differ_and_numbers_must_be_right(ask: Any) -> None:
    with pytest.raises(Failure, match="two tables are called x"):
        await ask("SELECT 1", ("x", "flights", 1), ("x", "flights", 2))
    with pytest.raises(Failure, match="max_rows is negative"):
        await ask("SELECT 1", max_rows=-1)
    with pytest.raises(Failure, match="flights has no version 7"):
        await ask("SELECT 1 FROM flights", ("", "flights", 7))
