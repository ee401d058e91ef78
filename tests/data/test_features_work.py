"""The child that fits, on Parquet files of the test's own."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from services.data.features.work import main
from services.kit import folds, graphs
from services.kit.errors import FailedPrecondition

DAYS = [date(2026, month, 1) for month in (1, 2)]
TIMES = [datetime(2026, month, 1, 0, 0, 1, tzinfo=UTC) for month in (1, 2)]
FILES: dict[str, dict[str, Any]] = {
    "older": {"id": [1, 2], "flag": [True, None], "month": [1, 2], "day": DAYS, "at": TIMES},
    "newer": {"id": [3, 4], "flag": [False, True], "month": [9, 10], "carrier": ["UA", None]},
}
INPUTS = [
    {"name": "flag", "type": "bool", "nullable": True},
    {"name": "month", "type": "int64", "nullable": True},
    {"name": "carrier", "type": "string", "nullable": True},
    {"name": "day", "type": "date", "nullable": True},
    {"name": "at", "type": "timestamp", "nullable": True},
]


class Told:
    """What the child told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def progress(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


def fit(folder: Path, *steps: dict[str, Any], train: Any = None, told: Any = None) -> Any:
    for name, columns in FILES.items():
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    request = {
        "steps": [{"imputation": "none", **step} for step in steps],
        "inputs": INPUTS,
        "train": train,
        "label": "flag",
        "key": "id",
        "files": [str(folder / f"{name}.parquet") for name in FILES],
        "graph": str(folder / "graph.onnx"),
    }
    return main(request, cast(Any, told or Told()))


def run(folder: Path, **columns: Any) -> Any:
    session = graphs.open_session((folder / "graph.onnx").read_bytes())
    return session.run(None, {name: np.array(values)[:, None] for name, values in columns.items()})[0].tolist()


def test_a_boolean_is_a_number_and_a_missing_one_is_imputed(tmp_path: Path) -> None:
    found = fit(tmp_path, {"column": "flag", "transform": "identity", "imputation": "mean"})

    assert (found["rows"], found["outputs"]) == (4, ["flag"])
    assert run(tmp_path, flag=[1.0, 0.0, np.nan]) == [[1.0], [0.0], [pytest.approx(2 / 3)]]


def test_a_column_that_an_older_file_lacks_is_missing_there(tmp_path: Path) -> None:
    found = fit(tmp_path, {"column": "carrier", "transform": "count"})

    assert found["rows"] == 4
    assert run(tmp_path, carrier=np.array(["UA", "", "AA"], object)) == [[1.0], [3.0], [0.0]]


@pytest.mark.parametrize(
    ("start", "end", "months"), [(2, 9, [2, 9]), (None, 2, [1, 2]), (9, None, [9, 10]), (2.5, 9.5, [9])]
)
def test_only_the_training_rows_are_fitted_on(tmp_path: Path, start: Any, end: Any, months: list[int]) -> None:
    train = {"column": "month", "start": start, "end": end}
    found = fit(tmp_path, {"column": "month", "transform": "one_hot"}, train=train)

    assert found["rows"] == len(months)
    assert found["outputs"] == [f"one_hot(month)={month}" for month in months]


def test_a_target_is_learnt_from_the_labels_and_keys_of_the_training_rows(tmp_path: Path) -> None:
    train = {"column": "month", "start": None, "end": 9}
    found = fit(tmp_path, {"column": "month", "transform": "target", "smoothing": 0.0}, train=train)
    session = graphs.open_session((tmp_path / "graph.onnx").read_bytes())
    asked = np.array([[1.0], [2.0], [9.0], [10.0]])
    own = folds.of(pa.array([1, 2, 3, 4]))[:, None].astype(float)

    # The label of the second row is missing.
    assert (found["rows"], found["outputs"]) == (3, ["target(month)"])
    assert session.run(None, {"month": asked})[0].tolist() == [[1.0], [0.5], [0.0], [0.5]]
    held = session.run(None, {"month": asked, folds.INPUT: own})[0]
    assert held[:3].tolist() == [[0.0], [0.5], [1.0]]


@pytest.mark.parametrize(("column", "after"), [("day", 0), ("at", 1)])
def test_dates_and_times_are_seconds_since_1970_and_rows_without_one_teach_nothing(
    tmp_path: Path, column: str, after: int
) -> None:
    (scaling,) = fit(tmp_path, {"column": "month", "transform": "standardize_trend", "order": column})["scalings"]
    january, february = (day.toordinal() * 86_400.0 - date(1970, 1, 1).toordinal() * 86_400 + after for day in DAYS)

    assert scaling["origin"] == (january + february) / 2
    assert scaling["slope"] * 31 * 86_400 == pytest.approx(1)
    assert run(tmp_path, month=[1.0, 2.0], **{column: [january, february]}) == [[0.0], [0.0]]


def test_no_rows_are_an_error_with_a_word(tmp_path: Path) -> None:
    train = {"column": "month", "start": 20, "end": None}
    with pytest.raises(FailedPrecondition, match="there are no rows to fit on"):
        fit(tmp_path, {"column": "month", "transform": "identity"}, train=train)


def test_each_step_is_told(tmp_path: Path) -> None:
    told = Told()
    steps = [{"column": "month", "transform": "identity"}, {"column": "flag", "transform": "one_hot"}]
    fit(tmp_path, *steps, told=told)

    assert told.messages == [
        {"progress": 0.0, "message": "fitting identity(month)"},
        {"progress": 0.5, "message": "fitting one_hot(flag)"},
    ]
