"""The Delta log is brought from whatever it holds to what it should hold."""

import shutil
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.arrow import columns_of
from services.data.datasets import delta, parquet
from services.data.datasets.domain import WrittenFile
from services.data.schema import Column, ColumnType

ONE: tuple[Column, ...] = (Column("n", ColumnType.INT64),)
TWO: tuple[Column, ...] = (*ONE, Column("s", ColumnType.STRING))
SPELT: list[dict[str, list[object]]] = [{"n": [1]}, {"n": [2], "s": ["x"]}, {"n": [3], "s": [7]}]


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
    kept, log = tuple[WrittenFile, ...](), table / "_delta_log"
    for number in range(2):
        kept = (*kept, *files(table, f"r{number}", {"n": [number]}))
        delta.write(table, f"r{number}", ONE, kept)
    for number in range(2, 98):  # as many commits again: to write them takes most of a minute
        shutil.copy(log / f"{1:020d}.json", log / f"{number:020d}.json")
    for number in range(98, 105):
        kept = (*kept, *files(table, f"r{number}", {"n": [number]}))
        assert delta.write(table, f"r{number}", ONE, kept) == number

    assert list(log.glob("*.checkpoint.parquet"))
    assert held(table, 0) == [{"n": 0}]
    assert held(table, 104) == [{"n": number} for number in (0, 1, *range(98, 105))]


def test_a_column_that_a_lost_run_added_is_gone_with_it(table: Path) -> None:
    first, lost = files(table, "r1", {"n": [1]}), files(table, "r2", {"n": [2], "s": ["x"]})
    third = files(table, "r3", {"n": [3]})
    delta.write(table, "r1", ONE, first)
    delta.write(table, "r2", TWO, (*first, *lost))
    version = delta.write(table, "r3", ONE, (*first, *third))

    assert held(table, version) == [{"n": 1}, {"n": 3}]
    assert delta.write(table, "r3", ONE, (*first, *third)) == version


def test_a_column_that_a_lost_run_added_may_come_with_another_type(table: Path) -> None:
    first, lost, third = (files(table, f"r{i}", rows) for i, rows in enumerate(SPELT))
    delta.write(table, "r0", ONE, first)
    delta.write(table, "r1", TWO, (*first, *lost))
    version = delta.write(table, "r2", (*ONE, Column("s", ColumnType.INT64)), (*first, *third))

    assert held(table, version) == [{"n": 1, "s": None}, {"n": 3, "s": 7}]
    assert held(table, 0) == [{"n": 1}]


def test_a_table_may_be_written_with_the_columns_in_another_order(table: Path) -> None:
    delta.write(table, "r1", TWO, files(table, "r1", {"n": [1], "s": ["x"]}))
    version = delta.write(table, "r2", TWO[::-1], files(table, "r2", {"s": ["y"], "n": [2]}))

    assert held(table, version) == [{"n": 2, "s": "y"}]


def test_rows_come_to_a_table_that_had_none(table: Path) -> None:
    table.mkdir()
    delta.write(table, "r1", ONE, ())
    version = delta.write(table, "r2", TWO, files(table, "r2", {"n": [1], "s": ["x"]}))

    assert held(table, version) == [{"n": 1, "s": "x"}]
    assert held(table, delta.write(table, "r3", ONE, ())) == []


@settings(max_examples=15, deadline=None)
@given(runs=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_whatever_was_lost_a_table_holds_what_it_was_told(
    runs: list[tuple[bool, bool, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = tmp_path_factory.mktemp("runs") / "t"
    kept, columns, expected, versions = tuple[WrittenFile, ...](), ONE, list[dict[str, object]](), []
    for number, (wide, lost, append) in enumerate(runs):
        rows: dict[str, list[object]] = {"n": [number], **({"s": [f"{number}"]} if wide else {})}
        new = files(table, f"r{number}", rows)
        wanted = TWO if wide or (append and columns == TWO) else ONE
        held_now = (*(kept if append else ()), *new)
        version = delta.write(table, f"r{number}", wanted, held_now)
        if lost:
            continue
        kept, columns = held_now, wanted
        row: dict[str, object] = {"n": number, "s": f"{number}" if wide else None}
        expected = [*(expected if append else ()), row]
        versions.append((version, [{c.name: then[c.name] for c in wanted} for then in expected]))

    for version, rows_then in versions:
        assert held(table, version) == rows_then
