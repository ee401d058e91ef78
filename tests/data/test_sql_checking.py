"""What is refused of SQL, and that what was checked is what runs."""

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from services.data.sql import LONGEST, check_condition, check_query, grammar
from services.data.sql.datafusion import DataFusion
from services.kit.errors import Code, Failure


def refusal(sql: str) -> str:
    with pytest.raises(Failure) as caught:
        check_query(sql, {"t"})
    assert caught.value.code is Code.SQL_NOT_ALLOWED
    return caught.value.detail


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize(
    "part", ["'hour'', 1) = 2 OR true --'", "'epoch'", "''", "year(ts)", "'hour '", "millennium", "1", "'h\u043eur'"]
)
def test_a_part_of_a_time_is_one_of_the_known_words(part: str) -> None:
    refusal(f"SELECT EXTRACT({part} FROM ts) FROM t")


@pytest.mark.parametrize("part", ["hour", "HOUR", "'hour'", "DayOfWeek", "week", "quarter", "doy"])
def test_a_known_part_may_be_spelt_in_any_way(part: str) -> None:
    text = check_query(f"SELECT EXTRACT({part} FROM ts) AS x FROM t", {"t"}).text

    assert text.startswith("SELECT DATE_PART('")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20) | st.sampled_from(["hour') OR ('1", "day\\", "'", "''", "--", "/*", "hour\0"]))
def test_a_text_never_leaves_its_quotes(text: str) -> None:
    for sql in (
        f"SELECT EXTRACT({literal(text)} FROM ts) AS x FROM t",
        f"SELECT date_trunc({literal(text)}, ts) AS x FROM t",
        f"SELECT INTERVAL {literal(text)} AS x FROM t",
        f"SELECT {literal(text)} AS x FROM t",
    ):
        try:
            found = check_query(sql, {"t"}).text
        except Failure as failure:
            assert failure.code is Code.SQL_NOT_ALLOWED
            continue
        tree = sqlglot.parse_one(found, read=DataFusion)
        assert isinstance(tree, exp.Select)
        assert [column.alias for column in tree.expressions] == ["x"]
        assert not tree.find(exp.Or)


@pytest.mark.parametrize(
    "interval",
    ["'abc' DAY", "'1.5 days'", "a DAY", "(a) DAY", "'1 day 2 hours'", "'1-2' YEAR TO MONTH", "'1' 'day'", "'²' DAY",
     "'٣ day'", "'' DAY", "'1' FORTNIGHT", "'1_0' DAY", "'9999999999999999999' DAY"],
)  # fmt: skip
def test_an_interval_is_a_whole_number_and_a_unit(interval: str) -> None:
    refusal(f"SELECT ts + INTERVAL {interval} FROM t")
    refusal(f"SELECT sum(a) OVER (ORDER BY ts RANGE BETWEEN INTERVAL {interval} PRECEDING AND CURRENT ROW) FROM t")


@pytest.mark.parametrize(
    ("interval", "written"),
    [
        ("'2 hours'", "2 hours"),
        ("'2' HOUR", "2 hour"),
        ("-1 DAY", "-1 day"),
        ("'1'", "1 day"),
        ("'+3 weeks'", "3 weeks"),
    ],
)
def test_an_interval_is_written_in_one_way(interval: str, written: str) -> None:
    assert f"INTERVAL '{written}'" in check_query(f"SELECT ts + INTERVAL {interval} FROM t", {"t"}).text


@pytest.mark.parametrize("base", ['"2"', '"10"', "a", "3", "2.0", "-2", "''"])
def test_a_logarithm_has_a_base_that_the_engine_knows(base: str) -> None:
    assert refusal(f"SELECT log({base}, a) FROM t") == "a logarithm is ln, log2 or log10"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE t", "only SELECT is allowed"),
        ("SELECT 1; SELECT 2", "exactly one statement is allowed"),
        ("SELECT * FROM u", "the query reads u, which is not among its tables"),
        ("SELECT * FROM read_csv('x')", "is not allowed as a table"),
        ("SELECT * FROM t JOIN t AS s", "a join needs ON or USING"),
        ("SELECT random() FROM t", "the function rand is not allowed"),
        ("SELECT nosuch(a) FROM t", "the function nosuch is not allowed"),
        ("SELECT a AS x, b AS x FROM t", "the result has two columns x"),
        ("SELECT a AS __x FROM t", "the column name __x must not begin with two underscores"),
        ("SELECT CAST(a AS BLOB) FROM t", "the type "),
        ("SELECT a FROM t LIMIT -1", "LIMIT needs a whole number"),
        ("SELECT a FROM t OFFSET (SELECT 1)", "OFFSET needs a whole number"),
        ("WITH t AS (SELECT 1) SELECT * FROM t", "the name t is used twice"),
        ("SELECT a FROM t WHERE", "the text is not SQL that can be read"),
        (f"SELECT {'(' * 25}1{')' * 25}", "brackets are nested more than 24 deep"),
        ("x" * (LONGEST + 1), "the text has more than 20000 characters"),
    ],
)
def test_a_refusal_names_what_is_not_allowed(sql: str, said: str) -> None:
    assert said in refusal(sql)


@pytest.mark.parametrize(
    "condition",
    ["s = NULL", "NULL <> s", "s < (NULL)", "s = CAST(NULL AS VARCHAR)", "s = upper(NULL)", "x = 1 + NULL",
     "x >= -NULL", "s = 'a' || NULL", "s IN (NULL)", "s NOT IN ('q', NULL)", "NULL IN ('q')", "s BETWEEN NULL AND 'z'",
     "s LIKE NULL", "NULL", "NOT NULL", "NULL OR s = 'a'", "(s = NULL) IS NULL", "s = coalesce(NULL, NULL)",
     "s = TRY_CAST(NULL AS DATE)"],
)  # fmt: skip
def test_a_comparison_with_null_is_refused_with_what_to_write(condition: str) -> None:
    for sql in (
        f"SELECT id FROM t WHERE {condition} AND id = 1",
        f"SELECT count(*) AS n FROM t GROUP BY id HAVING {condition}",
        f"SELECT t.id FROM t JOIN t AS u ON {condition}",
        f"SELECT sum(CASE WHEN id = 1 AND {condition} THEN 1 END) AS n FROM t",
    ):
        assert "NULL is never true: write IS NULL or IS NOT NULL" in refusal(sql)
    with pytest.raises(Failure, match="write IS NULL"):
        check_condition(f"id = 1 OR {condition}")


@pytest.mark.parametrize(
    "condition",
    ["s IS NULL", "s IS NOT NULL", "s IS NOT DISTINCT FROM NULL", "coalesce(s, NULL) = 'a'", "s = 'NULL'",
     "CASE WHEN id = 1 THEN NULL ELSE s END = 'a'", "nullif(s, 'a') IS NULL"],
)  # fmt: skip
def test_null_may_stand_where_it_is_no_operand_of_a_comparison(condition: str) -> None:
    check_condition(condition)
    check_query(f"SELECT NULL AS nothing, id FROM t WHERE {condition}", {"t"})


@pytest.mark.parametrize(
    ("sql", "over"),
    [
        (lambda n: f"SELECT {'(' * n}1{')' * n}", grammar.BRACKETS),
        (lambda n: "SELECT a.x FROM t AS a " + " ".join(f"JOIN t AS j{i} ON a.x = j{i}.x" for i in range(n)),
         grammar.JOINED),
        (lambda n: "SELECT 1 AS a " + "UNION ALL SELECT 1 AS a " * (n - 1), grammar.SELECTS),
    ],
)  # fmt: skip
def test_a_limit_is_reached_and_not_passed(sql: object, over: int) -> None:
    assert callable(sql)
    assert check_query(sql(over), {"t"})
    refusal(sql(over + 1))


def test_a_long_name_is_told_in_short() -> None:
    name = "n" * 3000

    for sql in (f"SELECT * FROM {name}", f"SELECT {name}(a) FROM t", f"SELECT a::{name} FROM t"):
        assert len(refusal(sql)) < 200


@pytest.mark.parametrize("name", ["a b", 'q"uote', "select", "ünï", "a;b", "--", "a.b", "'"])
def test_any_column_name_can_be_asked_for_in_quotes(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'

    assert check_query(f"SELECT {quoted} FROM t", {"t"}).text == f'SELECT {quoted} AS {quoted} FROM "t"'
    assert check_condition(f"{quoted} IS NULL") == f"{quoted} IS NULL"


def test_columns_without_a_name_get_one_that_is_free() -> None:
    text = check_query("SELECT 1, 2, upper(a), upper(b), count(*) FROM t", {"t"}).text

    tree = sqlglot.parse_one(text, read=DataFusion)
    assert [column.alias for column in tree.expressions] == ["column_1", "column_2", "upper", "upper_4", "count"]


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("SELECT 1", set()),
        ("SELECT * FROM t AS u", {"t"}),
        ("WITH c AS (SELECT * FROM t) SELECT * FROM c", {"t"}),
        ("SELECT a FROM t WHERE a IN (SELECT b FROM u)", {"t", "u"}),
        ("SELECT a FROM t UNION ALL SELECT b FROM u", {"t", "u"}),
        ("SELECT (SELECT max(b) FROM u) AS m", {"u"}),
    ],
)
def test_the_tables_are_those_that_are_read(sql: str, read: set[str]) -> None:
    assert check_query(sql, {"t", "u", "unused"}).tables == read


@pytest.mark.parametrize(
    "sql", ["SELECT ifnull(a, 'x') FROM t", "SELECT hex(a), unicode(b) FROM t", "SELECT printf('%d', b) FROM t"]
)
def test_sqlite_has_functions_of_its_own(sql: str) -> None:
    assert check_query(sql, {"t"}, "sqlite").tables == {"t"}


@pytest.mark.parametrize("name", ["load_extension", "readfile", "randomblob", "zeroblob", "sqlite_version", "datetime"])
def test_sqlite_has_no_functions_that_see_more_than_their_arguments(name: str) -> None:
    with pytest.raises(Failure) as caught:
        check_query(f"SELECT {name}('x') FROM t", {"t"}, "sqlite")

    assert caught.value.code is Code.SQL_NOT_ALLOWED


@pytest.mark.parametrize(
    "text", ["hex(a) = 'x'", "a = ?", "a = :b", "a = @b", "a.b.c", "INTERVAL 'x' DAY > a", "a COLLATE b"]
)
def test_a_condition_has_the_limits_of_a_query(text: str) -> None:
    with pytest.raises(Failure) as caught:
        check_condition(text)

    assert caught.value.code is Code.SQL_NOT_ALLOWED


WORDS = ["AND", "OR", "=", "<", "+", "||", "IS NOT DISTINCT FROM"]
EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "1", "'x'", "coalesce(a, NULL)", "b", "2.5", "true"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(WORDS), inner)
        | inner.map("NOT ({})".format)
        | inner.map("coalesce({}, a)".format)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_what_was_written_is_checked_as_the_same(text: str) -> None:
    once = check_condition(text)

    assert check_condition(once) == once
    assert once in check_query(f"SELECT a FROM t WHERE {once}", {"t"}).text
