from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from services.kit.errors import FailedPrecondition
from services.trainer.jobs.domain import RowRange
from services.trainer.training import table


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files; the older one lacks a column that the newer one has."""
    older = pa.table({"id": [1, 2, 3], "month": [1, 2, None], "late": [True, False, True]})
    newer = pa.table({"id": [4, 5], "month": [9, 10], "late": [False, True], "carrier": ["UA", None]})
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for path, content in zip(paths, (older, newer), strict=True):
        parquet.write_table(content, path)
    return paths


def ids(found: Any) -> list[int]:
    return list(found["id"].to_pylist())


def test_ranges_include_both_ends_and_leave_missing_ones_out(files: list[str]) -> None:
    ranges = [RowRange("month", None, 9), RowRange("month", 2, 9.5), RowRange("month"), RowRange("month", 11, None)]

    assert [ids(found) for found in table.read(files, ["id"], ranges)] == [[1, 2, 4], [2, 4], [1, 2, 4, 5], []]


def test_a_column_that_an_older_file_lacks_is_missing_there(files: list[str]) -> None:
    (found,) = table.read(files, ["id", "carrier"], [RowRange("id")])

    assert table.texts(found["carrier"]).tolist() == ["", "", "", "UA", ""]
    assert found.column_names == ["id", "carrier"]


def test_a_range_on_a_column_that_a_file_lacks_takes_none_of_it(files: list[str]) -> None:
    assert ids(table.read([files[0]], ["id"], [RowRange("none")])[0]) == []


def test_a_column_that_no_file_has_is_named(files: list[str]) -> None:
    with pytest.raises(FailedPrecondition, match="the data set has no column none"):
        table.read(files, ["id", "none"], [RowRange("id")])


def test_numbers_and_texts_become_what_a_graph_takes() -> None:
    content = pa.table({"flag": [True, None], "count": pa.array([2**53, None], pa.int64()), "name": ["x", None]})
    feeds = table.feeds(content, {"flag": "FP64", "count": "FP64", "name": "BYTES"})

    np.testing.assert_array_equal(feeds["flag"], [[1.0], [np.nan]])
    np.testing.assert_array_equal(feeds["count"], [[2.0**53], [np.nan]])
    assert feeds["name"].tolist() == [["x"], [""]]


@pytest.mark.parametrize("unit", ["us", "ns", "ms"])
def test_a_time_is_seconds_since_1970(unit: str) -> None:
    moment = datetime(2026, 3, 1, 12, 30, 0, 250_000, UTC)
    content = pa.table({"at": pa.array([moment, None], pa.timestamp(unit, "UTC"))})

    np.testing.assert_array_equal(table.feeds(content, {"at": "FP64"})["at"], [[moment.timestamp()], [np.nan]])


def test_a_date_is_the_second_it_begins_with() -> None:
    assert table.numbers(pa.chunked_array([pa.array([date(1970, 1, 3), date(1969, 12, 31)])])).tolist() == [
        172800,
        -86400,
    ]


@pytest.mark.parametrize(
    ("labels", "says"),
    [([0, 2], "must be 0 or 1"), ([0, None], "must be 0 or 1"), ([], "no rows to train on"), ([1, 1], "the same late")],
)
def test_labels_that_cannot_be_learnt_are_refused(labels: list[int | None], says: str) -> None:
    with pytest.raises(FailedPrecondition, match=says):
        table.binary(pa.table({"late": pa.array(labels, pa.int64())}), "late", "train on")


def test_labels_may_be_booleans() -> None:
    assert table.binary(pa.table({"late": [True, False]}), "late", "train on").tolist() == [1.0, 0.0]
