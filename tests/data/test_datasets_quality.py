"""Statistics of batches are those of the whole, exactly or as near as they promise."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.arrow import arrow_type
from services.data.datasets import statistics
from services.data.datasets.quality import SKETCH, ColumnQuality, merge
from services.data.datasets.statistics import Statistics, measure
from services.data.schema import Column, ColumnType

NUMBERS = st.none() | st.floats(-1e9, 1e9) | st.sampled_from([float("nan"), float("inf"), 0.0, -0.0])
VALUES = {
    ColumnType.INT64: st.none() | st.integers(-(2**63), 2**63 - 1),
    ColumnType.DOUBLE: NUMBERS,
    ColumnType.STRING: st.none() | st.text(max_size=5),
    ColumnType.BOOL: st.none() | st.booleans(),
}
COLUMNS = st.sampled_from(list(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), st.lists(VALUES[kind])))


def seen(kind: ColumnType, values: Sequence[Any]) -> ColumnQuality:
    return measure(Column("a", kind), pa.chunked_array([pa.array(values, arrow_type(kind))]))


@settings(deadline=None)
@given(COLUMNS)
def test_what_is_measured_is_what_plain_python_counts(column: tuple[ColumnType, list[Any]]) -> None:
    kind, values = column
    found = seen(kind, values)
    present = [value for value in values if value is not None]
    finite = [v for v in present if not isinstance(v, float) or np.isfinite(v)]

    assert found.nulls == values.count(None)
    assert found.distinct == len({repr(v + 0.0) if kind is ColumnType.DOUBLE else v for v in present})
    if kind is ColumnType.INT64 and finite:
        assert (int(found.minimum), int(found.maximum)) == (min(finite), max(finite))
    if kind is ColumnType.DOUBLE and finite:
        assert (float(found.minimum), float(found.maximum)) == (min(finite), max(finite))
        assert found.mean == pytest.approx(np.mean(finite), rel=1e-6, abs=1e-3)


@settings(deadline=None)
@given(COLUMNS, st.integers(0, 20))
def test_two_parts_merge_to_the_whole(column: tuple[ColumnType, list[Any]], cut: int) -> None:
    kind, values = column
    merged, whole = merge(seen(kind, values[:cut]), seen(kind, values[cut:]), kind), seen(kind, values)

    assert (merged.nulls, merged.distinct, merged.numbers) == (whole.nulls, whole.distinct, whole.numbers)
    assert (merged.minimum, merged.maximum, merged.sketch) == (whole.minimum, whole.maximum, whole.sketch)
    assert merged.mean == pytest.approx(whole.mean, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize("count", [SKETCH - 1, SKETCH, 5_000, 200_000])
def test_many_distinct_values_are_estimated_well(count: int) -> None:
    names = pa.array([f"N{i}" for i in range(count)])
    texts = measure(Column("a", ColumnType.STRING), pa.chunked_array([names, names]))
    numbers = measure(Column("a", ColumnType.INT64), pa.chunked_array([pa.array(range(count))]))

    for found in (texts, numbers):
        assert found.distinct == pytest.approx(count, rel=0 if count < SKETCH else 0.2)


def test_times_and_dates_are_told_as_the_wire_does() -> None:
    hours = [datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 1, 2, 5, 0, 0, 500, tzinfo=UTC)]
    times, dates = seen(ColumnType.TIMESTAMP, hours), seen(ColumnType.DATE, [date(2013, 1, 2), date(1969, 1, 1)])

    assert (times.minimum, times.maximum) == ("2013-01-01T05:00:00Z", "2013-01-02T05:00:00.000500Z")
    assert (dates.minimum, dates.maximum, dates.distinct) == ("1969-01-01", "2013-01-02", 2)


def test_nothing_has_nothing() -> None:
    assert seen(ColumnType.STRING, []) == ColumnQuality("a")
    assert seen(ColumnType.DOUBLE, [None]) == ColumnQuality("a", nulls=1)
    assert Statistics((Column("a", ColumnType.INT64),)).result() == (ColumnQuality("a"),)


def test_statistics_cross_a_pipe_as_they_are() -> None:
    found = Statistics((Column("a", ColumnType.INT64), Column("b", ColumnType.STRING)))
    for part in ([1, 2], [2, 3]):
        found.add(pa.table({"a": part, "b": ["x", None]}))

    assert statistics.from_json(statistics.to_json(found.result())) == found.result()
    assert [(q.distinct, q.nulls, q.mean) for q in found.result()] == [(3, 0, 2.0), (1, 2, 0.0)]
