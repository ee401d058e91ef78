"""A model appended to a feature graph: one ONNX file from raw columns to a probability.

The file takes what the feature graph takes and gives `probability` [rows, 1], FP32: that the label is 1. Versions of
the operator sets and of the format are those of the feature graph.
"""

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper

from services.trainer.training.table import Array

FEATURES, PROBABILITY = "features", "probability"
ML = "ai.onnx.ml"


def append_trees(graph: bytes, operator: dict[str, Any]) -> bytes:
    """Adds a tree ensemble whose sum is the log-odds."""
    trees = helper.make_node("TreeEnsembleRegressor", [FEATURES], ["__odds"], domain=ML, **operator)
    return _append(graph, [trees], [])


def append_linear(graph: bytes, weights: Array, intercept: float) -> bytes:
    """Adds a linear model of the log-odds, as MatMul and Add: the operator LinearClassifier is not batch-invariant."""
    constants = [
        numpy_helper.from_array(weights.astype(np.float32)[:, None], "__weights"),
        numpy_helper.from_array(np.array([[intercept]], np.float32), "__intercept"),
    ]
    product = helper.make_node("MatMul", [FEATURES, "__weights"], ["__product"])
    odds = helper.make_node("Add", ["__product", "__intercept"], ["__odds"])
    return _append(graph, [product, odds], constants)


def _append(graph: bytes, nodes: list[NodeProto], constants: list[TensorProto]) -> bytes:
    model = onnx.load_from_string(graph)
    body = model.graph
    body.node.extend([*nodes, helper.make_node("Sigmoid", ["__odds"], [PROBABILITY])])
    body.initializer.extend(constants)
    del body.output[:]
    body.output.append(helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, ["rows", 1]))
    # An input with a default, such as the folds of rows in training, is a constant of the model.
    known = {constant.name for constant in body.initializer}
    taken = [value for value in body.input if value.name not in known]
    del body.input[:]
    body.input.extend(taken)
    body.name = "model"
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
