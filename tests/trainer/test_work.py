"""The child as the worker calls it, on Parquet files of the test's own."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from services.data.features.fitting import fit
from services.data.features.graph import compile_graph
from services.data.features.steps import Step, Transform
from services.kit import folds, process
from services.kit.errors import Code, Failure
from services.kit.process import Limits
from services.trainer.training import table
from tests.support.tables import flights

TREES = {"kind": "lightgbm", "rounds": 30, "leaves": 31, "learning_rate": 0.1, "min_data_in_leaf": 50}


@pytest.fixture(scope="module")
def request_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A request for 40,000 rows, of which half are evaluated on.

    Most columns are noise: with few columns, a model of shuffled labels leans to one side of the true ones by chance.
    """
    folder = tmp_path_factory.mktemp("work")
    rows, random = flights(40_000), np.random.default_rng(1)
    noise = [f"noise_{number}" for number in range(20)]
    for name in noise:
        rows = rows.append_column(name, pa.array(random.normal(size=40_000)))
    parquet.write_table(rows, folder / "a.parquet")
    steps = [
        fit(Step("carrier", Transform.ONE_HOT), table.texts(rows["carrier"])),
        fit(Step("hour", Transform.MIN_MAX), table.numbers(rows["hour"])),
        *(fit(Step(name, Transform.IDENTITY), table.numbers(rows[name])) for name in ("temp", *noise)),
    ]
    (folder / "graph.onnx").write_bytes(graph := compile_graph(steps))
    return {
        "files": [str(folder / "a.parquet")],
        "graph": str(folder / "graph.onnx"),
        "graph_digest": f"sha256:{hashlib.sha256(graph).hexdigest()}",
        "inputs": {"carrier": "BYTES", **dict.fromkeys(("hour", "temp", *noise), "FP64")},
        "outputs": [name for step in steps for name in step.outputs],
        "label": "late",
        "key": "id",
        "train": {"column": "month", "start": None, "end": 6.0},
        "evaluate": {"column": "month", "start": 7.0, "end": None},
        "estimator": TREES,
        "seed": 1,
        "permute": False,
        "threads": 2,
        "model": "late",
        "feature_set": "late@1",
        "data_set": "flights@1",
    }


async def work(request: dict[str, Any], folder: Path, **values: Any) -> Any:
    return await process.run("services.trainer.work", {**request, "folder": str(folder), **values}, Limits(120))


async def test_labels_in_a_random_order_teach_nothing(request_of: dict[str, Any], tmp_path: Path) -> None:
    (true, shuffled) = (tmp_path / "true", tmp_path / "shuffled")
    for folder in (true, shuffled):
        folder.mkdir()
    learnt = await work(request_of, true)
    nothing = await work(request_of, shuffled, permute=True)

    assert learnt["metrics"]["auc"] > 0.7
    assert abs(nothing["metrics"]["auc"] - 0.5) < 0.02
    assert "random order" in (shuffled / "card.md").read_text()
    report = orjson.loads((true / "evaluation.json").read_bytes())
    assert sum(found["rows"] for found in report["calibration"]) == learnt["metrics"]["evaluate_rows"]
    assert learnt["signature"]["batch_invariant"]


async def test_a_damaged_graph_is_not_trained_on(request_of: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        await work(request_of, tmp_path, graph_digest=f"sha256:{'0' * 64}")

    assert caught.value.code is Code.DIGEST_MISMATCH


async def test_logistic_regression_says_which_feature_lacks_an_imputation(
    request_of: dict[str, Any], tmp_path: Path
) -> None:
    linear = {"kind": "logistic_regression", "c": 1.0, "iterations": 50}
    with pytest.raises(Failure, match="temp has missing values") as caught:
        await work(request_of, tmp_path, estimator=linear)

    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_a_child_that_needs_too_much_memory_is_stopped(request_of: dict[str, Any], tmp_path: Path) -> None:
    request = {**request_of, "folder": str(tmp_path)}
    with pytest.raises(Failure, match="needs more than 32 MiB"):
        await process.run("services.trainer.work", request, Limits(120, memory_mib=32))


async def test_a_target_encoding_is_learnt_from_out_of_fold_and_served_whole(tmp_path: Path) -> None:
    """A name that only two rows have says their labels, and nothing of rows to come."""
    random = np.random.default_rng(2)
    x, month = random.normal(size=8000), np.repeat([1, 2], 4000)
    late = (random.random(8000) < 1 / (1 + np.exp(-1.5 * x))).astype(int)
    who = np.array([f"n{number}" for number in random.integers(0, 2000, 8000)], object)
    rows = pa.table({"id": range(8000), "month": month, "x": x, "who": who, "late": late})
    parquet.write_table(rows, tmp_path / "a.parquet")
    fold = folds.of(rows["id"])[:4000]
    others = {"label": late[:4000].astype(float), "fold": fold}
    steps = [
        fit(Step("x", Transform.IDENTITY), x),
        fit(Step("who", Transform.TARGET, smoothing=0.0), who[:4000], others),
    ]
    (tmp_path / "graph.onnx").write_bytes(graph := compile_graph(steps))
    (tmp_path / "out").mkdir()
    request = {
        "files": [str(tmp_path / "a.parquet")],
        "graph": str(tmp_path / "graph.onnx"),
        "graph_digest": f"sha256:{hashlib.sha256(graph).hexdigest()}",
        "inputs": {"x": "FP64", "who": "BYTES"},
        "outputs": ["x", "target(who)"],
        "label": "late",
        "key": "id",
        "seed": 1,
        "permute": False,
        "threads": 2,
        "estimator": TREES,
        "train": {"column": "month", "start": None, "end": 1.0},
        "evaluate": {"column": "month", "start": 2.0, "end": None},
        "model": "late",
        "feature_set": "late@1",
        "data_set": "rows@1",
    }
    learnt = await work(request, tmp_path / "out")

    assert learnt["metrics"]["auc"] > 0.77  # 0.81; with labels that leak into training 0.58
    assert [one["name"] for one in learnt["signature"]["inputs"]] == ["x", "who"]
    assert learnt["signature"]["batch_invariant"]
    served = onnx.load_from_string((tmp_path / "out" / "model.onnx").read_bytes())
    assert [one.name for one in served.graph.input] == ["x", "who"]
