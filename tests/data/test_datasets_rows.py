"""Files are written as they are told, and any page of their rows can be read."""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.data.arrow import columns_of
from services.data.datasets import parquet, rows
from services.data.datasets.domain import WrittenFile
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition

COUNT = 2 * parquet.ROW_GROUP + 100
NUMBERS = Column("n", ColumnType.INT64), Column("s", ColumnType.STRING)


def write(folder: Path, table: pa.Table, sizes: int = 10_000) -> tuple[WrittenFile, ...]:
    folder.mkdir(exist_ok=True)
    writer = parquet.Writer(folder, columns_of(table.schema))
    for start in range(0, table.num_rows, sizes):
        writer.write(table.slice(start, sizes))
    return writer.close()


def read(folder: Path, files: tuple[WrittenFile, ...], start: int, count: int, *columns: Column) -> list[object]:
    pairs = [(str(folder.parent / file.path), file.rows) for file in files]
    return [row["n"] for row in rows.read(pairs, columns or NUMBERS, start, count)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[WrittenFile, ...]]:
    """Three files, the middle one without the text column."""
    folder = tmp_path_factory.mktemp("rows")
    first = pa.table({"n": range(COUNT), "s": ["x"] * COUNT})
    files = write(folder / "one", first)
    files += write(folder / "two", pa.table({"n": range(COUNT, COUNT + 5)}))
    return folder / "one", files + write(folder / "three", pa.table({"n": [COUNT + 5], "s": ["y"]}))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, COUNT + 10), count=st.integers(1, 1000))
def test_any_page_is_that_part_of_the_rows(
    stored: tuple[Path, tuple[WrittenFile, ...]], start: int, count: int
) -> None:
    assert read(*stored, start, count) == list(range(COUNT + 6))[start : start + count]


def test_a_column_that_a_file_lacks_is_null(stored: tuple[Path, tuple[WrittenFile, ...]]) -> None:
    pairs = [(str(stored[0].parent / file.path), file.rows) for file in stored[1]]

    assert [row["s"] for row in rows.read(pairs, (NUMBERS[1],), COUNT - 1, 9)] == ["x", *[None] * 5, "y"]


def test_a_file_is_told_by_its_bytes(tmp_path: Path) -> None:
    (file,) = write(tmp_path / "run", pa.table({"n": [1, 2]}))
    data = (tmp_path / file.path).read_bytes()

    assert (file.path, file.rows, file.bytes) == ("run/part-00000.parquet", 2, len(data))
    assert file.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_batches_that_rows_came_in_do_not_show(tmp_path: Path) -> None:
    table = pa.table({"n": range(COUNT)})

    one, other = write(tmp_path / "a", table, 999), write(tmp_path / "b", table, COUNT)
    assert [file.digest for file in one] == [file.digest for file in other]


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    assert write(tmp_path / "run", pa.table({"n": pa.array([], pa.int64())})) == ()


def test_a_value_that_does_not_fit_its_column_is_refused(tmp_path: Path) -> None:
    writer = parquet.Writer(tmp_path, (Column("n", ColumnType.INT64),))

    with pytest.raises(FailedPrecondition, match="the column n does not fit int64"):
        writer.write(pa.table({"n": ["x"]}))


def test_a_type_that_no_column_can_have_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="the column n has the type list"):
        columns_of(pa.schema([("n", pa.list_(pa.int64()))]))


def test_values_are_what_json_can_say(tmp_path: Path) -> None:
    table = pa.table({
        "i": [2**53 + 1, None], "d": [float("nan"), float("-inf")], "b": [True, None],
        "t": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC), None], pa.timestamp("us", tz="UTC")),
        "a": [date(2013, 1, 1), None], "s": ["é\x00", ""],
    })  # fmt: skip

    assert rows.to_rows(table, columns_of(table.schema)) == [
        {"i": "9007199254740993", "d": "NaN", "b": True, "t": "2013-01-01T05:00:00Z", "a": "2013-01-01", "s": "é\x00"},
        {"i": None, "d": "-Infinity", "b": None, "t": None, "a": None, "s": ""},
    ]


def test_a_page_of_large_rows_is_shorter(tmp_path: Path) -> None:
    files = write(tmp_path / "run", pa.table({"n": ["é" * 300_000] * 10}))
    pairs = [(str(tmp_path / file.path), file.rows) for file in files]

    assert len(rows.read(pairs, (Column("n", ColumnType.STRING),), 0, 10)) == 2
    assert len(rows.read(pairs, (Column("n", ColumnType.STRING),), 8, 1)) == 1
