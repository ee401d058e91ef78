"""Whatever a caller writes is understood or refused with a failure: nothing else comes out, and nothing gets out."""

import contextlib
import io
import os
import sqlite3
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.data.reading import extractor, folders, lines, opening, paths, select, sqlite, vectors
from services.data.reading.extractor import Refusal
from services.data.reading.kinds import Compiled, FileFormat, FilesSource, RuleColumn, SqlRule, SqlSource
from services.data.reading.sqlite import Table
from services.data.schema import ColumnType
from services.kit import patterns
from services.kit.errors import Code, Failure

ROOT = Path("/data/acme")
SOURCE = SqlSource("sqlite:///a.db", "t", "id")
TABLE = Table((("id", ColumnType.INT64), ("name", ColumnType.STRING), ("loose", None)))
WORDS = """
    SELECT id name loose x FROM t other sqlite_master WHERE AND OR IN IS NULL LIKE BETWEEN CASE WHEN THEN ELSE END AS
    CAST TEXT INT COLLATE NOCASE ESCAPE GLOB MATCH max( min( abs( upper( substr( random( load_extension( date( coalesce(
    ( ) , * + - / % = <> < > || ; -- /* */ 'a' 'now' "id" "x" [id] `id` 1 2.5 1e9 0x1F x'ff' ? :after t.id main.t EXISTS
    UNION ALL LIMIT ORDER BY GROUP HAVING DISTINCT JOIN ON USING WITH VALUES PRAGMA rowid oid _rowid_ TRUE CURRENT_TIME
""".split()  # noqa: SIM905
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=8,
)


ATOMS = st.sampled_from(["id", "name", "loose", "t.id", "1", "2.5", "'a'", "'2013-01-01'", "NULL", "-7", '"name"'])
CALLS = st.sampled_from(sorted(sqlite.FUNCTIONS))
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(
            inner,
            st.sampled_from(["+", "-", "*", "/", "%", "||", "<", ">=", "=", "<>", "AND", "OR", "IS", "&", "|"]),
            inner,
        ).map(" ".join),
        st.tuples(CALLS, st.lists(inner, min_size=1, max_size=3)).map(lambda call: f"{call[0]}({', '.join(call[1])})"),
        st.tuples(inner, inner).map(lambda two: f"CASE WHEN {two[0]} THEN {two[1]} ELSE 0 END"),
        inner.map(lambda one: f"(NOT {one})"),
        inner.map(lambda one: f"CAST({one} AS TEXT)"),
        inner.map(lambda one: f"{one} IN (1, 'a')"),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(["..", ".", "/", "a", "~", "\\", "\0"])).map("".join)))
def test_any_path_lies_below_a_root_or_is_refused(text: str) -> None:
    try:
        root, steps, *_ = folders.place([ROOT, Path("/other")], text)
    except Failure as failure:
        assert failure.code in (Code.INVALID_VALUE, Code.EGRESS_DENIED)
        return
    assert steps
    assert os.path.normpath(root.joinpath(*steps)) == str(root.joinpath(*steps))
    assert root.joinpath(*steps).is_relative_to(root)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(max_size=30), st.lists(st.sampled_from(["$", ".", "a", "[", "]", "0", "'", '"'])).map("".join))
)
def test_any_json_path_is_steps_or_refused(text: str) -> None:
    with contextlib.suppress(Failure):
        assert all(isinstance(step, str | int) for step in paths.parse(text))


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.lists(st.one_of(st.text("abc", max_size=2), st.integers(0, 3)), max_size=4))
def test_any_path_finds_something_or_nothing_in_any_document(document: Any, steps: list[str | int]) -> None:
    found = paths.find(document, tuple(steps))
    assert steps or found is document


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(list("(?P<n>.)[]{9}|*+\\1^$a"))).map("".join)))
@example("(?P<n>a)|(?P<n>b)")
@example("(?P<\u00e9>a)")
def test_any_pattern_is_compiled_or_refused(pattern: str) -> None:
    try:
        groups = patterns.groups(pattern)
    except Failure as failure:
        assert failure.code is Code.PATTERN_UNSUPPORTED
        return
    picked = patterns.picker(pattern, sorted(groups))("a")
    assert picked is None or len(picked) == len(groups)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(max_size=10).map(lambda text: f"sqlite:///{text}")))
def test_any_url_names_a_file_or_is_refused(url: str) -> None:
    with contextlib.suppress(Failure):
        assert sqlite.path_of(url)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), EXPRESSIONS, EXPRESSIONS)
@example("id, rowid AS x FROM t", "id", "id")
def test_whatever_is_accepted_the_database_lets_run(words: str, value: str, condition: str) -> None:
    """What the allow-list of the parser lets through never meets the second guard, the authorizer."""
    said = (RuleColumn("x", "x", ColumnType.STRING),)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, loose)")
    connection.execute("INSERT INTO t VALUES (1, 'a', NULL)")
    sqlite.confine(connection, "t")
    for sql in (
        f"SELECT {words}",
        f"SELECT id, {words} AS x FROM t",
        f"SELECT id, {value} AS x FROM t WHERE {condition}",
    ):
        try:
            made = select.compile_select(SqlRule(sql, said), SOURCE, TABLE)
            sqlite.page(connection, SOURCE, made.statement, None, 5)
        except Failure as failure:
            assert failure.code in (Code.SQL_NOT_ALLOWED, Code.INVALID_VALUE)
        except sqlite3.Error as error:
            assert "prohibited" not in str(error), (sql, made.statement)
            assert "not authorized" not in str(error), (sql, made.statement)
    connection.close()


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
@example("7 / 2", "NOT id = 1 OR name IS NULL")
@example("id - (1 - 1)", "loose IS NOT NULL")
def test_what_runs_means_what_was_written(value: str, condition: str) -> None:
    """The statement that is written from the checked tree gives the rows that the caller's own text would."""
    written = f"SELECT id, {value} AS x FROM t WHERE {condition}"
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, loose)")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?)", [(1, "a", None), (2, "B", 2.5), (3, None, "7"), (4, "", 0)]
    )
    try:
        made = select.compile_select(SqlRule(written, (RuleColumn("x", "x", ColumnType.STRING),)), SOURCE, TABLE)
        meant = connection.execute(f"{written} ORDER BY id").fetchall()
    except (Failure, sqlite3.Error):
        return
    else:
        assert sqlite.page(connection, SOURCE, made.statement, None, 9) == meant, made.statement
    finally:
        connection.close()


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(FileFormat), st.booleans(), st.integers(1, 5))
@example(b'"\n', FileFormat.CSV, True, 1)
@example(b'a\n"x\r\ry', FileFormat.CSV, True, 2)
@example(b"\xef\xbb\xbf\n\n{}\n\x00\n", FileFormat.JSON_LINES, False, 1)
def test_any_bytes_are_records_and_broken_records(data: bytes, kind: FileFormat, complete: bool, step: int) -> None:
    source = FilesSource(kind, "" if complete else "a", "sha256:0" if complete else "")
    try:
        reader = opening.reader(source, io.BytesIO(data))
    except Failure as failure:
        assert failure.code is Code.FAILED_PRECONDITION
        return
    numbers = list[int]()
    while (batch := reader.read(step)).size:
        assert batch.size <= step
        assert len(batch.records) == len(batch.numbers)
        numbers += [*batch.numbers, *(number for number, _, _ in batch.broken)]
        for record in batch.records:
            lines.text_of(record, reader.fields)
    assert len(set(numbers)) == len(numbers)
    assert reader.offset <= len(data)
    assert not complete or reader.offset == len(data)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("ab"), DOCUMENTS, max_size=2), max_size=80),
    st.sampled_from(ColumnType),
    st.booleans(),
)
def test_any_documents_are_typed_together_as_they_are_alone(
    documents: list[dict[str, Any]], kind: ColumnType, required: bool
) -> None:
    columns = (RuleColumn("a", "a", kind, required), RuleColumn("b", "b", ColumnType.STRING))
    ready = extractor.for_documents(Compiled(columns, paths=(("a",), ("b",))))
    alone = [ready.row(document) for document in documents]
    typed = vectors.extract(ready, documents)

    refused = [(place, row.reason) for place, row in enumerate(alone) if isinstance(row, Refusal)]
    assert typed.refused == refused
    assert sum(len(piece[0]) for piece in typed.pieces) == len(documents) - len(refused)
