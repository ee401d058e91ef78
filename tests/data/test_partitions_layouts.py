"""The function that says which partition a row belongs to: fixed, the same in every program."""

import hashlib
import re
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data.arrow import columns_of, fit
from services.data.datasets import parquet
from services.data.datasets.dividing import divide, numbers
from services.data.datasets.layouts import Layout, Placing, Strategy, check_layout
from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue
from tests.support.servers import address, database

INT, STRING, DATE, TIME = ColumnType.INT64, ColumnType.STRING, ColumnType.DATE, ColumnType.TIMESTAMP
TABLE = pa.table({
    "i": pa.array([-1, 42, None, 42, 2**62], pa.int64()),
    "s": ["", "ü", "x,y", None, "ü"],
    "d": pa.array([date(1969, 12, 31), date(2026, 3, 1), None, date(1970, 1, 1), date(2026, 3, 1)]),
    "t": pa.array([datetime(2026, 3, 1, 8, tzinfo=UTC), None, datetime(1970, 1, 1, tzinfo=UTC)] * 1 + [None, None],
                  pa.timestamp("us", tz="UTC")),
    "b": [True, False, None, True, False],
    "x": [-0.0, 1.5, float("nan"), None, 2.0],
})  # fmt: skip


def types(table: pa.Table = TABLE) -> dict[str, ColumnType]:
    return {column.name: column.type for column in columns_of(table.schema)}


def placed(layout: Layout, table: pa.Table = TABLE) -> list[int]:
    check_layout(layout)
    found: list[int] = numbers(Placing(layout, types(table)), table).tolist()
    return found


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        ("i", ["i-1", "i42", "n", "i42", "i4611686018427387904"]),
        ("s", ["s0:", "s2:ü", "s3:x,y", "n", "s2:ü"]),
        ("d", ["d-1", "d20513", "n", "d0", "d20513"]),
        ("t", ["t1772352000000000", "n", "t0", "n", "n"]),
        ("b", ["b1", "b0", "n", "b1", "b0"]),
    ],
)
def test_a_hash_is_of_the_value_as_text(field: str, texts: list[str]) -> None:
    expected = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") // 16 % 7 for text in texts]

    assert placed(Layout(Strategy.HASH, (field,), count=7)) == expected


def test_the_values_of_the_guide_hold() -> None:
    vectors = {("UA",): 4, ("",): 4, (None,): 2, ("Zürich",): 2}
    placing = Placing(Layout(Strategy.HASH, ("s",), count=16), {"s": STRING})

    assert {key: placing.of(key) for key in vectors} == vectors
    both = Placing(Layout(Strategy.HASH, ("i", "s"), count=16), {"i": INT, "s": STRING})
    assert both.of((42, "UA")) == int(hashlib.sha256(b"i42,s2:UA").hexdigest()[:15], 16) % 16 == 7


@pytest.mark.far
def test_postgresql_computes_the_same_hash() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "partitions.md").read_text()
    (formula,) = re.findall(r"^In PostgreSQL: `(.*)`\.$", guide, re.MULTILINE)
    placing = Placing(Layout(Strategy.HASH, ("carrier",), count=16), {"carrier": STRING})
    with psycopg.connect(database(address("postgres")).replace("+psycopg", "")) as connection:
        query = f"SELECT {formula} FROM (SELECT %s::text AS carrier) AS t".replace("% 16", "%% 16")
        found = {name: connection.execute(query.encode(), [name]).fetchone() for name in ("", "UA", "Zürich", "x,y")}

    assert found == {name: (placing.of((name,)),) for name in found}


def test_a_range_begins_at_its_bound_and_null_comes_last() -> None:
    assert placed(Layout(Strategy.RANGE, ("i",), bounds=(("0",), ("42",)))) == [0, 2, 3, 2, 2]
    assert placed(Layout(Strategy.RANGE, ("x",), bounds=(("0",), ("2",)))) == [1, 1, 3, 3, 2]
    assert placed(Layout(Strategy.RANGE, ("d",), bounds=(("1970-01-01",),))) == [0, 1, 2, 1, 1]
    assert placed(Layout(Strategy.RANGE, ("t",), bounds=(("2026-03-01T08:00:00Z",),))) == [1, 2, 0, 2, 2]
    assert placed(Layout(Strategy.RANGE, ("i", "s"), bounds=(("42", "a"), ("42", "ü")))) == [0, 2, 3, 3, 2]


def test_a_key_is_in_the_partition_that_lists_it_and_others_come_last() -> None:
    keys = ((("42", "ü"),), (("-1", ""), ("7", "x")))

    assert placed(Layout(Strategy.KEY, ("i", "s"), keys=keys)) == [1, 0, 2, 2, 2]
    assert placed(Layout(Strategy.KEY, ("b",), keys=((("true",),),))) == [0, 1, 1, 0, 1]


VALUES = st.tuples(st.none() | st.integers(-3, 3), st.none() | st.sampled_from(["a", "b", "ü", "", "aa"]))


@given(st.lists(VALUES, max_size=30), st.sampled_from([
    Layout(Strategy.HASH, ("s", "i"), count=5),
    Layout(Strategy.RANGE, ("i", "s"), bounds=(("-1", "b"), ("0", ""), ("2", "a"))),
    Layout(Strategy.KEY, ("s",), keys=((("a",), ("ü",)), (("",),))),
]))  # fmt: skip
def test_rows_of_a_table_are_placed_as_each_alone(rows: list[tuple[int | None, str | None]], layout: Layout) -> None:
    i, s = [pa.array([row[at] for row in rows], kind) for at, kind in ((0, pa.int64()), (1, pa.string()))]
    table = pa.table({"i": i, "s": s})
    placing = Placing(layout, types(table))

    keys = [tuple({"i": row[0], "s": row[1]}[field] for field in layout.fields) for row in rows]
    assert placed(layout, table) == [placing.of(key) for key in keys]


def test_every_row_is_in_one_file_of_its_partition_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    table = pa.table({"n": range(70_000), "k": [n % 3 for n in range(70_000)]})
    columns, layout = columns_of(table.schema), Layout(Strategy.KEY, ("k",), keys=((("1",),),))
    writer = parquet.Writer(tmp_path / "r", columns)
    writer.write(table)
    (source,) = writer.close()
    *progress, files = divide([tmp_path / source.path], columns, Placing(layout, types(table)), tmp_path / "r", "d")

    assert progress == [65_536, 70_000]
    assert isinstance(files, tuple)
    assert [(file.partition, file.path) for file in files] == [(n, f"r/d-00{n}-00000.parquet") for n in (0, 1)]
    rows = [pa.parquet.read_table(tmp_path / file.path).to_pydict() for file in files]
    assert [set(found["k"]) for found in rows] == [{1}, {0, 2}]
    ones = [n for n in range(70_000) if n % 3 == 1]
    assert [found["n"] for found in rows] == [ones, [n for n in range(70_000) if n % 3 != 1]]


def test_a_column_that_is_not_there_is_null(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    table = fit(pa.table({"n": [1, 2]}), (Column("n", INT),))
    writer = parquet.Writer(tmp_path / "r", (Column("n", INT),))
    writer.write(table)
    layouts = [Layout(Strategy.KEY, ("k",), keys=((("1",),),)), Layout(Strategy.RANGE, ("k",), bounds=(("a",),))]
    (source,) = writer.close()
    for number, layout in enumerate(layouts):
        placing = Placing(layout, {"n": INT})
        *_, files = divide([tmp_path / source.path], (Column("n", INT),), placing, tmp_path / "r", f"d{number}")
        assert isinstance(files, tuple)
        assert [file.partition for file in files] == [placing.count - 1]


BAD: list[tuple[Layout, str]] = [
    (Layout(Strategy.HASH, (), count=2), "fields must have 1 to 4 columns"),
    (Layout(Strategy.HASH, ("a", "A"), count=2), "fields must differ"),
    (Layout(Strategy.HASH, ("s",), count=1), "count must lie between 2 and 256"),
    (Layout(Strategy.HASH, ("s",), count=257), "count must lie between 2 and 256"),
    (Layout(Strategy.HASH, ("s",), bounds=(("1",),), count=2), "bounds belongs to the strategy range"),
    (Layout(Strategy.RANGE, ("s",)), "bounds must have 1 to 254 bounds"),
    (Layout(Strategy.RANGE, ("s",), bounds=(("1", "2"),)), "bounds must have a value for each field"),
    (Layout(Strategy.RANGE, ("s",), bounds=(("b",), ("a",))), "bounds must ascend"),
    (Layout(Strategy.RANGE, ("i",), bounds=(("1.5",),)), "bounds must have values of int64, not 1.5"),
    (Layout(Strategy.RANGE, ("x",), bounds=(("nan",),)), "bounds must have values of double, not nan"),
    (Layout(Strategy.RANGE, ("t",), bounds=(("2026-03-01",),)), "bounds must have values of timestamp"),
    (Layout(Strategy.KEY, ("s",)), "keys must have 1 to 255 partitions"),
    (Layout(Strategy.KEY, ("s",), keys=((),)), "keys must have a key for each partition"),
    (Layout(Strategy.KEY, ("i",), keys=((("1",),), (("01",),))), "keys must not have 01 twice"),
    (Layout(Strategy.KEY, ("d",), keys=((("2026-02-30",),),)), "keys must have values of date, not 2026-02-30"),
    (Layout(Strategy.KEY, ("s",), keys=(tuple((str(n),) for n in range(10_001)),)), "keys must have at most 10000"),
    (Layout(Strategy.HASH, ("x",), count=2), "fields must not name x, which holds double, but for ranges"),
]


@pytest.mark.parametrize(("layout", "said"), BAD)
def test_a_layout_that_makes_no_sense_is_refused(layout: Layout, said: str) -> None:
    with pytest.raises(InvalidValue, match=said.replace("(", r"\(")) as caught:
        placed(layout)
    assert caught.value.violations[0].pointer.startswith("/partitioning/")
