from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from services.trainer.training import files

REQUEST: dict[str, Any] = {
    "model": "late",
    "label": "late",
    "estimator": {"kind": "lightgbm", "rounds": 9},
    "seed": 3,
    "outputs": ["a", "b"],
    "inputs": {"x": "FP64"},
    "permute": False,
    "feature_set": "late@1",
    "data_set": "flights@2",
    "train": {"column": "month", "start": None, "end": 9.0},
    "evaluate": {"column": "month", "start": 10.0, "end": None},
}
METRICS = {"auc": 0.71234, "base_rate": 0.2, "evaluate_rows": 1234.0}


def test_rows_are_written_in_the_order_of_their_key_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "KEPT_ROWS", 2)
    table = pa.table({"id": [3, 1, 2], "name": ["c", "a", None], "late": [0, 1, 1]})
    files.write_rows(tmp_path / "rows.arrow", table, "id", np.array([0.3, 0.1, 0.2], np.float64))
    found = pa.ipc.open_file(str(tmp_path / "rows.arrow")).read_all()

    assert found.column_names == ["id", "name", "late", "probability"]
    assert (found["id"].to_pylist(), found["name"].to_pylist()) == ([1, 2], ["a", None])
    assert found["probability"].type == pa.float32()


def test_json_has_sorted_keys(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": np.float64(0.5), "a": 1})

    assert (tmp_path / "a.json").read_bytes() == b'{"a":1,"b":0.5}'


def test_the_environment_names_every_package_that_counts() -> None:
    found = files.environment(2)

    assert {*files.PACKAGES, "python", "cpu", "threads"} == set(found)
    assert orjson.loads(orjson.dumps(found)) == found


def test_a_card_says_what_it_is_made_of_and_what_it_is_worth() -> None:
    card = files.card(REQUEST, METRICS, 5000, True)

    assert card.startswith("# late\n\nlightgbm (rounds 9), seed 3.\n")
    assert "Features late@1, data flights@2. Trained on 5,000 rows (month <= 9)" in card
    assert "measured on 1,234 rows (10 <= month)" in card
    assert "| auc | 0.7123 |" in card
    assert "| base rate | 0.2000 |" in card
    assert "the same bytes" in card
    assert "random order" not in card


def test_a_card_does_not_hide_shuffled_labels_nor_a_loose_batch() -> None:
    card = files.card({**REQUEST, "permute": True}, METRICS, 5000, False)

    assert "random order" in card
    assert "close numbers" in card
