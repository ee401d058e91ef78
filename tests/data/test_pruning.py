"""A query reads only the partitions that it needs, and answers as if it had read all."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.data.arrow import columns_of
from services.data.datasets import delta, parquet
from services.data.datasets.dividing import divide
from services.data.datasets.layouts import Layout, Placing, Strategy
from services.data.datasets.masking import view_of
from services.data.datasets.pruning import wanted
from services.data.engine import Engine
from services.data.sql import check_query
from services.kit.errors import Failure
from tests.data.tables import add
from tests.data.test_partitions import divide as rewrite
from tests.data.test_partitions import keys
from tests.support.house import House, house

RANDOM, NOON = random.Random(7), datetime(2026, 3, 1, 12, tzinfo=UTC)


def some(values: Sequence[Any], count: int = 400) -> list[Any]:
    return [RANDOM.choice([*values, None]) for _ in range(count)]


TABLE = pa.table({
    "id": pa.array(range(400), pa.int64()),
    "i": pa.array(some(range(-6, 7)), pa.int64()),
    "s": pa.array(some(["", "a", "b", "B", "ü", "'", "aa"]), pa.string()),
    "d": pa.array(some([date(2026, 3, 1) + timedelta(days=n) for n in range(-3, 4)]), pa.date32()),
    "t": pa.array(some([NOON + timedelta(hours=n, microseconds=n) for n in range(-3, 4)]), pa.timestamp("us", "UTC")),
    "b": pa.array(some([True, False]), pa.bool_()),
    "x": pa.array(some([-0.0, 0.0, 1.5, -2.0, float("nan"), float("inf")]), pa.float64()),
})  # fmt: skip
COLUMNS = columns_of(TABLE.schema)
TYPES = {column.name: column.type for column in COLUMNS}
LAYOUTS = [
    Layout(Strategy.HASH, ("i",), count=8),
    Layout(Strategy.HASH, ("s", "b"), count=7),
    Layout(Strategy.RANGE, ("i",), bounds=(("-3",), ("0",), ("4",))),
    Layout(Strategy.RANGE, ("d", "i"), bounds=(("2026-02-27", "0"), ("2026-03-01", "-2"), ("2026-03-01", "3"))),
    Layout(Strategy.RANGE, ("t",), bounds=(("2026-03-01T10:00:00Z",), ("2026-03-01T12:00:00Z",))),
    Layout(Strategy.RANGE, ("x",), bounds=(("-1",), ("0",), ("1.5",))),
    Layout(Strategy.RANGE, ("s",), bounds=(("a",), ("b",))),
    Layout(Strategy.KEY, ("s",), keys=((("a",), ("",)), (("ü",),), (("'",), ("B",)))),
    Layout(Strategy.KEY, ("i", "s"), keys=((("1", "a"), ("2", "a")), (("0", ""), ("-1", "b")))),
    Layout(Strategy.KEY, ("b",), keys=((("true",),), (("false",),))),
    Layout(Strategy.KEY, ("d",), keys=((("2026-03-01",),), (("2026-03-02",), ("2026-03-03",)))),
]


class Divided:
    """The table divided in each way, and not at all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        writer = parquet.Writer(self._folder("whole"), COLUMNS)
        writer.write(TABLE)
        (source,) = files = writer.close()
        delta.write(home / "whole", "r", COLUMNS, files)
        self.placings = [Placing(layout, TYPES) for layout in LAYOUTS]
        for number, placing in enumerate(self.placings):
            folder = self._folder(f"t{number}")
            *_, found = divide([home / "whole" / source.path], COLUMNS, placing, folder, "d")
            assert isinstance(found, tuple)
            delta.write(home / f"t{number}", "r", COLUMNS, found)

    def _folder(self, name: str) -> Path:
        (self.home / name / "r").mkdir(parents=True)
        return self.home / name / "r"

    def rows(self, name: str, text: str, partitions: frozenset[int] | None = None) -> list[Any]:
        view = view_of(COLUMNS, (), "__masked_t", partitions)
        result = Engine({"t": {"uri": str(self.home / name), "version": 0, "view": view}}).run(text)
        return sorted((repr(row) for batch in result.batches() for row in batch.to_pylist()), key=str)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Divided:
    return Divided(tmp_path_factory.mktemp("divided"))


LITERALS = {
    "i": st.integers(-7, 7).map(str) | st.sampled_from(["1.5", "'2'", "CAST('3' AS BIGINT)"]),
    "s": st.sampled_from(["''", "'a'", "'b'", "'B'", "'ü'", "''''", "'zz'", "upper('a')"]),
    "d": st.integers(-4, 4).map(lambda n: f"{date(2026, 3, 1) + timedelta(days=n)}").flatmap(
        lambda day: st.sampled_from([f"'{day}'", f"DATE '{day}'", f"CAST('{day}' AS DATE)",
                                     f"CAST('{day} 12:00:00' AS TIMESTAMP)"])),
    "t": st.integers(-4, 4).map(lambda n: f"{NOON + timedelta(hours=n, microseconds=n):%Y-%m-%dT%H:%M:%S.%f}").flatmap(
        lambda time: st.sampled_from([f"CAST('{time}Z' AS TIMESTAMP)", f"'{time}'", f"CAST('{time[:10]}' AS DATE)"])),
    "b": st.sampled_from(["TRUE", "FALSE"]),
    "x": st.sampled_from(["0", "0.0", "-0.0", "1.5", "-2", "7", "-1.5"]),
}  # fmt: skip


def simple(column: str) -> st.SearchStrategy[str]:
    literal, name = LITERALS[column], st.sampled_from([column, f"t.{column}", f'("{column}")'])
    return (
        st.builds("{} {} {}".format, name, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), literal)
        | st.builds("{} {} {}".format, literal, st.sampled_from(["=", "<", ">="]), name)
        | st.builds("{} {} ({}, {})".format, name, st.sampled_from(["IN", "NOT IN"]), literal, literal)
        | st.builds("{} {} {} AND {}".format, name, st.sampled_from(["BETWEEN", "NOT BETWEEN"]), literal, literal)
        | st.builds("{} IS {}".format, name, st.sampled_from(["NULL", "NOT NULL"]))
        | st.builds("{} IS {} {}".format, name, st.sampled_from(["DISTINCT FROM", "NOT DISTINCT FROM"]), literal)
        | st.builds("TRY_CAST({} AS VARCHAR) = '{}'".format, name, st.sampled_from(["1", "a", "true"]))
    )


PREDICATES = st.recursive(
    st.sampled_from(sorted(LITERALS)).flatmap(simple) | st.sampled_from(["b", "NOT b", "b IS TRUE", "s LIKE 'a%'"]),
    lambda inner: (
        st.builds("({} AND {})".format, inner, inner)
        | st.builds("({} OR {})".format, inner, inner)
        | inner.map("NOT ({})".format)
        | st.builds("CASE WHEN {} THEN {} ELSE id > 200 END".format, inner, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(PREDICATES, st.integers(0, len(LAYOUTS) - 1))
def test_a_pruned_answer_is_the_whole_answer(divided: Divided, predicate: str, number: int) -> None:
    checked = check_query(f"SELECT id FROM t WHERE {predicate}", {"t"})
    try:
        whole = divided.rows("whole", checked.text)
    except Failure:
        return  # a literal that does not compare with the column: an engine need not see it where it reads less
    kept = wanted(checked.conditions["t"], divided.placings[number])

    assert divided.rows(f"t{number}", checked.text, kept) == whole, (predicate, LAYOUTS[number], kept)


def reached(layout: Layout, where: str, hidden: Sequence[str] = ()) -> set[int]:
    checked = check_query(f"SELECT id FROM t WHERE {where}", {"t"})
    return set(wanted(checked.conditions["t"], Placing(layout, TYPES), hidden))


@pytest.mark.parametrize(
    ("number", "where", "said"),
    [
        (0, "i = 3", 1),
        (0, "i IN (3, 4, 3) AND id > 5", 2),
        (0, "i IS NULL", 1),
        (0, "i > 3", 8),
        (0, "i = 3 OR i = 4", 2),
        (0, "i = 3 OR id = 4", 8),
        (1, "s = 'a'", 7),
        (1, "s = 'a' AND b", 1),
        (1, "s IN ('a', 'b') AND NOT b", 1),
        (2, "i < -3", 2),
        (2, "i BETWEEN -2 AND -1", 1),
        (2, "i >= 4", 1),
        (2, "i IS NULL", 1),
        (2, "NOT (i < 0 OR i > 3)", 1),
        (2, "i = 1 AND i = 2", 0),
        (2, "NOT i IS NULL", 4),
        (3, "d = '2026-03-01'", 4),
        (3, "d = DATE '2026-03-01' AND i > 3", 1),
        (3, "d < DATE '2026-02-20'", 2),
        (3, "d < DATE '2026-02-20' AND i = 1", 1),
        (4, "t < CAST('2026-03-01T09:00:00Z' AS TIMESTAMP)", 1),
        (5, "x = 1.5", 1),
        (5, "x < -5", 2),
        (7, "s = 'ü'", 1),
        (7, "s IN ('a', '', 'B')", 2),
        (7, "s = 'nowhere'", 1),
        (7, "s > 'b'", 2),
        (8, "s = 'a'", 2),
        (9, "b", 1),
        (9, "b IS NOT TRUE", 3),
    ],
)
def test_only_partitions_that_can_have_a_row_are_reached(number: int, where: str, said: int) -> None:
    assert len(reached(LAYOUTS[number], where)) == said


@pytest.mark.parametrize(("parts", "said"), [(20, 1), (30, 251)])
def test_what_would_take_too_long_to_find_out_is_not(parts: int, said: int) -> None:
    keys = tuple(tuple((str(number), "a") for number in range(first, first + 40)) for first in range(0, 10_000, 40))
    layout = Layout(Strategy.KEY, ("i", "s"), keys=keys)

    assert len(reached(layout, " OR ".join(["i = 10000 AND s = 'a'"] * parts))) == said


def test_nothing_is_known_of_a_hidden_column() -> None:
    assert len(reached(LAYOUTS[0], "i = 3", ["I"])) == 8
    assert len(reached(LAYOUTS[3], "d = '2026-02-01' AND i = 1", ["i"])) == 2


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT id FROM t AS a WHERE a.i = 3", 1),
        ("SELECT a.id FROM t AS a JOIN u AS c ON a.id = c.id WHERE a.i = 3", 1),
        ("SELECT a.id FROM u AS c LEFT JOIN t AS a ON a.id = c.id WHERE a.i = 3", 4),
        ("SELECT a.id FROM u AS c JOIN t AS a ON a.id = c.id WHERE c.i = 3", 4),
        ("SELECT id FROM t WHERE i = 3 UNION ALL SELECT id FROM t WHERE i = -5", 2),
        ("SELECT id FROM t WHERE i = 3 UNION ALL SELECT id FROM t", 4),
        ("SELECT x.id FROM (SELECT id FROM t WHERE i = 3) AS x WHERE x.id > 3", 1),
        ("SELECT id FROM u WHERE EXISTS (SELECT 1 FROM t WHERE t.i = 3 AND t.id = u.id)", 1),
        ("SELECT id FROM t WHERE id IN (SELECT id FROM u WHERE i = 3)", 4),
        ("SELECT i, count(*) AS n FROM t WHERE i = 3 GROUP BY i HAVING count(*) > 1", 1),
    ],
)
def test_conditions_count_for_the_table_that_they_are_about(sql: str, said: int) -> None:
    layout = Layout(Strategy.RANGE, ("i",), bounds=(("0",), ("2",)))

    assert len(wanted(check_query(sql, {"t", "u"}).conditions["t"], Placing(layout, TYPES))) == said


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


async def test_an_answer_says_how_much_was_read(home: House) -> None:
    rows = {"id": range(9), "carrier": ["UA", "DL", None] * 3}
    await add(home, "flights", rows)
    await rewrite(home, keys(["UA"], ["B6"], ["DL"]))
    await add(home, "flights", {"id": [9], "carrier": ["UA"]}, append=True)
    await add(home, "airports", {"id": [1]})

    async def ask(sql: str) -> tuple[list[int], list[tuple[str, int, int, int, int]]]:
        tables = [pb.QueryTable(data_set="flights", alias="f"), pb.QueryTable(data_set="airports")]
        answer = await home.stub(DataSetsStub, "data").QueryDataSets(pb.QueryDataSetsRequest(sql=sql, tables=tables))
        reads = [(r.table, r.partitions_read, r.partitions, r.files_read, r.files) for r in answer.reads]
        return sorted(int(row["id"]) for row in answer.rows), reads

    assert await ask("SELECT id FROM f WHERE carrier = 'UA'") == ([0, 3, 6, 9], [("f", 1, 3, 2, 4)])
    assert await ask("SELECT id FROM f WHERE carrier IS NULL OR carrier = 'UA'") == (
        [0, 2, 3, 5, 6, 8, 9],
        [("f", 2, 3, 3, 4)],
    )
    assert await ask("SELECT id FROM f WHERE carrier = 'B6'") == ([], [("f", 0, 3, 0, 4)])
    assert await ask("SELECT id FROM f WHERE id = 1") == ([1], [("f", 3, 3, 4, 4)])
    assert await ask("SELECT id FROM airports") == ([1], [("airports", 0, 0, 1, 1)])
