"""Trees and weights as ONNX: what LightGBM and scikit-learn say, and the same bytes in any batch."""

import os
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.kit.errors import FailedPrecondition, Internal
from services.trainer.jobs import domain
from services.trainer.jobs.domain import LightGbm
from services.trainer.training import boosting, logistic, model
from services.trainer.training.session import Session, batch_invariant, no_warnings
from services.trainer.training.table import Array

NAMES = ["a", "b", "c", "d", "e", "f"]
HOW = LightGbm(rounds=25, leaves=15, learning_rate=0.1, min_data_in_leaf=20)


def data(rows: int = 4000, gaps: bool = True) -> tuple[Array, Array]:
    random = np.random.default_rng(5)
    features = random.normal(size=(rows, 6)).astype(np.float32)
    features[:, 4] = random.integers(0, 3, rows)
    features[:, 5] = 1.0
    odds = features[:, 0] - 2 * features[:, 1] * (features[:, 4] == 1)
    if gaps:
        features[:, 2][random.random(rows) < 0.2] = np.nan
    return features, (random.random(rows) < 1 / (1 + np.exp(-odds))).astype(float)


def graph(width: int = 6) -> bytes:
    """A feature graph that takes numbers as they are."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["rows", 1]) for name in NAMES[:width]]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", width])
    nodes = [helper.make_node("Cast", [name], [f"__{name}"], to=TensorProto.FLOAT) for name in NAMES[:width]]
    nodes.append(helper.make_node("Concat", [f"__{name}" for name in NAMES[:width]], ["features"], axis=1))
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 4)]
    body = helper.make_graph(nodes, "features", inputs, [output])
    return bytes(helper.make_model(body, opset_imports=sets, ir_version=10).SerializeToString())


def feeds(features: Array) -> dict[str, Array]:
    return {name: features[:, [i]].astype(np.float64) for i, name in enumerate(NAMES)}


def nothing(*_: Any) -> None: ...


@pytest.fixture(scope="module")
def trees() -> Any:
    features, labels = data()
    return boosting.train(features, labels, HOW, 1, 2, nothing)


def test_the_operator_says_what_lightgbm_says_for_any_row(trees: Any) -> None:
    features, labels = data()
    settings = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "seed": 1}
    settings |= {"deterministic": True, "force_row_wise": True, "num_threads": 2, "verbosity": -1}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, labels), 25)
    asked = np.concatenate([features, np.full((1, 6), np.nan, np.float32), np.zeros((1, 6), np.float32)])
    outputs = Session(model.append_trees(graph(), boosting.operator(trees))).run(feeds(asked))

    assert outputs.shape == (4002, 1)
    np.testing.assert_allclose(outputs[:, 0], booster.predict(asked), atol=1e-6)


def test_rows_on_a_threshold_take_the_branch_that_training_took() -> None:
    below = np.float32(0.1)
    above = np.nextafter(below, np.float32(1))
    middle = (float(below) + float(above)) / 2

    assert boosting.floor_to_float(middle) == below
    assert boosting.floor_to_float(float(above)) == above
    assert boosting.floor_to_float(-middle) == -above


@pytest.mark.parametrize("kind", ["trees", "weights"])
def test_a_row_gives_the_same_bytes_in_any_batch(kind: str, trees: Any) -> None:
    features, labels = data(gaps=False)
    if kind == "trees":
        packed = model.append_trees(graph(), boosting.operator(trees))
    else:
        packed = model.append_linear(
            graph(), *logistic.train(features, labels, NAMES, domain.LogisticRegression(1.0, 100), nothing)
        )

    assert batch_invariant(Session(packed), feeds(features))


def test_a_graph_that_depends_on_its_batch_is_found_out() -> None:
    nodes = [helper.make_node("ReduceSum", ["a"], ["s"]), helper.make_node("Add", ["a", "s"], ["probability"])]
    takes = helper.make_tensor_value_info("a", TensorProto.DOUBLE, ["rows", 1])
    gives = helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["rows", 1])
    body = helper.make_graph(nodes, "sums", [takes], [gives])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    assert not batch_invariant(Session(made.SerializeToString()), {"a": np.ones((5, 1))})


def test_the_model_takes_what_the_features_take_and_keeps_their_versions(trees: Any) -> None:
    made = onnx.load_from_string(model.append_trees(graph(), boosting.operator(trees)))

    assert [found.name for found in made.graph.input] == NAMES
    assert [found.name for found in made.graph.output] == ["probability"]
    assert (made.ir_version, {s.domain: s.version for s in made.opset_import}) == (10, {"": 21, "ai.onnx.ml": 4})


def test_training_is_the_same_twice_and_tells_its_loss(trees: Any) -> None:
    points: list[tuple[str, int, float]] = []
    again = boosting.train(*data(), HOW, 1, 2, lambda *point: points.append(point))

    assert again == trees
    assert [step for _, step, _ in points] == list(range(1, 26))
    assert points[-1][2] < points[0][2]


def test_logistic_regression_finds_what_scikit_learn_finds() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = data(gaps=False)
    points: list[tuple[str, int, float]] = []
    weights, intercept = logistic.train(
        features, labels, NAMES, domain.LogisticRegression(0.5, 200), lambda *point: points.append(point)
    )
    mean, spread = features.mean(axis=0), np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
    peer = LogisticRegression(C=0.5).fit((features - mean) / spread, labels)

    np.testing.assert_allclose(weights * spread, peer.coef_[0], atol=0.01)
    assert intercept + mean @ weights == pytest.approx(peer.intercept_[0], abs=0.01)
    assert weights[5] == 0  # a constant column
    assert points[-1][2] <= points[0][2]


def test_logistic_regression_names_a_feature_with_gaps() -> None:
    with pytest.raises(FailedPrecondition, match="c has missing values"):
        logistic.train(*data(), NAMES, domain.LogisticRegression(1.0, 10), nothing)


def test_what_the_runtime_complains_of_fails_the_package() -> None:
    with no_warnings():
        pass
    with pytest.raises(Internal) as caught, no_warnings():
        os.write(2, b"Expected shape does not match")
    assert "Expected shape" in caught.value.violations[0].rule


def test_packages_that_training_does_not_need_are_not_imported() -> None:
    import sys

    assert "antigravity" not in sys.modules, "one that nobody imports"
    with boosting._without("antigravity"), pytest.raises(ImportError):
        import antigravity  # noqa: F401
    assert "antigravity" not in sys.modules
