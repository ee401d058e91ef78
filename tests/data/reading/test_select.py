"""What a SQL rule may say: everything else is refused before a database sees it."""

import sqlite3
import time

import pytest

from services.data.reading import select
from services.data.reading.kinds import Compiled, RuleColumn, SqlRule, SqlSource
from services.data.reading.sqlite import Table
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure

SOURCE = SqlSource("sqlite:///flights.db", "flights", "id")
TABLE = Table(
    (
        ("id", ColumnType.INT64),
        ("carrier", ColumnType.STRING),
        ("dep_delay", ColumnType.DOUBLE),
        ("select", ColumnType.STRING),
    )
)
HOSTILE = """
DELETE FROM flights
UPDATE flights SET id = 1
INSERT INTO flights VALUES (1)
DROP TABLE flights
CREATE TABLE x AS SELECT * FROM flights
ALTER TABLE flights ADD COLUMN x
REPLACE INTO flights VALUES (1)
VACUUM
VACUUM INTO 'copy.db'
REINDEX
ANALYZE
BEGIN
COMMIT
PRAGMA query_only = OFF
PRAGMA table_info(flights)
ATTACH DATABASE 'other.db' AS other
DETACH DATABASE main
EXPLAIN SELECT id FROM flights
EXPLAIN QUERY PLAN SELECT id FROM flights
VALUES (1)
SELECT id FROM flights; DROP TABLE flights
SELECT id FROM flights; SELECT id FROM flights
SELECT id FROM sqlite_master
SELECT id FROM sqlite_temp_master
SELECT id FROM other.flights
SELECT id FROM main.flights
SELECT id FROM planes
SELECT id FROM pragma_table_info('flights')
SELECT id FROM json_each('[1]')
SELECT id FROM generate_series(1, 1000000000)
SELECT id FROM readfile('/etc/passwd')
SELECT id FROM fsdir('/')
SELECT id FROM (SELECT * FROM flights)
SELECT f.id FROM flights f, flights g
SELECT f.id FROM flights f JOIN flights g ON f.id = g.id
SELECT f.id FROM flights f CROSS JOIN planes
SELECT id FROM flights NATURAL JOIN planes
SELECT id FROM flights UNION SELECT id FROM planes
SELECT id FROM flights EXCEPT SELECT 1
SELECT id FROM flights INTERSECT SELECT 1
WITH a AS (SELECT 1) SELECT id FROM flights
WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT id FROM flights
SELECT id, (SELECT sql FROM sqlite_master) AS s FROM flights
SELECT id FROM flights WHERE id IN (SELECT id FROM planes)
SELECT id FROM flights WHERE EXISTS (SELECT 1 FROM planes)
SELECT id FROM flights WHERE id = (SELECT max(id) FROM flights)
SELECT id FROM flights WHERE id IN planes
SELECT id FROM flights WHERE id IN carrier
SELECT id FROM flights WHERE id IN main.planes
SELECT id, load_extension('x.so') AS x FROM flights
SELECT id, readfile('/etc/passwd') AS x FROM flights
SELECT id, writefile('/tmp/x', 'y') AS x FROM flights
SELECT id, edit('x') AS x FROM flights
SELECT id, random() AS x FROM flights
SELECT id, randomblob(1000000000) AS x FROM flights
SELECT id, zeroblob(1000000000) AS x FROM flights
SELECT id, sqlite_version() AS x FROM flights
SELECT id, last_insert_rowid() AS x FROM flights
SELECT id, changes() AS x FROM flights
SELECT id, fts3_tokenizer('x') AS x FROM flights
SELECT id, json_extract(carrier, '$.a') AS x FROM flights
SELECT id, carrier -> '$.a' AS x FROM flights
SELECT id, count(*) AS n FROM flights
SELECT id, sum(dep_delay) AS n FROM flights
SELECT max(id) AS id FROM flights
SELECT id, group_concat(carrier) AS n FROM flights
SELECT id, row_number() OVER () AS n FROM flights
SELECT id, lag(id) OVER (ORDER BY id) AS n FROM flights
SELECT id FROM flights GROUP BY id
SELECT id FROM flights GROUP BY id HAVING count(*) > 1
SELECT DISTINCT id FROM flights
SELECT id FROM flights ORDER BY random()
SELECT id FROM flights ORDER BY id
SELECT id FROM flights LIMIT 1
SELECT id FROM flights LIMIT 1 OFFSET 5
SELECT id FROM flights WHERE carrier REGEXP '(a+)+'
SELECT id FROM flights WHERE carrier MATCH 'a'
SELECT id FROM flights WHERE carrier GLOB '*a*'
SELECT id FROM flights WHERE carrier LIKE '%a%a%a%a%a%'
SELECT id FROM flights WHERE carrier LIKE carrier
SELECT id FROM flights WHERE id > ?
SELECT id FROM flights WHERE id > :after
SELECT id, date('now') AS x FROM flights
SELECT id, datetime('NOW', '+1 day') AS x FROM flights
SELECT id, date() AS x FROM flights
SELECT id, strftime('%Y', 'now') AS x FROM flights
SELECT id, current_timestamp AS x FROM flights
SELECT id, current_date AS x FROM flights
SELECT id, julianday() AS x FROM flights
SELECT id FROM flights INDEXED BY u
SELECT id, raise(abort, 'x') AS x FROM flights
SELECT id FROM
SELECT
''
""".strip().splitlines()


def compiled(sql: str, *columns: RuleColumn) -> Compiled:
    return select.compile_select(SqlRule(sql, columns), SOURCE, TABLE)


@pytest.mark.parametrize("sql", HOSTILE)
def test_a_hostile_statement_is_refused(sql: str) -> None:
    with pytest.raises(Failure) as caught:
        compiled(sql, RuleColumn("x", "x", ColumnType.STRING), RuleColumn("n", "n", ColumnType.INT64))
    assert caught.value.code is Code.SQL_NOT_ALLOWED, caught.value


@pytest.mark.parametrize("nested", ["(" * 3000 + "id" + ")" * 3000, "NOT " * 500 + "id", "id" + " + 1" * 2000])
def test_a_statement_that_is_too_large_or_too_deep_is_refused(nested: str) -> None:
    with pytest.raises(Failure) as caught:
        compiled(f"SELECT id FROM flights WHERE {nested}")
    assert caught.value.code is Code.SQL_NOT_ALLOWED


@pytest.mark.parametrize("word", ["date", "int", "char", "timestamp", "(struct", "id JOIN"])
def test_a_text_that_the_parser_would_try_for_minutes_is_refused_at_once(word: str) -> None:
    begin = time.process_time()
    with pytest.raises(Failure) as caught:
        compiled(f"SELECT id FROM flights WHERE {f'{word}(' * 25}id{')' * 25}")
    assert caught.value.code is Code.SQL_NOT_ALLOWED
    assert time.process_time() - begin < 2


def test_what_runs_is_written_from_the_checked_tree() -> None:
    made = compiled("select f.ID, Carrier airline -- comment\n from Flights f where dep_delay >= 15 /* x */ or id = 1;")

    assert made.statement == (
        'SELECT "id" AS "ID", "carrier" AS "airline" FROM "flights" '
        'WHERE ("dep_delay" >= 15 OR "id" = 1) AND "id" >= :first AND "id" IS NOT :after '
        'ORDER BY "flights"."id" LIMIT :rows'
    )
    assert [(column.name, column.type) for column in made.columns] == [
        ("ID", ColumnType.INT64),
        ("airline", ColumnType.STRING),
    ]


def test_a_star_is_every_column_and_words_of_sql_are_names_in_quotes() -> None:
    made = compiled("SELECT * FROM flights")
    assert [column.name for column in made.columns] == ["id", "carrier", "dep_delay", "select"]
    assert '"select" AS "select"' in made.statement


def test_the_cursor_is_found_where_it_is() -> None:
    assert compiled("SELECT carrier, id AS number FROM flights").cursor == 1


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT carrier FROM flights", "must select the cursor column id"),
        ("SELECT id + 0 AS id FROM flights", "id is computed: say its type"),
        ("SELECT id, tail FROM flights", "the table has no column tail"),
        ('SELECT id, "tail" FROM flights', "the table has no column tail"),
        ("SELECT id, upper(carrier) FROM flights", "needs a name: write AS"),
        ("SELECT id, upper(carrier) AS c FROM flights", "c is computed: say its type"),
        ("SELECT id, carrier AS id FROM flights", "the column id is there twice"),
    ],
)
def test_columns_that_cannot_be_are_named(sql: str, says: str) -> None:
    with pytest.raises(Failure, match=says) as caught:
        compiled(sql)
    assert caught.value.code is Code.INVALID_VALUE


def test_types_come_from_the_rule_a_cast_or_the_table() -> None:
    said = RuleColumn("late", "late", ColumnType.BOOL, required=True)
    made = compiled("SELECT id, dep_delay > 15 AS late, CAST(carrier AS TEXT) AS c, dep_delay FROM flights", said)

    assert made.columns[1] == said
    assert [column.type.value for column in made.columns] == ["int64", "bool", "string", "double"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (RuleColumn("other", "other", ColumnType.BOOL), "returns no column other"),
        (RuleColumn("id", "carrier", ColumnType.INT64), "cannot be taken from carrier"),
    ],
)
def test_a_column_that_the_statement_does_not_return_is_refused(column: RuleColumn, says: str) -> None:
    with pytest.raises(Failure, match=says):
        compiled("SELECT id FROM flights", column)


def test_a_column_without_a_declared_type_needs_one_from_the_rule() -> None:
    loose = Table((("id", ColumnType.INT64), ("n", None)))
    with pytest.raises(Failure, match="the table gives the column n no type: say its type in columns") as caught:
        select.compile_select(SqlRule("SELECT * FROM flights"), SOURCE, loose)
    assert caught.value.code is Code.INVALID_VALUE

    said = RuleColumn("n", "n", ColumnType.DOUBLE)
    made = select.compile_select(SqlRule("SELECT * FROM flights", (said,)), SOURCE, loose)
    cast = select.compile_select(SqlRule("SELECT id, CAST(n AS INT) AS n FROM flights"), SOURCE, loose)
    assert [columns[1].type for columns in (made.columns, cast.columns)] == [ColumnType.DOUBLE, ColumnType.INT64]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, CASE WHEN dep_delay > 15 THEN 1 ELSE 0 END AS x FROM flights",
        "SELECT id, coalesce(dep_delay, 0) AS x FROM flights",
        "SELECT id, round(dep_delay / 60, 1) AS x FROM flights",
        "SELECT id, substr(carrier, 1, 2) || '-' || trim(carrier) AS x FROM flights",
        "SELECT id, dep_delay BETWEEN 1 AND 5 AS x FROM flights",
        "SELECT id, carrier IN ('UA', 'DL') AS x FROM flights WHERE carrier IS NOT NULL",
        "SELECT id, iif(dep_delay > 0, 'late', 'fine') AS x FROM flights",
        "SELECT id, date('2013-01-01', '+1 day') AS x FROM flights WHERE carrier LIKE 'U%'",
        "SELECT id, -dep_delay % 7 AS x FROM flights WHERE NOT (id = 1 OR id = 2)",
        "SELECT id, upper(replace(carrier, 'a', 'b')) AS x FROM flights",
    ],
)
def test_what_works_on_one_row_is_allowed_and_runs(sql: str) -> None:
    made = compiled(sql, RuleColumn("x", "x", ColumnType.STRING))
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE flights (id INTEGER PRIMARY KEY, carrier TEXT, dep_delay REAL, "select" TEXT)')
    connection.execute("INSERT INTO flights VALUES (9, 'UA', 20.0, '')")
    (row,) = connection.execute(made.statement, {"first": 9, "after": None, "rows": 5}).fetchall()
    connection.close()
    assert row[made.cursor] == 9
    assert row[1] is not None
