"""Fitted steps as one ONNX graph: what training and serving both run, so that they cannot differ.

Inputs: one tensor [rows, 1] for each column, named as it: FP64 with NaN for a missing number, strings with "" for a
missing text. Output: `features` [rows, outputs], FP32. Only operators that give a row the same bytes in any batch: see
ALLOWED.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from services.data.features.constants import Array, Folded, Hashed, Lookup, Scale, Trend
from services.data.features.fitting import FittedStep, Taken
from services.kit import folds

# Pinned for features and, since a model is appended to this graph, for models.
IR_VERSION, OPSET, ML_OPSET = 10, 21, 4
ML = "ai.onnx.ml"
# Built into the runtime; the standard has no operator that hashes.
OWN = "com.microsoft"
# Measured to be batch-invariant with one thread; Sin, Cos and Log are not.
ALLOWED = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Concat",
        "Div",
        "Equal",
        "Gather",
        "IsNaN",
        "LabelEncoder",
        "Mod",
        "Mul",
        "MurmurHash3",
        "ReduceSum",
        "Reshape",
        "Sub",
        "Where",
    ]
)
OUTPUT = "features"


class _Graph:
    """Nodes and constants under way; constants of the same value are kept once."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def constant(self, value: Array) -> str:
        tensor = numpy_helper.from_array(value)
        for name, known in self.constants.items():
            if known.raw_data == tensor.raw_data and (known.dims, known.data_type) == (tensor.dims, tensor.data_type):
                return name
        tensor.name = f"__constant_{len(self.constants)}"  # no column begins like that
        self.constants[tensor.name] = tensor
        return tensor.name

    def number(self, value: float) -> str:
        return self.constant(np.array([[value]]))

    def add(self, operator: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        name = output or f"__{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name


def compile_graph(steps: Sequence[FittedStep]) -> bytes:
    """The graph of some steps, checked and serialised; the same steps give the same bytes."""
    graph, inputs = _Graph(), {taken.column: taken.text for step in steps for taken in step.takes}
    parts = [_step(graph, step) for step in steps]
    graph.add("Concat", *parts, output=OUTPUT, axis=1)
    width = sum(len(step.outputs) for step in steps)
    takes = [
        helper.make_tensor_value_info(name, TensorProto.STRING if text else TensorProto.DOUBLE, ["rows", 1])
        for name, text in inputs.items()
    ]
    gives = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", width])
    if any(isinstance(step.work, Folded) for step in steps):
        takes.append(helper.make_tensor_value_info(folds.INPUT, TensorProto.DOUBLE, ["folds", 1]))
        graph.constants[folds.INPUT] = numpy_helper.from_array(np.array([[float(folds.FOLDS)]]), folds.INPUT)
    body = helper.make_graph(graph.nodes, "features", takes, [gives], list(graph.constants.values()))
    sets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
    if any(node.domain == OWN for node in graph.nodes):
        sets.append(helper.make_opsetid(OWN, 1))
    model: ModelProto = helper.make_model(body, opset_imports=sets, ir_version=IR_VERSION, producer_name="aimass")
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _step(graph: _Graph, step: FittedStep) -> str:
    """Adds a step; returns the name of its output [rows, outputs]."""
    value, *others = (_filled(graph, taken) for taken in step.takes)
    match step.work:
        case Lookup():
            return _lookup(graph, step.takes[0].text, step.work, value)
        case Folded(table):
            return _folded(graph, _lookup(graph, step.takes[0].text, table, value))
        case Hashed(buckets):
            return _hashed(graph, step.takes[0].text, buckets, value)
        case Trend(slope=slope, origin=origin):
            away = graph.add("Sub", others[0], graph.number(origin))
            value = graph.add("Sub", value, graph.add("Mul", away, graph.number(slope)))
            value = _scaled(graph, value, step.work)
        case Scale():
            value = _scaled(graph, value, step.work)
    return graph.add("Cast", value, to=TensorProto.FLOAT)


def _filled(graph: _Graph, taken: Taken) -> str:
    if taken.fill is None:
        return taken.column
    return graph.add("Where", graph.add("IsNaN", taken.column), graph.number(taken.fill), taken.column)


def _scaled(graph: _Graph, value: str, scale: Scale | Trend) -> str:
    if (scale.shift, scale.width) == (0.0, 1.0):
        return value
    return graph.add("Div", graph.add("Sub", value, graph.number(scale.shift)), graph.number(scale.width))


def _lookup(graph: _Graph, text: bool, lookup: Lookup, value: str) -> str:
    unknown = len(lookup.keys)  # the last row of the table
    unseen = np.array(lookup.unseen or np.zeros(lookup.rows.shape[1]), np.float32)
    table = np.vstack([lookup.rows, unseen[None]])
    if text:
        texts, places = list(lookup.keys), list(range(unknown))
        found = graph.add(
            "LabelEncoder", value, domain=ML, keys_strings=texts, values_int64s=places, default_int64=unknown
        )
    else:
        found = graph.add("LabelEncoder", value, domain=ML, **_places(np.array(lookup.keys, np.float64), unknown))
        found = graph.add("Cast", found, to=TensorProto.INT64)
    rows = graph.add("Gather", graph.constant(table), found, axis=0)  # [rows, 1, outputs]
    return graph.add("Reshape", rows, graph.constant(np.array([-1, lookup.rows.shape[1]], np.int64)))


def _folded(graph: _Graph, rows: str) -> str:
    """One number of each of the rows [rows, folds + 1]: a sum of one number and zeros is exact in any order."""
    wanted = graph.add("Equal", folds.INPUT, graph.constant(np.arange(folds.FOLDS + 1.0)[None]))
    kept = graph.add("Where", wanted, rows, graph.constant(np.zeros((1, 1), np.float32)))
    return graph.add("ReduceSum", kept, graph.constant(np.array([1], np.int64)))


def _hashed(graph: _Graph, text: bool, buckets: int, value: str) -> str:
    place = bucket(graph, value if text else graph.add("Add", value, graph.number(0.0)), buckets)  # there is one zero
    if not text:
        unknown = graph.constant(np.array([[buckets]], np.int64))
        place = graph.add("Where", graph.add("IsNaN", value), unknown, place)
    table = np.vstack([np.eye(buckets, dtype=np.float32), np.zeros((1, buckets), np.float32)])
    rows = graph.add("Gather", graph.constant(table), place, axis=0)
    return graph.add("Reshape", rows, graph.constant(np.array([-1, buckets], np.int64)))


def bucket(graph: _Graph, value: str, buckets: int) -> str:
    """The bucket of each value, INT64: what its MurmurHash3 as a signed number leaves, without its sign."""
    hashed = graph.add("MurmurHash3", value, domain=OWN, seed=0, positive=0)
    size = graph.add("Abs", graph.add("Cast", hashed, to=TensorProto.INT64))
    return graph.add("Mod", size, graph.constant(np.array([[buckets]], np.int64)))


def _places(keys: Array, unknown: int) -> dict[str, Any]:
    arrays = {
        "keys_tensor": keys,
        "values_tensor": np.arange(len(keys), dtype=np.float64),
        "default_tensor": np.array([unknown], np.float64),
    }
    return {name: numpy_helper.from_array(array) for name, array in arrays.items()}
