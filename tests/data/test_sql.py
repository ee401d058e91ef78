"""What SQL of a caller may do, and what the engine makes of it."""

import time
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.engine import Engine
from services.data.sql import check_condition, check_query
from services.kit.errors import Code, Failure

HOSTILE = """
DROP TABLE t
DELETE FROM t
INSERT INTO t VALUES (1)
INSERT INTO t SELECT * FROM t
UPDATE t SET a = 1
MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE
TRUNCATE TABLE t
CREATE TABLE x AS SELECT * FROM t
CREATE VIEW x AS SELECT * FROM t
CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'
CREATE FUNCTION f() RETURNS INT AS 'x'
ALTER TABLE t ADD COLUMN b INT
GRANT ALL ON t TO PUBLIC
COPY t TO '/tmp/x.csv'
COPY (SELECT * FROM t) TO '/tmp/x.csv'
ATTACH DATABASE '/etc/passwd' AS p
DETACH p
PRAGMA table_info(t)
SET datafusion.execution.batch_size = 1
SET x = 1
SHOW TABLES
DESCRIBE t
EXPLAIN SELECT * FROM t
USE other
CALL something()
EXECUTE IMMEDIATE 'SELECT 1'
BEGIN
COMMIT
VACUUM
LOAD 'x.so'
INSTALL httpfs
SELECT * FROM t; DROP TABLE t
SELECT * FROM t; SELECT * FROM t
SELECT * FROM '/etc/passwd'
SELECT * FROM "/etc/passwd"
SELECT * FROM read_parquet('x')
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM read_text('/etc/passwd')
SELECT * FROM parquet_scan('x')
SELECT * FROM generate_series(1, 1000000000)
SELECT * FROM range(10)
SELECT * FROM unnest([1, 2, 3])
SELECT * FROM t, LATERAL (SELECT 1)
SELECT * FROM information_schema.tables
SELECT * FROM other.t
SELECT * FROM a.b.t
SELECT * FROM u
SELECT * FROM T
SELECT * FROM t, t AS s
SELECT * FROM t CROSS JOIN t AS s
SELECT * FROM t NATURAL JOIN t AS s
SELECT * FROM t JOIN t AS s
SELECT * FROM t POSITIONAL JOIN t AS s
SELECT * FROM t ASOF JOIN t AS s ON t.a >= s.a
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r
WITH t AS (SELECT 1) SELECT * FROM t
WITH x AS (SELECT 1), x AS (SELECT 2) SELECT * FROM x
WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
SELECT * INTO x FROM t
SELECT * FROM t FOR UPDATE
SELECT * FROM t TABLESAMPLE (10 PERCENT)
SELECT * FROM t LIMIT (SELECT 1)
SELECT * FROM t PIVOT (SUM(a) FOR b IN ('x'))
SELECT * EXCLUDE (a) FROM t
SELECT * REPLACE (1 AS a) FROM t
SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1
SELECT DISTINCT ON (a) a FROM t
SELECT random() FROM t
SELECT now() FROM t
SELECT current_timestamp FROM t
SELECT current_user FROM t
SELECT version() FROM t
SELECT uuid() FROM t
SELECT sleep(10) FROM t
SELECT pg_sleep(10) FROM t
SELECT load_extension('x') FROM t
SELECT readfile('/etc/passwd') FROM t
SELECT getenv('HOME') FROM t
SELECT system('ls') FROM t
SELECT repeat('a', 1000000000) FROM t
SELECT lpad('a', 1000000000) FROM t
SELECT regexp_replace(s, '(a+)+b', '') FROM t
SELECT s ~ '(a+)+b' FROM t
SELECT array_agg(a) FROM t
SELECT [1, 2, 3] FROM t
SELECT {'a': 1} FROM t
SELECT a::STRUCT(x INT) FROM t
SELECT CAST(a AS BLOB) FROM t
SELECT CAST(a AS VARCHAR(20)) FROM t
SELECT @@version
SELECT @x
SELECT ? FROM t
SELECT :name FROM t
SELECT log(a) FROM t
SELECT a AS x, b AS x FROM t
SELECT a AS __reason FROM t
SELECT INTERVAL '1' CENTURY FROM t
SELECT extract(epoch FROM a) FROM t
SELECT t.a.b.c FROM t
SELECT (SELECT a FROM u) FROM t
SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u)
SELECT a FROM t UNION SELECT a FROM u
VALUES (1)
a = 1
SELECT
SELECT * FROM
SELECT 'open FROM t
SELECT /* open FROM t
)(
""".strip().splitlines()
TOO_MUCH = [
    "",
    " ",
    ";",
    "SELECT " + "(" * 30 + "1" + ")" * 30,
    "SELECT " + "NOT " * 4000 + "1",
    "SELECT " + "+".join(["1"] * 2400),
    "SELECT " + "x" * 20_001,
    "SELECT " + ", ".join(["1"] * 6000),
    "SELECT 1 " + "UNION ALL SELECT 1 " * 50,
    "SELECT * FROM t AS t0 " + " ".join(f"JOIN t AS t{i} ON t0.a = t{i}.a" for i in range(1, 15)),
    "WITH " + ", ".join(f"a{i} AS (SELECT 1)" for i in range(50)) + " SELECT 1",
]
# Query, and the first row that it gives.
ALLOWED: list[tuple[str, tuple[Any, ...]]] = [
    ("SELECT count(*) AS n, count(s), count(DISTINCT k) FROM t", (3, 2, 2)),
    ("SELECT id, CASE WHEN x > 1 THEN 'big' ELSE 'small' END FROM t ORDER BY id", (1, "small")),
    ("SELECT CASE k WHEN 1 THEN 'one' END FROM t ORDER BY id", ("one",)),
    ("SELECT t.id, u.v FROM t LEFT JOIN u ON t.k = u.k AND t.id < u.id ORDER BY t.id", (1, "p")),
    ("SELECT t.id, u.id AS other FROM t JOIN u USING (k) ORDER BY t.id DESC", (2, 7)),
    ("SELECT u.v FROM t RIGHT JOIN u ON t.k = u.k WHERE t.id IS NULL", ("q",)),
    ("SELECT count(*) FROM t FULL OUTER JOIN u ON t.k = u.k", (4,)),
    ("WITH a AS (SELECT k FROM t), c AS (SELECT a.k FROM a) SELECT max(c.k) FROM c", (2,)),
    ("SELECT q.n FROM (SELECT count(*) AS n FROM t GROUP BY k) AS q ORDER BY q.n DESC", (2,)),
    ("SELECT id FROM t WHERE k IN (SELECT k FROM u) AND EXISTS (SELECT 1 FROM u WHERE u.k = t.k) ORDER BY 1", (1,)),
    ("SELECT k FROM t UNION SELECT id FROM u ORDER BY k DESC", (8,)),
    ("SELECT k FROM t EXCEPT SELECT k FROM u", (2,)),
    ("SELECT k FROM t INTERSECT SELECT k FROM u", (1,)),
    ("SELECT upper(s), length(s), substr(s, 1, 1), s || '!', trim(' a '), replace(s, 'a', 'b') FROM t ORDER BY id",
     ("A", 1, "a", "a!", "a", "b")),
    ("SELECT left(s, 1), concat(s, 'x'), starts_with(s, 'a'), contains(s, 'z'), coalesce(NULL, s) FROM t ORDER BY id",
     ("a", "ax", True, False, "a")),
    ("SELECT extract(hour FROM ts), hour(ts), year(ts), day_of_week(ts), date(ts) = DATE '2013-01-01' FROM t "
     "ORDER BY id",
     (5, 5, 2013, 2, True)),
    ("SELECT ts > TIMESTAMP '2013-01-01 04:00:00', ts + INTERVAL '2 hours' > TIMESTAMP '2013-01-01 06:30:00' FROM t "
     "ORDER BY id", (True, True)),
    ("SELECT count(*) FROM t WHERE date_trunc('day', ts) = TIMESTAMP '2013-01-01'", (1,)),
    ("SELECT 7 / 2, 7.0 / 2, 7 % 4, -k, 2 * (k + 1), power(k, 2), abs(-1), round(2.55, 1) FROM t ORDER BY id",
     (3, 3.5, 3, -1, 4, 1.0, 1, 2.6)),
    ("SELECT sqrt(4.0), log10(100.0), log2(8.0), ln(1.0), exp(0.0), floor(1.5), ceil(1.5), sign(-2.0), greatest(1, 2)",
     (2.0, 2.0, 3.0, 0.0, 1.0, 1.0, 2.0, -1.0, 2)),
    ("SELECT CAST('12' AS BIGINT), TRY_CAST('x' AS INT), CAST(1 AS VARCHAR), CAST(1 AS DOUBLE)", (12, None, "1", 1.0)),
    ("SELECT x IS NULL, is_nan(x), x IS NOT DISTINCT FROM NULL FROM t ORDER BY id", (False, False, False)),
    ("SELECT x FROM t WHERE is_nan(x)", (pytest.approx(float("nan"), nan_ok=True),)),
    ("SELECT count(*) FROM t WHERE x IS NULL", (1,)),
    ("SELECT avg(k) > 1.3, sum(k), min(s), max(s), stddev(id), median(id), bool_or(b), bool_and(b) FROM t",
     (True, 4, "a", "c", 1.0, 2.0, True, False)),
    ("SELECT count(*) FILTER (WHERE b) FROM t", (1,)),
    ("SELECT row_number() OVER (PARTITION BY k ORDER BY id DESC), "
     "lag(id) OVER (ORDER BY id), rank() OVER (ORDER BY k), "
     "sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY id", (2, None, 1, 1)),
    ("SELECT s FROM t WHERE s LIKE 'c%' OR s IN ('z') OR k NOT BETWEEN 0 AND 9", ("c",)),
    ("SELECT id FROM t ORDER BY x DESC NULLS LAST LIMIT 1 OFFSET 1", (1,)),
    ("SELECT DISTINCT k FROM t ORDER BY k", (1,)),
    ("SELECT k, count(*) AS n FROM t GROUP BY 1 HAVING count(*) > 1", (1, 2)),
    ("SELECT b FROM t JOIN \"b\" ON t.k = b.k ORDER BY t.id", (True,)),
    ("SELECT 'it''s' -- a comment", ("it's",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    home = tmp_path_factory.mktemp("tables")
    hours = pa.array([1357016400000000, None, 1359676800000000], pa.timestamp("us", tz="UTC"))
    t = pa.table({
        "id": [1, 2, 3], "k": [1, 1, 2], "s": ["a", None, "c"], "x": [1.0, float("nan"), None], "ts": hours,
        "b": [True, False, None],
    })  # fmt: skip
    u = pa.table({"id": [7, 8], "k": [1, 3], "v": ["p", "q"]})
    for name, table in (("t", t), ("u", u), ("b", u)):
        deltalake.write_deltalake(str(home / name), table)
    return Engine({name: {"uri": str(home / name), "version": 0} for name in ("t", "u", "b")})


@pytest.mark.parametrize("sql", HOSTILE)
def test_what_is_more_than_reading_named_tables_is_refused(sql: str) -> None:
    with pytest.raises(Failure) as caught:
        check_query(sql, {"t"})

    assert caught.value.code is Code.SQL_NOT_ALLOWED


@pytest.mark.parametrize("sql", TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_what_is_too_much_is_refused_at_once(sql: str) -> None:
    begin = time.process_time()
    with pytest.raises(Failure) as caught:
        check_query(sql, {"t"})

    assert caught.value.code is Code.SQL_NOT_ALLOWED
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(("sql", "first"), ALLOWED, ids=range(len(ALLOWED)))
def test_the_engine_answers_what_is_allowed(engine: Engine, sql: str, first: tuple[Any, ...]) -> None:
    result = engine.run(check_query(sql, {"t", "u", "b"}).text)

    table = pa.concat_tables([*result.batches()])
    assert len(result.columns()) == len(first)
    assert tuple(column[0].as_py() for column in table.columns) == first


def test_columns_of_the_same_name_keep_to_their_tables(engine: Engine) -> None:
    sql = 'SELECT t.id AS a, u.id AS b, w.id AS c FROM t JOIN u ON t.k = u.k JOIN "b" AS w ON u.v = w.v ORDER BY t.id'
    (batch,) = engine.run(check_query(sql, {"t", "u", "b"}).text).batches()

    assert batch.to_pylist() == [{"a": 1, "b": 7, "c": 7}, {"a": 2, "b": 7, "c": 7}]


def test_a_check_names_the_tables_and_the_order() -> None:
    found = check_query('SELECT a, b FROM "my-t" AS x ORDER BY a DESC, b', {"my-t", "other"})

    assert found.tables == {"my-t"}
    assert [key.partition(" ")[0] for key in found.order] == ['"a"', '"b"']


def test_what_runs_has_no_comment_of_the_caller() -> None:
    assert "secret" not in check_query("SELECT 1 /* secret */ -- secret\n FROM t", {"t"}).text


@pytest.mark.parametrize(
    "text", ["arr_delay IS NULL", "a > 1 AND NOT (b = 'x' OR c)", "CASE WHEN a THEN b ELSE c END", "a IN (1, 2)"]
)
def test_a_condition_is_an_expression_over_columns(text: str) -> None:
    assert check_condition(check_condition(text)) == check_condition(text)


@pytest.mark.parametrize(
    "text",
    ["", "1; 2", "a) OR (1 = 1", "t.a = 1", "max(a) > 1", "a IN (SELECT 1)", "EXISTS (SELECT 1)", "SELECT 1", "a AS b",
     "row_number() OVER () = 1", "*", "random() > 0", "a, b", "DROP TABLE t", "count(*) FILTER (WHERE a)"],
)  # fmt: skip
def test_a_condition_that_is_more_is_refused(text: str) -> None:
    with pytest.raises(Failure) as caught:
        check_condition(text)

    assert caught.value.code is Code.SQL_NOT_ALLOWED


def test_sqlite_gets_its_own_text() -> None:
    assert (
        check_query("SELECT ifnull(a, 0) AS a FROM t", {"t"}, "sqlite").text
        == 'SELECT COALESCE("a", 0) AS "a" FROM "t"'
    )


def test_the_engine_says_what_it_refuses(engine: Engine) -> None:
    with pytest.raises(Failure, match="No field named nosuch") as caught:
        engine.run(check_query("SELECT nosuch FROM t", {"t"}).text)

    assert caught.value.code is Code.QUERY_INVALID


def test_a_value_that_cannot_be_computed_is_the_callers_failure(engine: Engine) -> None:
    with pytest.raises(Failure, match="Cannot cast string 'a'") as caught:
        list(engine.run(check_query("SELECT CAST(s AS BIGINT) FROM t", {"t"}).text).batches())

    assert caught.value.code is Code.QUERY_INVALID


def test_two_columns_of_one_name_are_refused(engine: Engine) -> None:
    with pytest.raises(Failure, match="there twice: name it with AS"):
        engine.run(check_query("SELECT * FROM t JOIN u ON t.k = u.k", {"t", "u"}).text).columns()


WORDS = """
    SELECT FROM WHERE t u a b ( ) , * = < 1 'x' AND OR NOT JOIN ON UNION ALL WITH AS INTO SET count sum read_csv
    RECURSIVE LIMIT ORDER BY GROUP OVER PARTITION CASE WHEN THEN END CAST INT NULL IS IN EXISTS ; . - + / :: [ ] { } $1
    INSERT UPDATE DELETE DROP COPY TO VALUES LATERAL FOR
"""


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=30).map(" ".join) | st.text(max_size=60))
def test_any_text_is_either_refused_or_reads_only_its_tables(text: str) -> None:
    for sql in (text, f"SELECT {text} FROM t", f"SELECT a FROM t WHERE {text}"):
        try:
            found = check_query(sql, {"t"})
        except Failure as failure:
            assert failure.code is Code.SQL_NOT_ALLOWED
            continue
        assert found.tables <= {"t"}
        assert check_query(found.text, {"t"}).text == found.text
