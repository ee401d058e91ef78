import time

import pytest

from services.data.sql import parsing
from services.kit.errors import Code, Failure

PLAIN = [
    "SELECT f.id, CASE WHEN a > 1 THEN 2 ELSE 3 END AS x, CAST(a AS DOUBLE) FROM f JOIN w ON f.a = w.a WHERE b IN (1)",
    "WITH a AS (SELECT * FROM b) SELECT *, sum(x) OVER (PARTITION BY y ORDER BY z) FROM a UNION ALL SELECT 1, 2",
    "SELECT " + ", ".join(f"coalesce(c{i}, date(d{i}), 0) AS c{i}" for i in range(300)) + " FROM t",
    "SELECT date(date(date(x))) FROM t",
]


@pytest.mark.parametrize("sql", PLAIN)
@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_a_plain_statement_is_parsed(sql: str, dialect: str) -> None:
    assert len(parsing.parse(sql, dialect)) == 1


@pytest.mark.parametrize("word", ["date(", "char(", "decimal(", "(struct ", "id JOIN "])
@pytest.mark.parametrize("depth", [20, 100, 1500])
def test_a_tangled_statement_is_refused_at_once(word: str, depth: int) -> None:
    begin = time.process_time()
    with pytest.raises(Failure) as caught:
        parsing.parse(f"SELECT 1 FROM t WHERE {word * depth}1{')' * depth}", "sqlite")
    assert caught.value.code is Code.SQL_NOT_ALLOWED
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("sql", ["SELECT 'open", "SELECT (", "SELECT FROM WHERE", "x" * 20_001])
def test_what_is_no_statement_is_refused(sql: str) -> None:
    with pytest.raises(Failure) as caught:
        parsing.parse(sql, "sqlite")
    assert caught.value.code is Code.SQL_NOT_ALLOWED
