"""The first records of a source: what a preview and a test of a rule see."""

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from services.data.reading import connector_files, extractor, samples, sqlite
from services.data.reading.connector_sql import SqlConnector
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, FileFormat, FilesSource, RuleColumn, SqlSource
from services.data.schema import Column, ColumnType
from services.kit.errors import Code, Failure

TABLE = SqlSource("sqlite:///a.db", "t", "id")
CSV = FilesSource(FileFormat.CSV, "*.csv", null_values=("NA",))
JSON = FilesSource(FileFormat.JSON_LINES, "*.jsonl")
TEXT = FilesSource(FileFormat.TEXT, "*.log")
INT64, DOUBLE, STRING, BOOL = ColumnType.INT64, ColumnType.DOUBLE, ColumnType.STRING, ColumnType.BOOL


def place(root: Path, steps: str) -> Place:
    return Place(root, tuple(steps.split("/")))


def database(root: Path, columns: str, *rows: tuple[Any, ...]) -> Place:
    with sqlite3.connect(root / "a.db") as connection:
        connection.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})")
        for row in rows:
            connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(row))})", row)
    connection.close()
    return place(root, "a.db")


@pytest.mark.parametrize(
    ("declared", "values", "kind", "nullable"),
    [
        ("INTEGER", [1, 2], INT64, False),
        ("INTEGER", [1, None], INT64, True),
        ("INTEGER", [1, "many"], STRING, False),
        ("INTEGER", [1, 2.5], DOUBLE, False),
        ("BOOLEAN", [0, 1], BOOL, False),
        ("BOOLEAN", [0, 7], INT64, False),
        ("REAL", [None], DOUBLE, True),
        ("TEXT", ["1", "2"], STRING, False),
        ("TEXT", ["2013-01-01", None], ColumnType.DATE, True),
        ("TEXT", ["2013-01-01 10:00:00"], ColumnType.TIMESTAMP, False),
        ("DATETIME", ["yesterday"], STRING, False),
        ("", [1, 2], INT64, False),
        ("", [1, 2.5, None], DOUBLE, True),
        ("", ["a", 1], STRING, False),
        ("", [], STRING, False),
    ],
)
def test_a_table_suggests_the_types_that_its_values_keep_to(
    tmp_path: Path, declared: str, values: list[Any], kind: ColumnType, nullable: bool
) -> None:
    where = database(tmp_path, f"x {declared}", *enumerate(values))
    shown = connector(TABLE).preview(where, 10)
    assert shown.columns == (Column("id", INT64, False), Column("x", kind, nullable))
    assert [record["x"] for record in shown.records] == values


def test_a_preview_has_no_more_records_than_asked_for(tmp_path: Path) -> None:
    where = database(tmp_path, "x", *((i, i) for i in range(50)))
    assert len(connector(TABLE).preview(where, 7).records) == 7
    (tmp_path / "a.log").write_text("line\n" * 500)
    assert len(connector(TEXT).preview(place(tmp_path, "*.log"), 101).records) == 101


def test_parts_are_named_in_order_and_not_all_of_many(tmp_path: Path) -> None:
    for i in range(105):
        (tmp_path / f"{i:03}.log").write_text("x\n")
    shown = connector(TEXT).preview(place(tmp_path, "*.log"), 3)
    assert (shown.parts[0], shown.parts[-1], len(shown.parts)) == ("000.log", "099.log", 100)


def test_files_with_other_fields_are_one_sample(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    (tmp_path / "b.csv").write_text("b,c\ny,NA\n")
    shown = connector(CSV).preview(place(tmp_path, "*.csv"), 10)

    assert shown.records == ({"a": "1", "b": "x"}, {"b": "y", "c": "NA"})
    assert shown.columns == (Column("a", INT64, True), Column("b", STRING, False), Column("c", STRING, True))


@pytest.mark.parametrize(
    ("values", "kind", "nullable"),
    [
        (["1", "2"], INT64, False),
        (["1", ""], INT64, True),
        (["1", "NA", "2.5"], DOUBLE, True),
        (["true", "false"], BOOL, False),
        (["0", "1"], INT64, False),
        (["NA", ""], STRING, True),
    ],
)
def test_fields_suggest_types_without_what_means_missing(
    tmp_path: Path, values: list[str], kind: ColumnType, nullable: bool
) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{value},\n" for value in values))
    assert connector(CSV).preview(place(tmp_path, "a.csv"), 10).columns[0] == Column("x", kind, nullable)


def test_documents_suggest_types_by_field_and_keep_empty_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1, "b": "", "c": [1]}\n{"a": 2.5, "b": null}\n')
    shown = connector(JSON).preview(place(tmp_path, "a.jsonl"), 10)
    assert shown.columns == (Column("a", DOUBLE, False), Column("b", STRING, True), Column("c", STRING, True))


def test_broken_records_are_left_out_of_a_preview(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('no\n[1]\n{"a": 1}\n')
    assert connector(JSON).preview(place(tmp_path, "a.jsonl"), 10).records == ({"a": 1},)


def test_a_sample_is_bounded_in_bytes_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_files, "_BYTES", 1000)
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text("x" * 99 + "\n" + ("y" * 9 + "\n") * 1000)
    found = connector(TEXT).preview(place(tmp_path, "*.log"), 5000).records
    assert 0 < len(found) < 1000


def test_a_sample_of_a_table_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_SAMPLE", 2500)
    there = database(tmp_path, "said TEXT", *((n, "x" * 1000) for n in range(10)))
    statement = f'SELECT "id", hex("said") AS "said" FROM "t" WHERE {sqlite.paging(TABLE)}'
    compiled = Compiled((RuleColumn("id", "id", INT64), RuleColumn("said", "said", STRING)), statement)

    assert len(SqlConnector(TABLE).preview(there, 10).records) == 3
    assert len(list(SqlConnector(TABLE).tries(there, compiled, 10))) == 2


def test_a_sample_is_bounded_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SECONDS", -1.0)
    (tmp_path / "a.log").write_text("x\n" * 500)
    with pytest.raises(Failure) as caught:
        connector(TEXT).preview(place(tmp_path, "a.log"), 400)
    assert caught.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("steps", "says"),
    [("*.log", r"\*\.log matches no file"), ("a.log", "there is no a.log"), ("x/*.log", "matches no file")],
)
def test_a_place_without_files_is_said(tmp_path: Path, steps: str, says: str) -> None:
    for work in (connector(TEXT).look, lambda where: connector(TEXT).preview(where, 1)):
        with pytest.raises(Failure, match=says):
            work(place(tmp_path, steps))


def test_a_look_describes_a_table_and_opens_files(tmp_path: Path) -> None:
    table = SqlConnector(TABLE).look(database(tmp_path, "x TEXT, y"))
    (tmp_path / "a.log").write_text("")
    assert table.columns == (("id", INT64), ("x", STRING), ("y", None))
    connector(TEXT).look(place(tmp_path, "a.log"))


def test_tries_give_records_and_what_is_no_record_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2\n")
    compiled = Compiled((RuleColumn("a", "a", INT64),))
    broken, good = sorted(
        connector(CSV).tries(place(tmp_path, "a.csv"), compiled, 10), key=lambda tried: not tried.reason
    )

    assert (broken.shown(), broken.reason) == ("2", "the record has another number of fields than the header")
    assert (good.shown(), good.extractor.row(good.record)) == ('{"a": "1", "b": "x"}', (1,))


@pytest.mark.parametrize(
    ("source", "compiled", "record", "row"),
    [
        (TEXT, Compiled((RuleColumn("n", "n", INT64),), pattern=r"n=(?P<n>\d+)"), "n=5", (5,)),
        (JSON, Compiled((RuleColumn("n", "$.n", INT64),), paths=(("n",),)), {"n": 5}, (5,)),
        (CSV, Compiled((RuleColumn("n", "n", INT64),)), ["5"], (5,)),
        (CSV, Compiled((RuleColumn("n", "n", INT64),)), ["NA"], (None,)),
        (CSV, Compiled((RuleColumn("n", "n", INT64),)), [""], (None,)),
    ],
)
def test_each_kind_of_rule_has_its_extractor(source: FilesSource, compiled: Compiled, record: Any, row: Any) -> None:
    assert extractor.of(compiled, ["n"], source.null_values).row(record) == row


def test_tries_of_a_table_run_the_statement_that_extractions_run(tmp_path: Path) -> None:
    where = database(tmp_path, "x TEXT", (1, "a"), (2, "b"))
    statement = 'SELECT "x" AS "y" FROM "t" WHERE "id" >= :first AND "id" IS NOT :after ORDER BY "id" LIMIT :rows'
    found = connector(TABLE).tries(where, Compiled((RuleColumn("y", "y", STRING),), statement), 1)
    assert [tried.extractor.row(tried.record) for tried in itertools.islice(found, 5)] == [("a",)]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ('SELECT "x" FROM "t" WHERE', None),
        ('SELECT "none" AS y FROM "t" WHERE none = 1 AND', Code.INVALID_VALUE),
        ("SELECT sql, 1 AS id FROM sqlite_master WHERE", Code.SQL_NOT_ALLOWED),
        ("DELETE FROM t WHERE id IN (SELECT id FROM t WHERE", Code.FAILED_PRECONDITION),
    ],
)
def test_a_statement_is_compiled_by_the_database_before_it_is_kept(
    tmp_path: Path, statement: str, code: Code | None
) -> None:
    where = database(tmp_path, "x TEXT")
    statement = f"{statement} {sqlite.paging(TABLE)}" + ")" * statement.count("(")
    if code is None:
        SqlConnector(TABLE).prepare(where, Compiled((), statement))
        return
    with pytest.raises(Failure) as caught:
        SqlConnector(TABLE).prepare(where, Compiled((), statement))
    assert caught.value.code is code
