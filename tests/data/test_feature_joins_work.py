"""What the child joins, beside a search through all rows: nothing that was known later, nothing that was too old."""

import os
import resource
import socket
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.data.feature_joins import work
from services.data.feature_joins.domain import Join, JoinedView
from services.data.schema import Column, ColumnType
from services.kit.child import Child

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
KEYS = (Column("key", ColumnType.STRING), Column("number", ColumnType.INT64))
FEATURES = (Column("value", ColumnType.DOUBLE),)
Row = tuple[str | None, int | None, int | None]
ROWS = st.tuples(
    st.sampled_from(["a", "b", None]), st.sampled_from([0, 1, None]), st.one_of(st.none(), st.integers(0, 12))
)


def table(rows: Sequence[Row]) -> pa.Table:
    """Keys and times in seconds; each row's value is its place."""
    times = [None if at is None else EPOCH + timedelta(seconds=at) for _, _, at in rows]
    return pa.table(
        {
            "key": pa.array([key for key, _, _ in rows], pa.string()),
            "number": pa.array([number for _, number, _ in rows], pa.int64()),
            "at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "value": pa.array([float(place) for place in range(len(rows))], pa.float64()),
        }
    )


def joined(
    asked: pa.Table, known: pa.Table, seconds_to_live: float, bucket_rows: int, views: int = 1
) -> dict[str, Any]:
    """What the child makes of it, and `values`, the features by row, which are the same of each of the views."""
    columns = (*KEYS, Column("at", ColumnType.TIMESTAMP), *FEATURES)
    names = [f"known_value{number}" for number in range(views)]
    each = [
        JoinedView("view", 1, "known", 1, ("key", "number"), KEYS, "at", FEATURES, (name,), seconds_to_live)
        for name in names
    ]
    join = Join("operation", "output", "asked", 1, columns, "at", tuple(each), EPOCH)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("out", "scratch"):
            (folder / part).mkdir()
        files = []
        for part, rows in (("asked", asked), ("known", known)):
            half = rows.num_rows // 2
            for number, piece in enumerate((rows.slice(0, half), rows.slice(half))):
                pq.write_table(
                    piece, folder / f"{part}-{number}.parquet", row_group_size=7 if rows.num_rows < 100 else 997
                )
            files.append(
                [(str(folder / f"{part}-{n}.parquet"), count) for n, count in ((0, half), (1, rows.num_rows - half))]
            )
        ours, theirs = socket.socketpair()
        with ours, theirs:
            request = {
                "join": TypeAdapter(Join).dump_python(join, mode="json"),
                "files": files[0],
                "view_files": files[1:] * views,
                "graph_files": [""] * views,
                "folder": str(folder / "out"),
                "scratch": str(folder / "scratch"),
                "bucket_rows": bucket_rows,
            }
            found = work.main(request, Child(ours))
        written = [pq.read_table(folder / "out" / Path(file["path"]).name) for file in found["files"]]
        rows = pa.concat_tables(written) if written else None
        assert rows is None or rows.select(asked.column_names).equals(asked)
        values = [rows.column(name).to_pylist() if rows else [] for name in names]
        assert all(other == values[0] for other in values)
        return {**found, "values": values[0]}


def searched(asked: Sequence[Row], known: Sequence[Row], seconds_to_live: float) -> list[float | None]:
    """The same by definition: of the rows of the entity that were known and are not too old the last of the newest."""
    found = list[float | None]()
    for key, number, at in asked:
        fitting = [
            (then, place)
            for place, (other, its, then) in enumerate(known)
            if None not in (key, number, at, then) and (key, number) == (other, its)
            if then <= at and (not seconds_to_live or at - then <= seconds_to_live)  # type: ignore[operator]
        ]
        found.append(float(max(fitting)[1]) if fitting else None)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ROWS, max_size=30), st.lists(ROWS, max_size=30), st.sampled_from([0.0, 3.0]), st.sampled_from([1, 1000])
)
def test_a_join_is_what_a_search_through_all_rows_finds(
    asked: list[Row], known: list[Row], seconds_to_live: float, bucket_rows: int
) -> None:
    found = joined(table(asked), table(known), seconds_to_live, bucket_rows)
    wanted = searched(asked, known, seconds_to_live)

    assert found["values"] == wanted
    assert (found["rows"], found["found"]) == (len(asked), [sum(value is not None for value in wanted)])


def test_a_planted_value_of_the_future_is_not_found_and_what_is_known_at_the_time_is() -> None:
    known = table([("a", 1, 5), ("a", 1, 6), ("a", 1, 7)])

    assert joined(table([("a", 1, 6)]), known, 0.0, 1000)["values"] == [1.0]
    assert joined(table([("a", 1, 4)]), known, 0.0, 1000)["values"] == [None]


def test_many_views_of_many_buckets_need_few_open_files() -> None:
    asked = [(f"k{n * 7919 % 50}", n % 2, n % 1000) for n in range(2000)]
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    expected = joined(table(asked), table(asked), 0.0, 40)["values"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, most))
    try:
        found = joined(table(asked), table(asked), 0.0, 40, views=5)  # of 51 buckets each
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))

    assert found["values"] == expected
    assert found["found"] == [2000] * 5


def test_many_rows_keep_their_order_over_buckets() -> None:
    asked = [(f"k{n * 7919 % 500}", n % 2, n % 1000) for n in range(40_000)]
    known = [(f"k{n % 500}", n % 2, n % 900) for n in range(20_000)]

    found = joined(table(asked), table(known), 0.0, 1000)

    newest: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for place, (key, number, at) in enumerate(known):
        newest.setdefault((key, number), []).append((at, place))
    wanted = [max((e for e in newest.get((k, n), []) if e[0] <= at), default=None) for k, n, at in asked]
    assert found["values"] == [float(best[1]) if best else None for best in wanted]
