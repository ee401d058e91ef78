"""Tables are read by their cursor: every row once, whatever the cursor is and whenever rows come."""

import sqlite3
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.extractions import sinks
from services.data.reading import connector_sql, sqlite
from services.data.reading.kinds import RuleColumn, SqlRule, SqlSource
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure, Unavailable
from tests.data.reading_child import Reading

SOURCE = SqlSource("sqlite:///a.db", "t", "id")
KEY = RuleColumn("id", "id", ColumnType.STRING)
RULE = SqlRule("SELECT id FROM t", (KEY,))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "import").mkdir()
    return tmp_path / "import"


def table(root: Path, declared: str, *keys: Any) -> None:
    with sqlite3.connect(root / "a.db") as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS t (id {declared}, n INTEGER)")
        connection.executemany("INSERT INTO t (id) VALUES (?)", [(key,) for key in keys])
    connection.close()


def keys(reading: Reading) -> list[str]:
    return [row["id"] for row in reading.rows(reading.run())]


@pytest.mark.parametrize(
    ("declared", "first", "second"),
    [
        ("INTEGER PRIMARY KEY", [-(2**63), -1, 0, 1], [2, 2**63 - 1]),
        ("TEXT PRIMARY KEY", ["", " a", "!", "#1", "+1", "-1", "0", "Z"], ["a", "\u00e9", "\U0001f600"]),
        ("TEXT COLLATE NOCASE PRIMARY KEY", ["-", "a", "B"], ["c", "D"]),
        ("REAL PRIMARY KEY", [-1e300, -0.5, 0.0, 1e-300], [0.5, 1e300]),
        ("UNIQUE", [-5, 0.5, 7], ["", "a"]),
        ("VARCHAR(36) UNIQUE", ["0", "00", "1"], ["10", "2"]),
    ],
)
@pytest.mark.parametrize("page", [1, 3, 100])
def test_every_key_is_read_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, declared: str, first: list[Any], second: list[Any], page: int
) -> None:
    monkeypatch.setattr(connector_sql, "_PAGE", page)
    table(root, declared, *reversed(first))
    reading = Reading(root, SOURCE, RULE)
    seen = [keys(reading), keys(reading)]
    table(root, declared, *reversed(second))
    seen.append(keys(reading))

    assert seen == [[text(key) for key in first], [], [text(key) for key in second]]


def text(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


@settings(max_examples=25, deadline=None)
@given(
    st.sets(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4), max_size=12),
    st.data(),
)
def test_texts_are_read_once_however_they_are_divided(texts: set[str], data: st.DataObject) -> None:
    ordered = sorted(texts, key=lambda key: key.encode())
    cut = data.draw(st.integers(0, len(ordered)))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector_sql, "_PAGE", data.draw(st.integers(1, 5)))
        root = Path(folder) / "import"
        root.mkdir()
        table(root, "TEXT PRIMARY KEY", *ordered[:cut])
        reading = Reading(root, SOURCE, RULE)
        seen = keys(reading)
        table(root, "TEXT PRIMARY KEY", *ordered[cut:])
        seen += keys(reading)
    assert seen == ordered


def test_an_empty_table_has_no_cursor_yet(root: Path) -> None:
    table(root, "INTEGER PRIMARY KEY")
    reading = Reading(root, SOURCE, RULE)
    assert reading.run()["cursor"] == {"after": None}
    table(root, "INTEGER PRIMARY KEY", 0)
    assert keys(reading) == ["0"]


@pytest.mark.parametrize(("declared", "key"), [("BLOB PRIMARY KEY", b"\x01"), ("REAL PRIMARY KEY", float("inf"))])
def test_a_cursor_that_cannot_be_written_down_is_said(root: Path, declared: str, key: Any) -> None:
    table(root, declared, key)
    with pytest.raises(Failure) as caught:
        Reading(root, SOURCE, RULE).run()
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.detail == "the cursor id of t holds neither a number nor a text"


def test_rows_that_the_rule_leaves_out_move_no_cursor_and_come_no_more(root: Path) -> None:
    table(root, "INTEGER PRIMARY KEY", 1, 2, 3)
    reading = Reading(root, SOURCE, SqlRule("SELECT id FROM t WHERE id <> 3 OR n = 1", (KEY,)))
    assert keys(reading) == ["1", "2"]
    assert reading.cursor == {"after": 2}
    assert keys(reading) == []


def test_a_cursor_may_have_another_name_and_place_in_the_rows(root: Path) -> None:
    table(root, "INTEGER PRIMARY KEY", 1, 2)
    reading = Reading(root, SOURCE, SqlRule("SELECT n, id AS number FROM t"))
    assert reading.rows(reading.run()) == [{"n": None, "number": 1}, {"n": None, "number": 2}]
    assert reading.cursor == {"after": 2}


def test_names_that_need_quotes_are_quoted_everywhere(root: Path) -> None:
    with sqlite3.connect(root / "a.db") as connection:
        connection.execute('CREATE TABLE "a ""table" ("my ""key" INTEGER PRIMARY KEY, "select" TEXT)')
        connection.execute('INSERT INTO "a ""table" VALUES (1, \'x\')')
    connection.close()
    reading = Reading(root, SqlSource("sqlite:///a.db", 'a "table', 'my "key'), SqlRule('SELECT * FROM "a ""table"'))
    assert reading.rows(reading.run()) == [{'my "key': 1, "select": "x"}]


def test_progress_is_a_share_of_numbers_and_half_of_what_is_no_number(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_sql, "_PAGE", 1)
    monkeypatch.setattr(sinks, "_TELL", -1.0)
    table(root, "INTEGER PRIMARY KEY", 10, 15, 20)
    reading = Reading(root, SOURCE, RULE)
    reading.run()
    assert [message["fraction"] for message in reading.told] == [0.0, 0.5, 1.0]

    (root / "a.db").unlink()
    table(root, "TEXT PRIMARY KEY", "a", "b")
    reading.cursor = None
    reading.run()
    assert [message["fraction"] for message in reading.told] == [0.5, 0.5]


def test_a_table_that_has_lost_its_key_ends_the_run(root: Path) -> None:
    table(root, "INTEGER PRIMARY KEY", 1)
    reading = Reading(root, SOURCE, RULE)
    (root / "a.db").unlink()
    table(root, "INTEGER", 1, 1)
    with pytest.raises(Failure, match="the cursor id is not unique"):
        reading.run()


def test_values_of_another_kind_than_declared_are_put_aside(root: Path) -> None:
    table(root, "INTEGER PRIMARY KEY", 1, 2)
    with sqlite3.connect(root / "a.db") as connection:
        connection.execute("UPDATE t SET n = 'many' WHERE id = 2")
    connection.close()
    reading = Reading(root, SOURCE, SqlRule("SELECT id, n FROM t"))
    answer = reading.run()

    assert reading.rows(answer) == [{"id": 1, "n": None}]
    assert reading.broken(answer) == [('{"id": 2, "n": "many"}', "n does not fit int64", "t:2")]


def test_a_rule_for_another_cursor_is_not_run(root: Path) -> None:
    with sqlite3.connect(root / "a.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, other INTEGER UNIQUE NOT NULL)")
        connection.execute("INSERT INTO t VALUES (1, 50)")
    connection.close()
    reading = Reading(root, SOURCE, RULE)
    reading.source = SqlSource(SOURCE.url, "t", "other")

    with pytest.raises(Failure, match="made for another cursor than other: add a version to it") as caught:
        reading.run()
    assert caught.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize("stored", [False, True], ids=["written-now", "stored-before"])
def test_another_column_of_the_cursors_name_does_not_order_the_pages(
    root: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    monkeypatch.setattr(connector_sql, "_PAGE", 2)
    table(root, "INTEGER PRIMARY KEY", 1, 2, 3, 4, 5)
    columns = (RuleColumn("id", "id", ColumnType.STRING), RuleColumn("key", "key", ColumnType.STRING))
    reading = Reading(root, SOURCE, SqlRule("SELECT -id AS id, id AS key FROM t", columns))
    if stored:
        old = reading.compiled.statement.replace('ORDER BY "t"."id"', 'ORDER BY "id"')
        reading.compiled = replace(reading.compiled, statement=old)

    assert [row["key"] for row in reading.rows(reading.run())] == ["1", "2", "3", "4", "5"]


def test_a_file_that_somebody_has_locked_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY", 1)
    table(root, "INTEGER PRIMARY KEY", *range(10))
    reading = Reading(root, SOURCE, RULE)
    lock = sqlite3.connect(root / "a.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    end = threading.Timer(1.0, lock.rollback)
    end.start()

    assert keys(reading) == [str(key) for key in range(10)]
    end.join()
    lock.close()
    assert {message.get("waits") for message in reading.told} >= {"a.db is locked by somebody else"}
    assert keys(reading) == []


def test_a_lock_in_the_middle_of_a_run_doubles_no_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector_sql, "_PAGE", 3)
    table(root, "INTEGER PRIMARY KEY", *range(10))
    reading, page, failing = Reading(root, SOURCE, RULE), sqlite.page, [2, 3]

    def locked(*asked: Any) -> list[Any]:
        failing[:] = [left - 1 for left in failing]
        if 0 in failing:
            raise Unavailable("a.db is locked by somebody else")
        return page(*asked)

    monkeypatch.setattr(sqlite, "page", locked)
    assert keys(reading) == [str(key) for key in range(10)]
