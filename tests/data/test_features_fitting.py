from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data.features.constants import Array, Lookup, Scale
from services.data.features.fitting import fit
from services.data.features.steps import Imputation, Step, Transform
from services.kit.errors import FailedPrecondition

GAPS = np.array([1.0, 2.0, np.nan, 6.0, np.inf])


def lookup(step: Step, values: Array) -> Lookup:
    work = fit(step, values).work
    assert isinstance(work, Lookup)
    return work


@pytest.mark.parametrize(
    ("imputation", "fill"),
    [
        (Imputation.NONE, None),
        (Imputation.MEAN, 3.0),
        (Imputation.MEDIAN, 2.0),
        (Imputation.CONSTANT, -1.0),
    ],
)
def test_what_fills_a_gap_is_found_among_finite_numbers(imputation: Imputation, fill: float | None) -> None:
    assert fit(Step("x", Transform.IDENTITY, imputation, constant=-1.0), GAPS).takes[0].fill == fill


def test_a_text_is_never_filled() -> None:
    assert fit(Step("x", Transform.COUNT), np.array(["a", ""], object)).takes[0].fill is None


@pytest.mark.parametrize(
    ("transform", "shift", "width"),
    [
        (Transform.IDENTITY, 0.0, 1.0),
        (Transform.STANDARDIZE, 3.0, np.std([1.0, 2.0, 6.0])),
        (Transform.MIN_MAX, 1.0, 5.0),
    ],
)
def test_scales_are_those_of_the_finite_values(transform: Transform, shift: float, width: float) -> None:
    assert fit(Step("x", transform), GAPS).work == Scale(shift, width)


@pytest.mark.parametrize("transform", [Transform.STANDARDIZE, Transform.MIN_MAX])
def test_a_constant_column_is_not_divided_by_zero(transform: Transform) -> None:
    assert fit(Step("x", transform), np.full(3, 7.0)).work == Scale(7.0, 1.0)


def test_the_most_frequent_categories_are_kept_and_of_equals_the_first() -> None:
    values = np.array(["b", "b", "c", "a", "d"], object)
    step = fit(Step("x", Transform.ONE_HOT, max_categories=2), values)

    assert step.outputs == ("one_hot(x)=a", "one_hot(x)=b")
    assert lookup(Step("x", Transform.ONE_HOT, max_categories=2), values).keys == ("a", "b")


def test_a_missing_text_is_a_category_and_a_missing_number_is_not() -> None:
    texts: Any = np.array(["", "a", ""], object)

    assert lookup(Step("x", Transform.COUNT), texts).keys == ("", "a")
    assert lookup(Step("x", Transform.COUNT), GAPS).keys == (1.0, 2.0, 6.0)


def test_an_imputed_number_counts_as_its_category() -> None:
    found = lookup(Step("x", Transform.COUNT, Imputation.CONSTANT, constant=2.0), GAPS)

    assert (found.keys, found.rows[:, 0].tolist()) == ((1.0, 2.0, 6.0), [1.0, 2.0, 1.0])


def test_there_is_one_zero() -> None:
    assert lookup(Step("x", Transform.COUNT), np.array([0.0, -0.0])).rows.tolist() == [[2.0]]


def test_a_cycle_is_a_table_that_begins_at_the_offset() -> None:
    found = lookup(Step("x", Transform.CYCLIC, period=4, offset=1), GAPS)

    assert found.keys == (1.0, 2.0, 3.0, 4.0)
    np.testing.assert_allclose(found.rows, [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-7)
    assert found.rows.dtype == np.float32


@pytest.mark.parametrize("value", [0.1, 1e-300, 1 / 3, -7.7, 1e300])
@pytest.mark.parametrize("transform", [Transform.STANDARDIZE, Transform.MIN_MAX])
def test_a_constant_column_gives_exactly_zero(transform: Transform, value: float) -> None:
    assert fit(Step("x", transform), np.full(1001, value)).work == Scale(value, 1.0)


@pytest.mark.parametrize(
    ("transform", "values"),
    [
        (Transform.STANDARDIZE, [1e308, 1.1e308, 1.2e308]),
        (Transform.STANDARDIZE, [-1e200, 1e200]),
        (Transform.MIN_MAX, [-1e308, 1e308]),
    ],
)
def test_numbers_too_large_to_be_scaled_are_refused(transform: Transform, values: list[float]) -> None:
    with pytest.raises(FailedPrecondition, match="x holds numbers that are too large to be scaled"):
        fit(Step("x", transform), np.array(values))


@pytest.mark.parametrize("imputation", [Imputation.MEAN, Imputation.MEDIAN])
def test_a_middle_that_is_no_number_fills_nothing(imputation: Imputation) -> None:
    with pytest.raises(FailedPrecondition, match="x holds numbers that are too large"):
        fit(Step("x", Transform.IDENTITY, imputation), np.array([1e308, 1.2e308]))


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ([1234567.0, 1234568.0], ["1234567", "1234568"]),
        ([2.0**53 - 1, 2.0**53, 2.0**53 + 2], ["9007199254740991", "9007199254740992.0", "9007199254740994.0"]),
        ([0.1, 0.1 + 1e-16, 0.30000000000000004], ["0.1", "0.1000000000000001", "0.30000000000000004"]),
        ([-3.0, -0.0, 1e22, 1e-7], ["-3", "0", "1e-07", "1e+22"]),
    ],
)
def test_every_category_has_a_name_of_its_own(keys: list[float], names: list[str]) -> None:
    outputs = fit(Step("x", Transform.ONE_HOT), np.array(keys)).outputs

    assert outputs == tuple(f"one_hot(x)={name}" for name in names)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_no_two_numbers_share_a_name(values: list[float]) -> None:
    outputs = fit(Step("x", Transform.ONE_HOT), np.array(values)).outputs

    assert len(set(outputs)) == len(outputs) == len({value + 0.0 for value in values})


@given(st.lists(st.text(max_size=4), min_size=1, max_size=20))
def test_texts_are_counted_as_they_are(texts: list[str]) -> None:
    found = lookup(Step("x", Transform.COUNT), np.array(texts, object))

    assert dict(zip(found.keys, found.rows[:, 0].tolist(), strict=True)) == Counter(texts)
    assert list(found.keys) == sorted(set(texts))


def test_texts_that_end_in_zeros_are_categories_of_their_own() -> None:
    found = lookup(Step("x", Transform.COUNT), np.array(["a", "a\0", "a\0\0"], object))

    assert found.keys == ("a", "a\0", "a\0\0")


def test_one_long_text_does_not_take_its_room_for_every_row() -> None:
    values = np.array(["x" * 10_000_000, *["a"] * 100_000], object)  # 4 TB as an array of equal widths

    assert lookup(Step("x", Transform.COUNT), values).rows.tolist() == [[100_000.0], [1.0]]


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_no_more_categories_are_kept_than_were_asked_for(most: int) -> None:
    values = np.repeat(np.arange(5.0), [1, 5, 2, 4, 3])
    kept = [key for key, _ in sorted(zip(range(5), [1, 5, 2, 4, 3], strict=True), key=lambda pair: -pair[1])][:most]

    assert lookup(Step("x", Transform.ONE_HOT, max_categories=most), values).keys == tuple(sorted(map(float, kept)))


@pytest.mark.parametrize("offset", [-(2**31), -1, 0, 2**31 - 5])
def test_a_cycle_may_begin_anywhere(offset: int) -> None:
    found = lookup(Step("x", Transform.CYCLIC, period=4, offset=offset), GAPS)

    assert found.keys == tuple(float(offset + place) for place in range(4))
