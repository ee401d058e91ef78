"""The engine answers batch by batch, reads the version it is told, and says what it refuses without telling on us."""

from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from services.data.engine import Engine, named
from services.data.schema import Column, ColumnType
from services.data.sql import check_query
from services.kit.errors import Code, FailedPrecondition, Failure

COUNT = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("engine")
    deltalake.write_deltalake(str(home / "t"), pa.table({"id": range(COUNT), "Id-2": ["x"] * COUNT}))
    deltalake.write_deltalake(str(home / "t"), pa.table({"id": [-1], "Id-2": ["y"]}), mode="append")
    return home


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine({name: {"uri": str(folder / "t"), "version": number} for number, name in enumerate(("old", "new-t"))})


def ids(engine: Engine, sql: str) -> list[int]:
    text = check_query(sql, {"old", "new-t"}).text
    return [number for batch in engine.run(text).batches() for number in batch["id"].to_pylist()]


@pytest.mark.parametrize("rows", [1, 5_000, COUNT, COUNT + 1, 10 * COUNT])
def test_rows_come_in_batches_of_about_the_size_asked_for(engine: Engine, rows: int) -> None:
    batches = list(engine.run("SELECT id FROM old ORDER BY id").batches(rows))

    assert [number for batch in batches for number in batch["id"].to_pylist()] == list(range(COUNT))
    assert all(batch.num_rows >= min(rows, 1) for batch in batches)
    assert len(batches) <= 1 + COUNT // rows


def test_no_rows_are_no_batches_with_columns(engine: Engine) -> None:
    result = engine.run("SELECT id, 1.5 AS half FROM old WHERE id < 0")

    assert result.columns() == (Column("id", ColumnType.INT64), Column("half", ColumnType.DOUBLE))
    assert list(result.batches()) == []


def test_two_versions_of_a_table_are_two_tables(engine: Engine) -> None:
    assert ids(engine, 'SELECT n.id FROM "new-t" AS n LEFT JOIN old AS o ON n.id = o.id WHERE o.id IS NULL') == [-1]


def test_the_case_of_names_counts(engine: Engine) -> None:
    assert ids(engine, "SELECT id FROM old WHERE \"Id-2\" = 'y'") == []
    with pytest.raises(Failure, match="No field named"):
        ids(engine, 'SELECT "ID" AS id FROM old')


def test_the_order_is_the_same_each_time(engine: Engine) -> None:
    sql = "SELECT id % 7 AS id FROM old GROUP BY id % 7"

    assert ids(engine, sql) == ids(engine, sql)
    assert ids(engine, "SELECT id FROM old") == list(range(COUNT))


def test_a_column_that_is_left_out_is_not_checked(engine: Engine) -> None:
    result = engine.run("SELECT id, id + 1 AS __place FROM old")

    assert [column.name for column in result.columns(but="__place")] == ["id"]
    with pytest.raises(Failure, match="name it with AS") as caught:
        result.columns()
    assert caught.value.code is Code.QUERY_INVALID


def test_what_fails_on_a_later_row_fails_when_it_is_read(engine: Engine) -> None:
    result = engine.run(f"SELECT 1 / (id - {COUNT - 1}) AS x FROM old")

    with pytest.raises(Failure, match="Divide by zero") as caught:
        list(result.batches(1))
    assert caught.value.code is Code.QUERY_INVALID


def test_a_type_that_no_column_has_is_named(engine: Engine) -> None:
    with pytest.raises(FailedPrecondition, match="the column x has the type struct"):
        engine.run("SELECT (id, id) AS x FROM old").columns()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it cannot be computed"),
        ("\n \n", "it cannot be computed"),
        ("Error during planning: no", "no"),
        ("External error: Arrow error: Cast error: no", "no"),
        ("one\ntwo\nthree", "one two"),
        ("outer caused by\ninner", "inner"),
        ("cannot read /srv/tables/t/part.parquet now", "cannot read a file now"),
        ("object at file:///srv/x: gone", "object at a file gone"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_what_the_engine_says_is_told_in_one_line_without_places(text: str, said: str) -> None:
    failure = named(Exception(text))

    assert (failure.code, failure.detail) == (Code.QUERY_INVALID, f"the engine refuses the query: {said}")


@pytest.mark.parametrize("error", [OSError("disk"), MemoryError(), Failure(Code.CONFLICT, "no")])
def test_what_is_not_about_the_query_is_not_blamed_on_it(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        named(error)

    assert caught.value is error


@pytest.mark.parametrize("count", [0, 1, 30])
def test_an_engine_has_the_tables_it_was_given_and_no_other(folder: Path, count: int) -> None:
    engine = Engine({f"t{number}": {"uri": str(folder / "t"), "version": 0} for number in range(count)})

    assert [batch["n"].to_pylist() for batch in engine.run("SELECT 1 AS n").batches()] == [[1]]
    with pytest.raises(Failure) as caught:
        engine.run(f"SELECT * FROM t{count}")
    assert caught.value.code is Code.QUERY_INVALID


@pytest.mark.parametrize(
    "condition",
    [
        "id = 1 AND nullif(1, 1) = id",
        "id = 1 AND CASE WHEN 1 = 2 THEN id END = 2",
        "id = 1 AND TRY_CAST('x' AS BIGINT) = id",
        "id = 1 AND (nullif(1, 1) = id) = true",
        "id = 1 AND id NOT IN (2, nullif(1, 1))",
        "id = 1 AND (id IS NULL OR nullif(1, 1) = 4)",
        "id = 1 AND id IN (SELECT u.id FROM (SELECT id, nullif(1, 1) AS n FROM old) AS u WHERE u.id = 1 AND u.n = 2)",
    ],
)
def test_a_condition_that_comes_to_be_null_takes_no_row(engine: Engine, condition: str) -> None:
    assert ids(engine, f"SELECT id FROM old WHERE {condition}") == []
    assert ids(engine, f"SELECT id FROM old WHERE ({condition}) OR id = 7") == [7]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x.id FROM (SELECT id, nullif(1, 1) AS n FROM old) AS x WHERE x.id = 1 AND x.n = 2",
        "SELECT x.id FROM (SELECT id, CAST(NULL AS BIGINT) AS n FROM old) AS x WHERE x.id = 1 AND x.n = 2",
        "SELECT a.id FROM old AS a JOIN old AS b ON a.id = b.id AND a.id = nullif(1, 1)",
        "SELECT id FROM old GROUP BY id HAVING id = 1 AND nullif(1, 1) = id",
        "SELECT x.id FROM (SELECT id, nullif(1, 1) AS n FROM old) AS x WHERE x.id = 1 AND x.n = x.id",
        "WITH x AS (SELECT id, CAST(NULL AS BIGINT) AS n FROM old) SELECT id FROM x WHERE id = 1 AND n = id",
        "SELECT x.id FROM (SELECT id, NULL AS n FROM old) AS x JOIN old ON x.n = x.id AND old.id = x.id AND x.id = 1",
        "SELECT id FROM (SELECT id, nullif(1, 1) AS n FROM old) AS x JOIN (SELECT id AS other FROM old) AS o "
        "ON other = id AND n = id AND id = 1",
        "SELECT o.id FROM old AS o LEFT JOIN (SELECT id FROM old WHERE 1 = 2) AS p ON o.id = p.id "
        "WHERE o.id = 1 AND p.id = o.id",
        "SELECT o.id FROM old AS o LEFT JOIN (SELECT id FROM old LIMIT 0) AS p ON o.id = p.id "
        "WHERE o.id = 1 AND abs(p.id) > 0",
        "WITH p AS (SELECT id FROM old WHERE id IN (1) AND id IN (2)) SELECT o.id FROM old AS o LEFT JOIN p "
        "ON o.id = p.id WHERE o.id = 1 AND NOT p.id = 3",
        "SELECT o.id FROM (SELECT id FROM old LIMIT 0) AS e JOIN old AS b ON e.id = b.id RIGHT JOIN old AS o "
        "ON o.id = b.id WHERE o.id = 1 AND b.id = o.id",
    ],
)
def test_a_column_that_is_null_in_all_rows_takes_no_row(engine: Engine, sql: str) -> None:
    assert ids(engine, sql) == []


def test_keys_of_joins_stay_keys_where_something_may_be_null(engine: Engine) -> None:
    sql = "SELECT id, nullif(1, 1) AS n FROM old JOIN (SELECT id AS other FROM old) AS o ON other = id"
    plan = engine.run(f"EXPLAIN {check_query(sql, {'old'}).text}")

    assert "HashJoinExec" in str([batch.to_pydict() for batch in plan.batches()])
    assert ids(engine, f"{sql} WHERE id = 7") == [7]


def test_statistics_of_a_table_leave_out_its_rows_also_beside_a_side_that_may_be_empty(engine: Engine) -> None:
    sql = (
        "SELECT o.id FROM old AS o LEFT JOIN (SELECT id FROM old WHERE id < 9) AS p ON o.id = p.id "
        "WHERE o.id = 7 AND p.id IS NULL AND (p.id > 5 OR o.id > p.id)"
    )
    text = check_query(sql, {"old"}).text

    assert text.count("IS TRUE") == 1
    assert 'WHERE "o"."id" = 7 AND "p"."id" IS NULL' in text
    filtered = "SELECT count(*) FILTER (WHERE id < 3) AS n, nullif(1, 1) AS no FROM old"
    assert [batch["n"].to_pylist() for batch in engine.run(check_query(filtered, {"old"}).text).batches()] == [[3]]


def test_conditions_that_cannot_come_to_be_null_are_left_as_they_are() -> None:
    sql = "SELECT id FROM old WHERE id > 1 + 2 AND id < CAST('9' AS INT) AND CASE id WHEN 1 THEN NULL ELSE 1 END = 1"

    assert "IS TRUE" not in check_query(sql, {"old"}).text
