"""The keys of an ORDER BY as columns of the result: an engine forgets the order of a part of a query."""

import pytest

from services.data.sql import check_query


def order(sql: str) -> list[str]:
    found = check_query(sql, {"t", "u"})
    assert found.part == found.text
    return [" ".join(key.split()[:-2]) if "NULLS" in key else key for key in found.order]


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        ("SELECT a, b FROM t", []),
        ("SELECT a, b FROM t ORDER BY b DESC, a", ['"b" DESC', '"a"']),
        ("SELECT * FROM t ORDER BY b", ['"b"']),
        ("SELECT *, -a AS z FROM t ORDER BY z, b", ['"z"', '"b"']),
        ("SELECT a AS x, b FROM t ORDER BY x", ['"x"']),
        ("SELECT a AS x, b FROM t ORDER BY a", ['"x"']),
        ("SELECT a AS b, b AS a FROM t ORDER BY a", ['"a"']),
        ("SELECT t.a, u.b FROM t JOIN u ON t.a = u.a ORDER BY u.b, t.a", ['"b"', '"a"']),
        ("SELECT t.a AS x FROM t JOIN u ON t.a = u.a ORDER BY t.a", ['"x"']),
        ("SELECT * FROM t ORDER BY t.a", ['"a"']),
        ("SELECT a, b FROM t ORDER BY 2, 1 DESC", ['"b"', '"a" DESC']),
        ("SELECT a FROM t UNION ALL SELECT b FROM u ORDER BY a", ['"a"']),
        ("SELECT a, b FROM t UNION ALL SELECT b, a FROM u ORDER BY 2", ['"b"']),
        ("WITH c AS (SELECT a FROM t ORDER BY b) SELECT a FROM c ORDER BY a", ['"a"']),
        ("SELECT k, count(*) AS n FROM t GROUP BY k ORDER BY n DESC, k", ['"n" DESC', '"k"']),
    ],
)
def test_a_key_that_is_a_column_of_the_result_is_told_by_its_name(sql: str, keys: list[str]) -> None:
    assert order(sql) == keys


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t ORDER BY b",
        "SELECT a FROM t ORDER BY a, b",
        "SELECT a FROM t ORDER BY a + 1",
        "SELECT a FROM t ORDER BY 2",
        "SELECT *, a AS z FROM t ORDER BY 2",
        "SELECT t.* FROM t JOIN u ON t.a = u.a ORDER BY b",
        "SELECT * FROM t JOIN u USING (a) ORDER BY u.b",
        "SELECT *, -a AS a FROM t ORDER BY t.a",
        "SELECT k, count(*) AS n FROM t GROUP BY k ORDER BY count(*)",
        "SELECT a FROM t UNION ALL SELECT b FROM u ORDER BY b",
    ],
)
def test_an_order_by_anything_else_is_made_to_last(sql: str) -> None:
    found = check_query(sql, {"t", "u"})

    assert found.order == ()
    assert found.part == f"{found.text} LIMIT {2**63 - 1}"


@pytest.mark.parametrize("end", ["LIMIT 5", "LIMIT 5 OFFSET 2"])
def test_an_order_that_a_limit_depends_on_lasts_by_itself(end: str) -> None:
    found = check_query(f"SELECT a FROM t ORDER BY b {end}", {"t"})

    assert (found.order, found.part) == ((), found.text)


def test_where_nulls_stand_is_part_of_a_key() -> None:
    first, last = check_query("SELECT a, b FROM t ORDER BY a NULLS FIRST, b DESC NULLS LAST", {"t"}).order

    assert (first, last) == ('"a" NULLS FIRST', '"b" DESC NULLS LAST')


@pytest.mark.parametrize("sql", ["SELECT a FROM t ORDER BY b", "SELECT a FROM t"])
def test_sqlite_gets_the_text_alone(sql: str) -> None:
    found = check_query(sql, {"t"}, "sqlite")

    assert (found.order, found.part) == ((), found.text)
