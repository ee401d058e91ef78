from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.kit import folds


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (pa.array([0, 1, 2, 3, -1, None]), [0, 4, 0, 1, 2, 0]),
        (pa.array(["a", "b", "naïve", "", None]), [2, 1, 4, 0, 0]),
    ],
    ids=["numbers", "texts"],
)
def test_the_fold_of_a_key_is_the_same_for_ever(keys: Any, expected: list[int]) -> None:
    """What was fitted with other folds would be used out of the wrong one."""
    assert folds.of(keys).tolist() == expected


@pytest.mark.parametrize(
    "keys",
    [
        pa.array(range(10_000)),
        pa.array([number * 0.1 for number in range(10_000)]),
        pa.array([f"row-{number}" for number in range(10_000)]),
        pa.array([datetime.fromtimestamp(60 * number, UTC) for number in range(10_000)]),
    ],
    ids=["numbers", "fractions", "texts", "times"],
)
def test_folds_are_about_equal_and_depend_on_the_key_alone(keys: Any) -> None:
    found = folds.of(keys)

    assert np.bincount(found, minlength=folds.FOLDS).min() > 1800
    assert folds.of(pa.chunked_array([keys[5:7], keys[7:9]])).tolist() == found[5:9].tolist()


def test_any_column_may_be_the_key() -> None:
    assert folds.of(pa.array([True, False, None])).tolist() == folds.of(pa.array([1, 0, None])).tolist()
    assert folds.of(pa.array([date(1970, 1, 3)])).tolist() == folds.of(pa.array([2])).tolist()
    assert folds.of(pa.array([0.0])).tolist() == folds.of(pa.array([-0.0])).tolist()
    assert folds.of(pa.array([], pa.string())).tolist() == []
