"""Files of a run: bounded, in order, synced, and told by their digests."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.datasets import parquet
from services.data.datasets.domain import QUARANTINE, WrittenFile
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition

NUMBER = (Column("n", ColumnType.INT64),)


def stored(folder: Path, files: tuple[WrittenFile, ...]) -> list[int]:
    tables = [pq.read_table(folder.parent / file.path) for file in files]
    return [number for table in tables for number in table["n"].to_pylist()]


def test_a_file_ends_before_it_is_too_large(tmp_path: Path) -> None:
    count = 128 * parquet.ROW_GROUP
    writer = parquet.Writer(tmp_path, NUMBER)
    writer.write(pa.table({"n": range(2 * count + 5)}))
    files = writer.close()

    assert [(file.path, file.rows) for file in files] == [
        (f"{tmp_path.name}/part-00000.parquet", count),
        (f"{tmp_path.name}/part-00001.parquet", count),
        (f"{tmp_path.name}/part-00002.parquet", 5),
    ]
    assert pq.read_table(tmp_path / "part-00002.parquet")["n"].to_pylist() == list(range(2 * count, 2 * count + 5))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from([0, 1, 100, parquet.ROW_GROUP - 1, parquet.ROW_GROUP, parquet.ROW_GROUP + 1]), max_size=6
    )
)
def test_rows_stand_as_they_came(sizes: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rows")
    writer, begin = parquet.Writer(folder, NUMBER), 0
    for size in sizes:
        writer.write(pa.table({"n": pa.array(range(begin, begin + size), pa.int64())}))
        begin += size
    files = writer.close()

    assert stored(folder, files) == list(range(sum(sizes)))
    assert sum(file.rows for file in files) == sum(sizes)
    for file in files:
        groups = pq.ParquetFile(folder.parent / file.path).metadata
        assert {groups.row_group(i).num_rows for i in range(groups.num_row_groups - 1)} <= {parquet.ROW_GROUP}


def test_a_file_says_what_its_bytes_are(tmp_path: Path) -> None:
    writer = parquet.Writer(tmp_path, NUMBER)
    writer.write(pa.table({"n": [1, 2]}))
    (file,) = writer.close()
    data = (tmp_path.parent / file.path).read_bytes()

    assert (file.bytes, file.rows, file.digest) == (len(data), 2, f"sha256:{hashlib.sha256(data).hexdigest()}")


def test_closing_twice_writes_nothing_twice(tmp_path: Path) -> None:
    writer = parquet.Writer(tmp_path, NUMBER)
    writer.write(pa.table({"n": [1]}))

    assert writer.close() == writer.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_columns_are_cast_filled_and_left_out(tmp_path: Path) -> None:
    columns = (*NUMBER, Column("late", ColumnType.BOOL))
    writer = parquet.Writer(tmp_path, columns)
    writer.write(pa.table({"x": ["?"], "n": pa.array([1], pa.int8())}))
    (file,) = writer.close()

    assert pq.read_table(tmp_path.parent / file.path).to_pylist() == [{"n": 1, "late": None}]


def test_what_does_not_fit_leaves_what_came_before(tmp_path: Path) -> None:
    writer = parquet.Writer(tmp_path, NUMBER)
    writer.write(pa.table({"n": [1]}))
    with pytest.raises(FailedPrecondition):
        writer.write(pa.table({"n": ["x"]}))

    assert stored(tmp_path, writer.close()) == [1]


def test_broken_rows_are_hidden_from_readers_of_the_table(tmp_path: Path) -> None:
    writer = parquet.quarantine_writer(tmp_path)
    writer.write(pa.table({column.name: ["\0é" * 9] for column in QUARANTINE}))
    (file,) = writer.close()

    assert Path(file.path).name.startswith("_")
    assert pq.read_table(tmp_path.parent / file.path).column_names == ["record", "reason", "origin"]


def test_files_cross_a_pipe_as_they_are() -> None:
    files = (WrittenFile("r/part-00000.parquet", 2**40, 2**50, "sha256:1"), WrittenFile("r/b", 0, 0, ""))

    assert parquet.from_json(json.loads(json.dumps(parquet.to_json(files)))) == files
    assert parquet.from_json([]) == ()
