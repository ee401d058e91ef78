"""A rule against its source: what fits becomes what runs, what does not is refused with its reason."""

import sqlite3
from pathlib import Path

import pytest

from services.data.reading.folders import Place
from services.data.reading.kinds import (
    Compiled,
    Definition,
    FileFormat,
    FileRule,
    FilesSource,
    InnerRule,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    SqlRule,
    SqlSource,
)
from services.data.rules import domain
from services.data.rules.compiling import compile_rule
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure

N = RuleColumn("n", "n", ColumnType.INT64)
TABLE = SqlSource("sqlite:///a.db", "t", "id")
CSV, JSON, TEXT = (FilesSource(kind, "a") for kind in (FileFormat.CSV, FileFormat.JSON_LINES, FileFormat.TEXT))
RULES: list[RuleDefinition] = [
    SqlRule("SELECT id FROM t"),
    FileRule((N,)),
    JsonRule((N,)),
    RegexRule("(?P<n>.)", (N,)),
]
SOURCES: list[Definition] = [TABLE, CSV, JSON, TEXT]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, loose, at DATETIME)")
        connection.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    connection.close()
    return tmp_path


def compiled(root: Path, rule: RuleDefinition, source: Definition = TABLE) -> Compiled:
    return compile_rule(rule, source, Place(root, ("a.db",)))


def refused(root: Path, rule: RuleDefinition, source: Definition = TABLE) -> Failure:
    with pytest.raises(Failure) as caught:
        compiled(root, rule, source)
    return caught.value


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("source", SOURCES)
def test_each_kind_of_rule_fits_one_kind_of_source(root: Path, rule: RuleDefinition, source: Definition) -> None:
    if RULES.index(rule) == SOURCES.index(source):
        assert compiled(root, rule, source).columns
        domain.check_fit(rule, source, "s")
        return
    assert refused(root, rule, source).code is Code.INVALID_VALUE
    with pytest.raises(Failure, match=r"the source s has changed: .* needs ") as caught:
        domain.check_fit(rule, source, "s")
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_files_need_not_be_there_when_a_rule_is_made(tmp_path: Path) -> None:
    assert compiled(tmp_path / "none", FileRule((N,)), CSV) == Compiled((N,))


def test_a_sql_rule_is_compiled_by_its_database(root: Path) -> None:
    made = compiled(root, SqlRule("SELECT id, n, at FROM t WHERE n > 5"))
    assert [column.type.value for column in made.columns] == ["int64", "int64", "timestamp"]
    assert made.statement.startswith('SELECT "id" AS "id", "n" AS "n", "at" AS "at" FROM "t" WHERE ("n" > 5) AND ')


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("SELECT * FROM t", Code.INVALID_VALUE, "the table gives the column loose no type"),
        ("SELECT id, loose AS free FROM t", Code.INVALID_VALUE, "the table gives the column free no type"),
        ("SELECT id, none FROM t", Code.INVALID_VALUE, "the table has no column none"),
        ("SELECT id FROM other", Code.SQL_NOT_ALLOWED, "reads other, which is not the source's table t"),
        ("SELECT id, substr(n) AS n FROM t", Code.INVALID_VALUE, "n is computed: say its type"),
    ],
)
def test_a_sql_rule_that_does_not_fit_its_table_is_refused(root: Path, sql: str, code: Code, says: str) -> None:
    failure = refused(root, SqlRule(sql))
    assert failure.code is code
    assert says in failure.detail


def test_what_only_the_database_knows_to_be_wrong_is_said_with_its_words(root: Path) -> None:
    wrong = SqlRule("SELECT id, substr(n) AS x FROM t", (RuleColumn("x", "x", ColumnType.STRING),))
    failure = refused(root, wrong)
    assert failure.code is Code.INVALID_VALUE
    assert failure.detail.startswith("a.db cannot be read: ")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (SqlSource("sqlite:///a.db", "none", "id"), "there is no table none"),
        (SqlSource("sqlite:///a.db", "t", "n"), "the cursor n is not unique"),
    ],
)
def test_a_table_that_has_changed_is_looked_at_again(root: Path, source: SqlSource, says: str) -> None:
    assert says in refused(root, SqlRule("SELECT id FROM t"), source).detail


@pytest.mark.parametrize("kind", [FileRule, JsonRule, lambda columns: RegexRule("(?P<n>.)", columns)])
@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("n", "N"), "the column N is there twice"),
        (("__n",), "must not begin with two underscores"),
        (("",), "must have 1 to 128 characters"),
        (("n" * 129,), "must have 1 to 128 characters"),
    ],
)
def test_columns_have_names_that_can_be_told_apart(root: Path, kind: type, names: tuple[str, ...], says: str) -> None:
    rule = kind(tuple(RuleColumn(name, "n", ColumnType.STRING) for name in names))
    source = CSV if kind is FileRule else JSON if kind is JsonRule else TEXT
    assert says in refused(root, rule, source).detail


def test_one_field_may_fill_several_columns(root: Path) -> None:
    twice = (N, RuleColumn("text", "n", ColumnType.STRING))
    assert compiled(root, FileRule(twice), CSV).columns == twice
    assert compiled(root, RegexRule("(?P<n>.)", twice), TEXT).pattern == "(?P<n>.)"
    assert compiled(root, JsonRule(twice), JSON).paths == (("n",), ("n",))


@pytest.mark.parametrize(
    ("pattern", "code", "says"),
    [
        ("(?P<m>.)", Code.INVALID_VALUE, "the pattern has no group n: write (?P<n>...)"),
        ("(.)", Code.INVALID_VALUE, "the pattern has no group n"),
        ("(?P<n>.", Code.PATTERN_UNSUPPORTED, "missing"),
        ("(?P<n>a)(?P<n>b)", Code.PATTERN_UNSUPPORTED, "names the group n twice"),
        ("(?P<n>a)|(?<n>b)", Code.PATTERN_UNSUPPORTED, "names the group n twice"),
        ("(?P<n>.)" + "a" * 5000, Code.PATTERN_UNSUPPORTED, "more than 4096 characters"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(root: Path, pattern: str, code: Code, says: str) -> None:
    failure = refused(root, RegexRule(pattern, (N,)), TEXT)
    assert failure.code is code
    assert says in failure.detail


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["$.a[*].x", "$.id", "$.b[*].y"], "$.a[*].x and $.b[*].y are in two arrays of which none is in the other"),
        (["$.a[*].b[*].x", "$.a[*].c[*].y"], "$.a[*].b[*].x and $.a[*].c[*].y are in two arrays"),
    ],
)
def test_two_arrays_beside_each_other_are_two_rules(root: Path, paths: list[str], says: str) -> None:
    columns = tuple(RuleColumn(f"n{number}", path, ColumnType.INT64) for number, path in enumerate(paths))
    failure = refused(root, JsonRule(columns), JSON)
    assert failure.code is Code.INVALID_VALUE
    assert says in failure.detail
    assert "make a rule for each" in failure.detail


def test_a_rule_inside_a_rule_has_one_row(root: Path) -> None:
    inner = InnerRule("$.text", JsonRule((RuleColumn("n", "$.a[*].n", ColumnType.INT64),)))
    failure = refused(root, JsonRule((RuleColumn("id", "$.id", ColumnType.INT64),), (inner,)), JSON)
    assert failure.detail == "the rule inside for $.text has a path with [*]: it can have one row only"


@pytest.mark.parametrize("path", ["$..n", "$.*", "$[?(@.n)]", "$" + ".a" * 33])
def test_a_path_that_searches_or_is_too_deep_is_refused(root: Path, path: str) -> None:
    rule = JsonRule((RuleColumn("n", path, ColumnType.INT64),))
    assert refused(root, rule, JSON).code is Code.INVALID_VALUE
