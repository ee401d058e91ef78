import sqlite3
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from services.data.reading import sqlite
from services.data.reading.kinds import SqlRule, SqlSource
from services.data.reading.select import compile_select
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure

SOURCE = SqlSource("sqlite:///a.db", "flights", "id")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make(
        tmp_path / "a.db",
        "CREATE TABLE flights (id INTEGER PRIMARY KEY, name TEXT, delay REAL, at DATETIME, ok BOOLEAN)",
    )
    make(tmp_path / "a.db", "INSERT INTO flights VALUES (1, 'a', 1.5, NULL, 1), (5, 'b', NULL, NULL, 0)")
    make(tmp_path / "a.db", "CREATE TABLE secret (id INTEGER PRIMARY KEY, word TEXT)")
    return tmp_path / "a.db"


def make(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def opened(path: Path, seconds: float = 5) -> AbstractContextManager[sqlite3.Connection]:
    return sqlite.opened(path.parent, (path.name,), seconds)


def test_a_table_is_described(path: Path) -> None:
    with opened(path) as connection:
        table = sqlite.describe(connection, SOURCE)
    kinds = [ColumnType.INT64, ColumnType.STRING, ColumnType.DOUBLE, ColumnType.TIMESTAMP, ColumnType.BOOL]
    assert table.columns == tuple(zip(["id", "name", "delay", "at", "ok"], kinds, strict=True))


@pytest.mark.parametrize(
    ("declared", "index", "unique"),
    [
        ("id INTEGER PRIMARY KEY", "", True),
        ("id TEXT PRIMARY KEY", "", True),
        ("id INTEGER UNIQUE", "", True),
        ("id INTEGER", "CREATE UNIQUE INDEX u ON t (id)", True),
        ("id INTEGER", "CREATE INDEX u ON t (id)", False),
        ("id INTEGER", "CREATE UNIQUE INDEX u ON t (id) WHERE id > 5", False),
        ("id INTEGER, b TEXT", "CREATE UNIQUE INDEX u ON t (id, b)", False),
        ("id INTEGER, b TEXT, PRIMARY KEY (id, b)", "", False),
    ],
)
def test_a_cursor_is_unique_by_key_or_index(tmp_path: Path, declared: str, index: str, unique: bool) -> None:
    make(tmp_path / "a.db", f"CREATE TABLE t ({declared})")
    if index:
        make(tmp_path / "a.db", index)
    with opened(tmp_path / "a.db") as connection:
        if unique:
            sqlite.describe(connection, SqlSource("", "t", "id"))
            return
    with pytest.raises(Failure, match="the cursor id is not unique"), opened(tmp_path / "a.db") as connection:
        sqlite.describe(connection, SqlSource("", "t", "id"))


def test_rows_without_a_cursor_are_not_lost_silently(tmp_path: Path) -> None:
    make(tmp_path / "a.db", "CREATE TABLE t (id INTEGER UNIQUE)")
    make(tmp_path / "a.db", "INSERT INTO t VALUES (NULL)")
    with pytest.raises(Failure, match="NULL in some rows"), opened(tmp_path / "a.db") as connection:
        sqlite.describe(connection, SqlSource("", "t", "id"))


@pytest.mark.parametrize("kind", ["CREATE VIEW v AS SELECT * FROM secret", "CREATE VIRTUAL TABLE v USING fts5(id)"])
def test_a_view_or_a_virtual_table_is_no_source(path: Path, kind: str) -> None:
    make(path, kind)
    with pytest.raises(Failure, match="there is no table v"), opened(path) as connection:
        sqlite.describe(connection, SqlSource("", "v", "id"))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM flights",
        "CREATE TABLE x (y)",
        "PRAGMA query_only = OFF",
        "ATTACH DATABASE ':memory:' AS other",
        "SELECT * FROM secret",
        "SELECT sql FROM sqlite_master",
        "SELECT load_extension('x')",
        "SELECT randomblob(10)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    ],
)
def test_a_confined_connection_reads_one_table_whatever_the_statement(path: Path, statement: str) -> None:
    def read() -> None:
        with opened(path) as connection:
            sqlite.confine(connection, "flights")
            connection.execute(statement).fetchall()

    with pytest.raises(Failure) as caught:
        read()
    assert caught.value.code in (Code.SQL_NOT_ALLOWED, Code.INVALID_VALUE)


def test_a_connection_cannot_write_even_unconfined(path: Path) -> None:
    with pytest.raises(Failure, match="readonly"), opened(path) as connection:
        connection.execute("INSERT INTO flights VALUES (9, '', 0, 0, 0)")


def test_a_statement_that_takes_too_long_is_stopped(path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(Failure) as caught, opened(path, 0.2) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        ).fetchall()
    assert (caught.value.code, caught.value.detail) == (Code.LIMIT_EXCEEDED, "reading a.db takes too long")
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("kind", ["-wal", "-journal", "-shm"])
def test_a_linked_companion_is_refused(path: Path, kind: str) -> None:
    path.with_name(f"a.db{kind}").symlink_to(path)
    with pytest.raises(Failure, match="links are not followed"), opened(path):
        pass


def test_a_database_that_is_a_link_or_no_database_is_refused(path: Path) -> None:
    path.with_name("b.db").symlink_to(path)
    path.with_name("c.db").write_text("not a database, but long enough to be looked at by SQLite" * 20)
    for name, says in (("b.db", "links are not followed"), ("c.db", "not a database")):
        with pytest.raises(Failure, match=says), opened(path.with_name(name)):
            pass


def test_a_database_in_use_with_a_write_ahead_log_is_read(path: Path) -> None:
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO flights VALUES (9, 'c', 0, NULL, 1)")
    writer.commit()
    with opened(path) as connection:
        assert sqlite.newest(connection, SOURCE) == 9
    writer.close()


def test_pages_follow_the_cursor_from_below_everything(path: Path) -> None:
    statement = 'SELECT "id" FROM "flights" WHERE "id" >= :first AND "id" IS NOT :after ORDER BY "id" LIMIT :rows'
    make(path, "INSERT INTO flights (id) VALUES (-9223372036854775807)")
    with opened(path) as connection:
        assert sqlite.page(connection, SOURCE, statement, None, 2) == [(-9223372036854775807,), (1,)]
        assert sqlite.page(connection, SOURCE, statement, 1, 2) == [(5,)]
        assert sqlite.page(connection, SOURCE, statement, 5, 2) == []


def test_an_order_of_letters_is_no_column_that_is_gone(path: Path) -> None:
    with opened(path) as connection:
        rule = SqlRule("SELECT id FROM flights WHERE name = 'A' COLLATE \"NOCASE\" OR name COLLATE BINARY = 'b'")
        compiled = compile_select(rule, SOURCE, sqlite.describe(connection, SOURCE))
        assert sqlite.page(connection, SOURCE, compiled.statement, None, 10) == [(1,), (5,)]


def test_text_that_is_not_utf8_is_read_with_marks(path: Path) -> None:
    make(path, "INSERT INTO flights (id, name) VALUES (7, CAST(x'ff41' AS TEXT))")
    with opened(path) as connection:
        names, rows = sqlite.preview(connection, SOURCE, 10)
    assert dict(zip(names, rows[-1], strict=True))["name"] == "\ufffdA"


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("", None),
        ("BIGINT UNSIGNED", ColumnType.INT64),
        ("tinyint(1)", ColumnType.INT64),
        ("boolean", ColumnType.BOOL),
        ("Varchar(20)", ColumnType.STRING),
        ("DOUBLE PRECISION", ColumnType.DOUBLE),
        ("DECIMAL(10, 2)", ColumnType.DOUBLE),
        ("NUMERIC", ColumnType.DOUBLE),
        ("date", ColumnType.DATE),
        ("TIMESTAMP WITH TIME ZONE", ColumnType.TIMESTAMP),
        ("BLOB", ColumnType.STRING),
        ("JSON", ColumnType.STRING),
    ],
)
def test_a_declaration_suggests_a_type_and_none_suggests_none(
    tmp_path: Path, declared: str, kind: ColumnType | None
) -> None:
    make(tmp_path / "a.db", f"CREATE TABLE t (id INTEGER PRIMARY KEY, x {declared})")
    with opened(tmp_path / "a.db") as connection:
        assert sqlite.describe(connection, SqlSource("", "t", "id")).columns[1] == ("x", kind)


def test_a_table_made_by_a_query_has_columns_without_types(path: Path) -> None:
    make(path, "CREATE TABLE made AS SELECT id, delay * 2 AS twice, name FROM flights")
    make(path, "CREATE UNIQUE INDEX made_id ON made (id)")
    with opened(path) as connection:
        table = sqlite.describe(connection, SqlSource("", "made", "id"))
    assert dict(table.columns) == {"id": ColumnType.INT64, "twice": None, "name": ColumnType.STRING}


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a.db", "a.db"), ("sqlite:////data/a.db", "/data/a.db"), ("sqlite:///a b/\u00e9.db", "a b/\u00e9.db")],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert sqlite.path_of(url) == path


@pytest.mark.parametrize(
    "url",
    ["", "a.db", "sqlite://a.db", "sqlite:///", "sqlite:///a.db#x", "SQLITE:///a.db", "mysql://u:p@h/d", "file:a.db"],
)
def test_what_is_no_url_of_a_file_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(Failure) as caught:
        sqlite.path_of(url)
    assert caught.value.code is Code.INVALID_VALUE
    assert "u:p" not in caught.value.detail


def test_the_newest_and_the_pages_of_an_empty_table_are_nothing(tmp_path: Path) -> None:
    make(tmp_path / "a.db", "CREATE TABLE flights (id INTEGER PRIMARY KEY)")
    statement = 'SELECT "id" FROM "flights" WHERE "id" >= :first AND "id" IS NOT :after ORDER BY "id" LIMIT :rows'
    with opened(tmp_path / "a.db") as connection:
        assert sqlite.newest(connection, SOURCE) is None
        assert sqlite.page(connection, SOURCE, statement, None, 5) == []


def test_a_database_that_was_replaced_while_it_was_opened_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path.with_name("b.db"), "CREATE TABLE flights (id INTEGER PRIMARY KEY)")
    connect = sqlite3.connect

    def swap(*args: Any, **options: Any) -> sqlite3.Connection:
        path.with_name("b.db").replace(path)
        connection: sqlite3.Connection = connect(*args, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", swap)
    with pytest.raises(Failure, match="has been replaced"), opened(path):
        pass
