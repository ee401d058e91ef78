"""What data sets become on the wire."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.v1 import datasets_pb2 as pb
from services.data.datasets import wire
from services.data.datasets.domain import DataSet, DataSetVersion, Lineage, LineageNode, Location, Quality, WrittenFile
from services.data.datasets.quality import ColumnQuality
from services.data.datasets.rows import size_of
from services.data.schema import Column, ColumnType

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RAW, FLIGHTS = LineageNode("data_set", "raw", 3), LineageNode("data_set", "flights", 1)
VERSION = DataSetVersion(
    data_set="flights",
    version=1,
    rows=7,
    bytes=100,
    rows_added=7,
    digest="sha256:1",
    columns=(Column("id", ColumnType.INT64, False),),
    quality=Quality(7, {"bad": 2}, {"cancelled": 3}, (ColumnQuality("id", 1, 6, "1", "9", 4.5, 6, (1, 2)),)),
    parents=(RAW,),
    create_time=NOW,
    run="r1",
    delta_version=5,
    first_version=1,
)
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=12)
ROWS = st.dictionaries(st.text(min_size=1, max_size=12), VALUES, max_size=12)


def sent(*rows: dict[str, Any]) -> pb.ReadRowsResponse:
    answer = pb.ReadRowsResponse()
    wire.add_rows(rows, answer)
    return answer


@settings(deadline=None)
@given(ROWS)
def test_a_row_takes_no_more_room_than_was_said(row: dict[str, Any]) -> None:
    around = sent({}).ByteSize() + 8  # of the row itself: its tag, and lengths that grow

    assert sent(row).ByteSize() <= size_of(row) + around


@pytest.mark.parametrize(
    "row",
    [
        {f"c{number}": "" for number in range(500)},
        {f"{number:02}" + "日" * 126: 1.0 for number in range(60)},
        {"text": "日" * 100_000},
        {f"c{number}": None for number in range(500)},
    ],
    ids=["empty texts", "long names", "a long text", "nothing"],
)
def test_rows_of_odd_shapes_take_no_more_room_than_was_said(row: dict[str, Any]) -> None:
    assert sent(row, row).ByteSize() <= 2 * size_of(row) + 16


@settings(deadline=None)
@given(st.lists(ROWS, max_size=4))
def test_rows_arrive_as_they_were(rows: list[dict[str, Any]]) -> None:
    assert [dict(row) for row in sent(*rows).rows] == rows


def test_truth_is_no_number_and_nothing_is_no_text() -> None:
    (row,) = sent({"yes": True, "one": 1, "nothing": None, "text": ""}).rows

    kinds = {name: value.WhichOneof("kind") for name, value in row.fields.items()}
    assert kinds == {"yes": "bool_value", "one": "number_value", "nothing": "null_value", "text": "string_value"}


def test_a_version_is_told_with_its_quality() -> None:
    found = wire.version_to_wire(VERSION)

    assert (found.rows, found.bytes, found.rows_added, found.digest) == (7, 100, 7, "sha256:1")
    assert (dict(found.quality.quarantined), dict(found.quality.excluded)) == ({"bad": 2}, {"cancelled": 3})
    assert MessageToDict(found.quality)["columns"] == [
        {"column": "id", "nulls": "1", "distinct": "6", "minimum": "1", "maximum": "9", "mean": 4.5}
    ]
    assert [(node.kind, node.name, node.version) for node in found.parents] == [("data_set", "raw", 3)]
    assert found.create_time.ToDatetime(tzinfo=UTC) == NOW


def test_an_etag_is_the_generation_and_a_time_that_is_not_is_not_set() -> None:
    found = wire.data_set_to_wire(DataSet("flights", "of 2013", 4, 9, NOW, NOW))

    assert (found.etag, found.latest_version, found.description) == ("9", 4, "of 2013")
    assert not found.HasField("delete_time")


def test_an_edge_points_from_what_was_read_to_what_was_written() -> None:
    found = wire.lineage_to_wire(Lineage((RAW, FLIGHTS), ((RAW, FLIGHTS),)))

    assert [node.name for node in found.nodes] == ["raw", "flights"]
    assert MessageToDict(found)["edges"] == [
        {
            "from": {"kind": "data_set", "name": "raw", "version": 3},
            "to": {"kind": "data_set", "name": "flights", "version": 1},
        }
    ]


def test_a_place_is_told_with_its_files_in_order() -> None:
    files = (WrittenFile("r1/b.parquet", 3, 30, "sha256:b"), WrittenFile("r1/a.parquet", 4, 70, "sha256:a"))
    found = wire.location_to_wire(Location("/tables/flights", 5, files, VERSION))

    assert (found.uri, found.delta_version, found.version.version) == ("/tables/flights", 5, 1)
    assert [(file.path, file.rows, file.bytes, file.digest) for file in found.files] == [
        ("r1/b.parquet", 3, 30, "sha256:b"),
        ("r1/a.parquet", 4, 70, "sha256:a"),
    ]


def test_no_more_values_are_told_apart_than_there_are_rows_that_have_one() -> None:
    found = Quality(1200, {}, {}, (ColumnQuality("id", 100, 1210), ColumnQuality("few", 0, 7)))

    assert [column.distinct for column in wire.quality_to_wire(found).columns] == [1100, 7]
