"""Statistics at the edges of what columns can hold."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.data.arrow import arrow_type
from services.data.datasets import statistics
from services.data.datasets.quality import SKETCH, ColumnQuality, estimate, merge
from services.data.datasets.statistics import Statistics, measure
from services.data.schema import Column, ColumnType

MOMENT = datetime(2013, 1, 1, 5, tzinfo=UTC)


def seen(kind: ColumnType, *values: Any) -> ColumnQuality:
    return measure(Column("a", kind), pa.chunked_array([pa.array(values, arrow_type(kind))]))


def joined(kind: ColumnType, *parts: list[Any]) -> ColumnQuality:
    found = seen(kind, *parts[0])
    for part in parts[1:]:
        found = merge(found, seen(kind, *part), kind)
    return found


@pytest.mark.parametrize("values", [[1e308] * 4, [1.7e308, -1.7e308], [1.7e308] * 3 + [-1.7e308], [5e-324, 5e-324]])
def test_a_mean_is_finite_when_its_numbers_are(values: list[float]) -> None:
    exact = sum(value / len(values) for value in values)

    for found in (seen(ColumnType.DOUBLE, *values), joined(ColumnType.DOUBLE, values[:1], values[1:])):
        assert math.isfinite(found.mean)
        assert found.mean == pytest.approx(exact, rel=1e-9)
        assert statistics.from_json(orjson.loads(orjson.dumps(statistics.to_json([found])))) == (found,)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4), min_size=1, max_size=4)
)
def test_a_mean_lies_among_its_numbers(parts: list[list[float]]) -> None:
    values = [value for part in parts for value in part]
    found = joined(ColumnType.DOUBLE, *parts)
    room = 1e-9 * max(abs(value) for value in values)

    assert min(values) - room <= found.mean <= max(values) + room
    assert (float(found.minimum), float(found.maximum)) == (min(values), max(values))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=6), st.integers(1, 5))
def test_times_are_compared_as_times_with_and_without_a_fraction(micros: list[int], cut: int) -> None:
    times = [MOMENT + timedelta(microseconds=number) for number in micros]
    parted, whole = joined(ColumnType.TIMESTAMP, times[:cut], times[cut:]), seen(ColumnType.TIMESTAMP, *times)

    assert (parted.minimum, parted.maximum) == (whole.minimum, whole.maximum)
    assert datetime.fromisoformat(parted.minimum) == min(times)
    assert datetime.fromisoformat(parted.maximum) == max(times)


def test_an_empty_text_is_a_value() -> None:
    for found in (joined(ColumnType.STRING, [""], ["b"]), joined(ColumnType.STRING, ["b"], ["", None])):
        assert (found.minimum, found.maximum, found.distinct) == ("", "b", 2)
    only = joined(ColumnType.STRING, [None], ["b"])
    assert (only.minimum, only.maximum, only.nulls) == ("b", "b", 1)


def test_truth_is_told_in_words_and_counted_as_numbers() -> None:
    found = joined(ColumnType.BOOL, [True, None], [False, True, True])

    assert (found.minimum, found.maximum, found.distinct, found.mean) == ("false", "true", 2, 0.75)


def test_numbers_that_are_none_are_values_without_an_extreme() -> None:
    found = seen(ColumnType.DOUBLE, math.nan, math.inf, -math.inf, None)

    assert (found.nulls, found.distinct, found.numbers, found.minimum, found.mean) == (1, 3, 0, "", 0.0)
    more = merge(found, seen(ColumnType.DOUBLE, 2.0), ColumnType.DOUBLE)
    assert (more.numbers, more.minimum, more.maximum, more.mean) == (1, "2.0", "2.0", 2.0)


def test_the_largest_whole_numbers_stay_whole() -> None:
    found = joined(ColumnType.INT64, [2**63 - 1], [-(2**63)], [2**53 + 1])

    assert (found.minimum, found.maximum) == (str(-(2**63)), str(2**63 - 1))
    assert found.distinct == 3


def test_a_long_text_is_told_by_its_beginning() -> None:
    found = seen(ColumnType.STRING, "é" * 5000, "z" * 5000)

    assert (found.minimum, found.maximum) == ("z" * 200, "é" * 200)


@pytest.mark.parametrize("day", [date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31)])
def test_a_day_of_any_year_is_told(day: date) -> None:
    assert seen(ColumnType.DATE, day).minimum == day.isoformat()


def test_a_slice_of_a_column_is_only_that_slice() -> None:
    texts = pa.array(["long " * 50, "a", "b", None, "c" * 99])
    found = measure(Column("a", ColumnType.STRING), pa.chunked_array([texts.slice(1, 3), texts.slice(2, 1)]))

    assert (found.distinct, found.nulls, found.minimum, found.maximum) == (2, 1, "a", "b")
    assert found.sketch == seen(ColumnType.STRING, "a", "b").sketch


@settings(deadline=None, max_examples=50)
@given(st.sets(st.text(max_size=8), max_size=30))
def test_different_texts_have_different_hashes(texts: set[str]) -> None:
    assert seen(ColumnType.STRING, *texts).distinct == len(texts)


def test_texts_that_differ_by_zeros_at_their_end_are_different() -> None:
    assert seen(ColumnType.STRING, "", "\0", "\0\0", "a", "a\0", "\0a").distinct == 6


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 2000), max_size=700), min_size=1, max_size=4))
def test_it_does_not_matter_how_rows_are_cut_into_batches(parts: list[list[int]]) -> None:
    together = Statistics((Column("a", ColumnType.INT64),))
    for part in parts:
        together.add(pa.table({"a": pa.array(part, pa.int64())}))
    (found,) = together.result()
    whole = seen(ColumnType.INT64, *(number for part in parts for number in part))

    assert found.sketch == whole.sketch
    assert (found.distinct, found.minimum, found.maximum) == (whole.distinct, whole.minimum, whole.maximum)


def test_a_sketch_is_bounded_and_estimates_by_its_last() -> None:
    full = tuple(range(1, SKETCH + 1))

    assert estimate(full[:-1]) == SKETCH - 1
    assert estimate((*full[:-1], 2**63)) == round((SKETCH - 1) * 2)
    assert (
        len(merge(ColumnQuality("a", sketch=full), ColumnQuality("a", sketch=(0, 2**64 - 1)), ColumnType.INT64).sketch)
        == SKETCH
    )
