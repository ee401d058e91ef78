"""Gradient-boosted trees by LightGBM, and the same trees as an ONNX operator."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.trainer.jobs.domain import LightGbm
from services.trainer.training.table import Array

Point = Callable[[str, int, float], None]


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Hides packages that LightGBM imports if it can, which takes seconds, and that are not needed here."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def train(
    features: Array, labels: Array, how: LightGbm, seed: int, threads: int, point: Point
) -> list[Mapping[str, Any]]:
    """Trains on features [rows, columns] FP32 and labels [rows]; returns the trees as LightGBM describes them.

    Reports `train_log_loss` after every round. The same data, settings, seed and machine give the same trees.
    """
    with _without("sklearn", "pandas", "dask", "matplotlib", "graphviz"):
        import lightgbm

    def tell(state: Any) -> None:
        point("train_log_loss", state.iteration + 1, float(state.evaluation_result_list[0][2]))

    settings = {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_leaves": how.leaves,
        "learning_rate": how.learning_rate,
        "min_data_in_leaf": how.min_data_in_leaf,
        "num_threads": threads,
        "seed": seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(features, labels, params={"verbosity": -1})
    booster = lightgbm.train(settings, data, how.rounds, valid_sets=[data], valid_names=["train"], callbacks=[tell])
    return [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]


@dataclass
class _Nodes:
    """Attributes of the operator TreeEnsembleRegressor: lists with an entry for each node."""

    nodes: dict[str, list[Any]] = field(default_factory=dict)
    leaves: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, tree: int, node: int, **values: Any) -> None:
        for name, value in {"treeids": tree, "nodeids": node, "hitrates": 1.0, **values}.items():
            self.nodes.setdefault(f"nodes_{name}", []).append(value)

    def leaf(self, tree: int, node: int, weight: float) -> None:
        empty = {"truenodeids": 0, "falsenodeids": 0, "featureids": 0, "values": 0.0, "missing_value_tracks_true": 0}
        self.add(tree, node, modes="LEAF", **empty)
        for name, value in {"treeids": tree, "nodeids": node, "ids": 0, "weights": weight}.items():
            self.leaves.setdefault(f"target_{name}", []).append(value)


def operator(trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The attributes of a TreeEnsembleRegressor that gives the sum of the leaves, which is the log-odds."""
    found = _Nodes()
    for number, tree in enumerate(trees):
        _walk(found, number, tree)
    return {**found.nodes, **found.leaves, "n_targets": 1, "post_transform": "NONE", "aggregate_function": "SUM"}


def _walk(found: _Nodes, number: int, tree: Mapping[str, Any]) -> None:
    waiting, count = [(0, tree)], 1
    while waiting:
        place, node = waiting.pop(0)
        if "split_index" not in node:
            found.leaf(number, place, float(node["leaf_value"]))
            continue
        left, right = count, count + 1
        count += 2
        waiting += [(left, node["left_child"]), (right, node["right_child"])]
        found.add(
            number,
            place,
            modes="BRANCH_LEQ",
            truenodeids=left,
            falsenodeids=right,
            featureids=node["split_feature"],
            values=floor_to_float(node["threshold"]),
            missing_value_tracks_true=int(_missing_goes_left(node)),
        )


def _missing_goes_left(node: Mapping[str, Any]) -> bool:
    # If no number was missing in training, LightGBM takes a missing one for zero.
    return bool(node["default_left"]) if node["missing_type"] == "NaN" else bool(node["threshold"] >= 0.0)


def floor_to_float(threshold: float) -> float:
    """The largest FP32 number that is not above: an FP32 feature is `<=` both or neither, so no row changes branch."""
    near = np.float32(threshold)
    return float(near) if float(near) <= threshold else float(np.nextafter(near, np.float32(-np.inf)))
