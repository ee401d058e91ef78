"""Tables are made to fit their columns, or it is said which column does not."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.arrow import arrow_schema, arrow_type, column_type, columns_of, fit
from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition

MOMENT = datetime(2013, 1, 1, 5, 0, 0, 7, tzinfo=UTC)
VALUES: dict[ColumnType, Any] = {
    ColumnType.BOOL: st.booleans(),
    ColumnType.INT64: st.integers(-(2**63), 2**63 - 1),
    ColumnType.DOUBLE: st.floats(allow_nan=False),
    ColumnType.STRING: st.text(max_size=9),
    ColumnType.TIMESTAMP: st.datetimes(timezones=st.just(UTC)),
    ColumnType.DATE: st.dates(),
}


def one(values: Any, kind: ColumnType) -> list[Any]:
    found = fit(pa.table({"a": values}), (Column("a", kind),))
    assert found.schema == arrow_schema([Column("a", kind)])
    return list(found["a"].to_pylist())


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(ColumnType).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.none() | VALUES[k], max_size=6)))
)
def test_what_has_the_type_of_its_column_stays_as_it_is(column: tuple[ColumnType, list[Any]]) -> None:
    kind, values = column

    assert one(pa.array(values, arrow_type(kind)), kind) == values


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1, None], pa.uint8()), ColumnType.INT64, [1, None]),
        (pa.array([2**63 - 1], pa.uint64()), ColumnType.INT64, [2**63 - 1]),
        (pa.array([1.5], pa.float16()), ColumnType.DOUBLE, [1.5]),
        (pa.array([2**53]), ColumnType.DOUBLE, [2.0**53]),
        (pa.array(["a"], pa.large_string()), ColumnType.STRING, ["a"]),
        (pa.array(["a", None], pa.string_view()), ColumnType.STRING, ["a", None]),
        (pa.array(["a", "a"]).dictionary_encode(), ColumnType.STRING, ["a", "a"]),
        (pa.nulls(2), ColumnType.STRING, [None, None]),
        (pa.nulls(1), ColumnType.TIMESTAMP, [None]),
        (pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ns")), ColumnType.TIMESTAMP, [MOMENT]),
        (pa.array([MOMENT.astimezone(timezone(timedelta(hours=5)))], pa.timestamp("us", "+05:00")),
         ColumnType.TIMESTAMP, [MOMENT]),
        (pa.array([MOMENT.date()], pa.date64()), ColumnType.DATE, [MOMENT.date()]),
    ],
)  # fmt: skip
def test_a_narrower_type_is_widened(values: Any, kind: ColumnType, expected: list[Any]) -> None:
    assert one(values, kind) == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([2**63], pa.uint64()), ColumnType.INT64),
        (pa.array([1.5]), ColumnType.INT64),
        (pa.array([float("nan")]), ColumnType.INT64),
        (pa.array([2**53 + 1]), ColumnType.DOUBLE),
        (pa.array([1], pa.timestamp("ns")), ColumnType.TIMESTAMP),
        (pa.array([b"\xff"]), ColumnType.STRING),
        (pa.array([[1]]), ColumnType.INT64),
        (pa.array([{"x": 1}]), ColumnType.STRING),
    ],
)
def test_nothing_is_cut_off_to_make_a_value_fit(values: Any, kind: ColumnType) -> None:
    with pytest.raises(FailedPrecondition, match="the column a does not fit") as caught:
        one(values, kind)

    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 300


def test_columns_are_put_in_order_and_those_too_many_are_left_out() -> None:
    columns = (Column("b", ColumnType.INT64), Column("new", ColumnType.DATE), Column("a", ColumnType.INT64))
    table = fit(pa.table({"a": [1], "x": ["?"], "b": [2]}), columns)

    assert table.column_names == ["b", "new", "a"]
    assert table.to_pylist() == [{"b": 2, "new": None, "a": 1}]


def test_a_table_without_rows_or_without_columns_fits() -> None:
    assert fit(pa.table({"a": pa.array([], pa.int32())}), (Column("a", ColumnType.INT64),)).num_rows == 0
    assert fit(pa.table({"a": [1, 2]}), (Column("b", ColumnType.BOOL),))["b"].to_pylist() == [None, None]


def test_chunks_are_taken_as_they_are() -> None:
    chunked = pa.table({"a": pa.chunked_array([[1], [], [2, 3]], pa.int64())})

    assert fit(chunked, (Column("a", ColumnType.INT64),))["a"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    "kind", [pa.time32("s"), pa.duration("s"), pa.month_day_nano_interval(), pa.map_(pa.string(), pa.int8())]
)
def test_a_type_that_no_column_has_is_named_with_its_column(kind: pa.DataType) -> None:
    assert column_type(kind) is None
    with pytest.raises(FailedPrecondition, match=r"the column when has the type .*, which no column can have"):
        columns_of(pa.schema([("id", pa.int64()), ("when", kind)]))


@pytest.mark.parametrize("kind", ColumnType)
def test_a_type_is_found_again_by_how_it_is_stored(kind: ColumnType) -> None:
    assert column_type(arrow_type(kind)) is kind
