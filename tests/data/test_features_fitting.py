from typing import Any

import numpy as np
import pytest

from services.data.features.domain import Imputation, Step, Transform
from services.data.features.fitting import Array, Lookup, Scale, fit

GAPS = np.array([1.0, 2.0, np.nan, 6.0, np.inf])


def lookup(step: Step, values: Array, text: bool = False) -> Lookup:
    work = fit(step, values, text).work
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
    assert fit(Step("x", Transform.IDENTITY, imputation, constant=-1.0), GAPS, False).fill == fill


def test_a_text_is_never_filled() -> None:
    assert fit(Step("x", Transform.COUNT), np.array(["a", ""], object), True).fill is None


@pytest.mark.parametrize(
    ("transform", "shift", "width"),
    [
        (Transform.IDENTITY, 0.0, 1.0),
        (Transform.STANDARDIZE, 3.0, np.std([1.0, 2.0, 6.0])),
        (Transform.MIN_MAX, 1.0, 5.0),
    ],
)
def test_scales_are_those_of_the_finite_values(transform: Transform, shift: float, width: float) -> None:
    assert fit(Step("x", transform), GAPS, False).work == Scale(shift, width)


@pytest.mark.parametrize("transform", [Transform.STANDARDIZE, Transform.MIN_MAX])
def test_a_constant_column_is_not_divided_by_zero(transform: Transform) -> None:
    assert fit(Step("x", transform), np.full(3, 7.0), False).work == Scale(7.0, 1.0)


def test_the_most_frequent_categories_are_kept_and_of_equals_the_first() -> None:
    values = np.array(["b", "b", "c", "a", "d"], object)
    step = fit(Step("x", Transform.ONE_HOT, max_categories=2), values, True)

    assert step.outputs == ("one_hot(x)=a", "one_hot(x)=b")
    assert lookup(Step("x", Transform.ONE_HOT, max_categories=2), values, True).keys == ("a", "b")


def test_a_missing_text_is_a_category_and_a_missing_number_is_not() -> None:
    texts: Any = np.array(["", "a", ""], object)

    assert lookup(Step("x", Transform.COUNT), texts, True).keys == ("", "a")
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
