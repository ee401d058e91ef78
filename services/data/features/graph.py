"""Fitted steps as one ONNX graph: what training and serving both run, so that they cannot differ.

Inputs: one tensor [rows, 1] for each column, named as it: FP64 with NaN for a missing number, strings with "" for a
missing text. Output: `features` [rows, outputs], FP32. Only operators that give a row the same bytes in any batch: see
ALLOWED.
"""

from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from services.data.features import graph_dates, graph_numbers, graph_text
from services.data.features.constants import (
    Array,
    Bins,
    Crossed,
    Cycle,
    Date,
    Distance,
    Folded,
    Hashed,
    HashedWords,
    Log,
    Lookup,
    Pair,
    Power,
    Scale,
    Trend,
    Words,
)
from services.data.features.fitting import FittedStep, Taken
from services.data.features.nodes import ML, OWN, Graph
from services.kit import folds

# Pinned for features and, since a model is appended to this graph, for models.
IR_VERSION, OPSET, ML_OPSET = 10, 21, 4
# Batch-invariant with one thread. Sin, Cos, Log and Exp are not, and Pow is not for squares and cubes.
_ALLOWED = """
    Abs Add And Cast Concat Div Equal Expand Floor Gather Greater GreaterOrEqual IsInf IsNaN LabelEncoder Less Min Mod
    Mul MurmurHash3 Pow ReduceSum Reshape Round ScatterElements Shape Sign Slice Sqrt StringNormalizer StringSplit Sub
    TfIdfVectorizer Where
"""
ALLOWED = frozenset(_ALLOWED.split())
OUTPUT = "features"


def compile_graph(steps: Sequence[FittedStep]) -> bytes:
    """The graph of some steps, checked and serialised; the same steps give the same bytes."""
    graph, inputs = Graph(), {taken.column: taken.text for step in steps for taken in step.takes}
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


def _step(graph: Graph, step: FittedStep) -> str:
    """Adds a step; returns the name of its output [rows, outputs], FP32."""
    value, *others = values = [_filled(graph, taken) for taken in step.takes]
    text = step.takes[0].text
    match step.work:
        case Scale():
            return _float(graph, _scaled(graph, value, step.work))
        case Trend(slope=slope, origin=origin):
            away = graph.add("Sub", others[0], graph.number(origin))
            line = graph.add("Mul", away, graph.number(slope))
            return _float(graph, _scaled(graph, graph.add("Sub", value, line), step.work))
        case Lookup():
            return _lookup(graph, text, step.work, value)
        case Folded(table):
            return _folded(graph, _lookup(graph, text, table, value))
        case Hashed(buckets):
            return _hashed(graph, text, buckets, value)
        case Crossed():
            return _crossed(graph, [taken.text for taken in step.takes], step.work, values)
        case Bins():
            return graph_numbers.bins(graph, step.work, value)
        case Cycle():
            return _float(graph, graph_numbers.cycle(graph, step.work, value))
        case Date(cyclic=cyclic):
            part = graph_dates.date(graph, step.work, value)
            return part if cyclic else _float(graph, part)
        case Log(shift):
            value = graph.add("Add", value, graph.number(shift)) if shift else value
            return _float(graph, graph_numbers.logarithm(graph, value))
        case Power():
            return _finite(graph, graph_numbers.power(graph, step.work, value))
        case Pair(operator):
            return _finite(graph, graph.add(operator, value, others[0]))
        case HashedWords():
            return graph_text.hashed(graph, step.work, value)
        case Words():
            return graph_text.weighted(graph, step.work, value)
        case Distance():
            return _float(graph, graph_numbers.distance(graph, values))
        case _:
            assert_never(step.work)


def _filled(graph: Graph, taken: Taken) -> str:
    if taken.fill is None:
        return taken.column
    return graph.add("Where", graph.add("IsNaN", taken.column), graph.number(taken.fill), taken.column)


def _float(graph: Graph, value: str) -> str:
    return graph.add("Cast", value, to=TensorProto.FLOAT)


def _finite(graph: Graph, value: str) -> str:
    """As FP32, and what is beyond that missing."""
    found = _float(graph, value)
    missing = graph.constant(np.array([[np.nan]], np.float32))
    return graph.add("Where", graph.add("IsInf", found), missing, found)


def _scaled(graph: Graph, value: str, scale: Scale | Trend) -> str:
    if (scale.shift, scale.width) == (0.0, 1.0):
        return value
    return graph.add("Div", graph.add("Sub", value, graph.number(scale.shift)), graph.number(scale.width))


def _place(graph: Graph, text: bool, keys: Sequence[Any], value: str) -> str:
    """The place of each value among keys, INT64 [rows, 1]; their number for a value that is none of them."""
    unknown = len(keys)
    if text:
        places: dict[str, Any] = {
            "keys_strings": list(keys),
            "values_int64s": list(range(unknown)),
            "default_int64": unknown,
        }
        return graph.add("LabelEncoder", value, domain=ML, **places)
    arrays = {
        "keys_tensor": np.array(keys, np.float64),
        "values_tensor": np.arange(unknown, dtype=np.float64),
        "default_tensor": np.array([unknown], np.float64),
    }
    tensors: dict[str, Any] = {name: numpy_helper.from_array(array) for name, array in arrays.items()}
    return graph.add("Cast", graph.add("LabelEncoder", value, domain=ML, **tensors), to=TensorProto.INT64)


def _lookup(graph: Graph, text: bool, lookup: Lookup, value: str) -> str:
    unseen: Array = np.array(lookup.unseen or np.zeros(lookup.rows.shape[1]), np.float32)
    return graph.rows_at(np.vstack([lookup.rows, unseen[None]]), _place(graph, text, lookup.keys, value))


def _crossed(graph: Graph, texts: list[bool], crossed: Crossed, values: list[str]) -> str:
    first = _place(graph, texts[0], crossed.first, values[0])
    second = _place(graph, texts[1], crossed.second, values[1])
    code = graph.add("Add", graph.add("Mul", first, graph.whole(len(crossed.second) + 1)), second)
    return _lookup(graph, False, crossed.pairs, graph.double(code))


def _folded(graph: Graph, rows: str) -> str:
    """One number of each of the rows [rows, folds + 1]: a sum of one number and zeros is exact in any order."""
    wanted = graph.add("Equal", folds.INPUT, graph.constant(np.arange(folds.FOLDS + 1.0)[None]))
    kept = graph.add("Where", wanted, rows, graph.constant(np.zeros((1, 1), np.float32)))
    return graph.add("ReduceSum", kept, graph.whole(1))


def _hashed(graph: Graph, text: bool, buckets: int, value: str) -> str:
    if text:
        return graph.one_of(graph.bucket(value, buckets), buckets)
    place = graph.bucket(graph.add("Add", value, graph.number(0.0)), buckets)  # there is one zero
    return graph.one_of(graph.add("Where", graph.add("IsNaN", value), graph.whole(buckets), place), buckets)
