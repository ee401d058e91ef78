"""The Delta log is brought from whatever it holds to what it should hold."""

from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from services.data.arrow import columns_of
from services.data.datasets import delta, parquet
from services.data.datasets.domain import WrittenFile
from services.data.schema import Column, ColumnType

ONE = (Column("n", ColumnType.INT64),)
TWO = (*ONE, Column("s", ColumnType.STRING))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "flights"


def files(table: Path, run: str, rows: dict[str, list[object]]) -> tuple[WrittenFile, ...]:
    (table / run).mkdir(parents=True)
    written = pa.table(rows)
    writer = parquet.Writer(table / run, columns_of(written.schema))
    writer.write(written)
    return writer.close()


def held(table: Path, version: int) -> list[dict[str, object]]:
    found = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(table), version=version))
    return list(pa.table(found.execute("SELECT * FROM t ORDER BY n").read_all()).to_pylist())


def test_a_version_holds_the_files_it_was_given(table: Path) -> None:
    first = files(table, "r1", {"n": [1]})
    second = files(table, "r2", {"n": [2]})

    assert delta.write(table, "r1", ONE, first) == 0
    assert delta.write(table, "r2", ONE, (*first, *second)) == 1
    assert (held(table, 0), held(table, 1)) == ([{"n": 1}], [{"n": 1}, {"n": 2}])


def test_the_same_run_again_writes_nothing(table: Path) -> None:
    first = files(table, "r1", {"n": [1]})

    assert [delta.write(table, "r1", ONE, first) for _ in range(3)] == [0, 0, 0]


def test_what_a_crashed_run_left_goes_out_with_the_next_commit(table: Path) -> None:
    first, lost, third = (files(table, f"r{i}", {"n": [i]}) for i in (1, 2, 3))
    delta.write(table, "r1", ONE, first)
    delta.write(table, "r2", ONE, (*first, *lost))

    assert held(table, delta.write(table, "r3", ONE, (*first, *third))) == [{"n": 1}, {"n": 3}]
    assert held(table, delta.write(table, "r2", ONE, (*first, *third, *lost))) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_new_column_is_null_in_old_rows(table: Path) -> None:
    first, second = files(table, "r1", {"n": [1]}), files(table, "r2", {"n": [2], "s": ["x"]})
    delta.write(table, "r1", ONE, first)

    version = delta.write(table, "r2", TWO, (*first, *second))
    assert held(table, version) == [{"n": 1, "s": None}, {"n": 2, "s": "x"}]
    assert held(table, 0) == [{"n": 1}]


def test_other_columns_replace_the_table(table: Path) -> None:
    delta.write(table, "r1", ONE, files(table, "r1", {"n": [1]}))

    version = delta.write(table, "r2", TWO[1:], files(table, "r2", {"s": ["x"]}))
    assert deltalake.DeltaTable(str(table), version=version).schema().fields[0].name == "s"
    assert held(table, 0) == [{"n": 1}]


def test_a_table_without_rows_is_a_table(table: Path) -> None:
    table.mkdir()

    assert held(table, delta.write(table, "r1", TWO, ())) == []


def test_old_versions_are_kept_through_checkpoints(table: Path) -> None:
    kept: tuple[WrittenFile, ...] = ()
    for number in range(105):
        if number < 2 or number > 102:
            kept = (*kept, *files(table, f"r{number}", {"n": [number]}))
        delta.write(table, f"r{number}", ONE, kept)

    assert held(table, 0) == [{"n": 0}]
