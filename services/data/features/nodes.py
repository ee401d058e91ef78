"""An ONNX graph under way: nodes and constants, and what several kinds of steps have in common."""

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.data.features.constants import Array

ML = "ai.onnx.ml"
# Built into the runtime; the standard has no operator that hashes.
OWN = "com.microsoft"


class Graph:
    """Nodes and constants; constants of the same value are kept once."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._known: dict[tuple[bytes, tuple[int, ...], int], str] = {}

    def constant(self, value: Array) -> str:
        """The name of a constant."""
        tensor = numpy_helper.from_array(value)
        content = tensor.raw_data or b"\0".join(tensor.string_data)
        same = (content, tuple(tensor.dims), tensor.data_type)
        if same not in self._known:
            tensor.name = self._known[same] = f"__constant_{len(self.constants)}"  # no column begins like that
            self.constants[tensor.name] = tensor
        return self._known[same]

    def number(self, value: float) -> str:
        """An FP64 constant [1, 1]."""
        return self.constant(np.array([[value]], np.float64))

    def whole(self, *values: int) -> str:
        """An INT64 constant [values]."""
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """Adds a node; returns the name of its output, the first one if there are two."""
        name = output or f"__{operator.lower()}_{len(self.nodes)}"
        names = [name, f"{name}_size"] if operator == "StringSplit" else [name]
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        return name

    def double(self, value: str) -> str:
        """As FP64."""
        return self.add("Cast", value, to=TensorProto.DOUBLE)

    def steps_at(self, value: str, edges: Array) -> str:
        """How many of ascending edges are not above each value [rows, 1], INT64. None for NaN."""
        above = self.add("GreaterOrEqual", value, self.constant(edges.astype(np.float64)[None]))
        return self.add("ReduceSum", self.add("Cast", above, to=TensorProto.INT64), self.whole(1))

    def rows_at(self, table: Array, places: str) -> str:
        """The rows [rows, columns] of a table at places [rows, 1]."""
        rows = self.add("Gather", self.constant(table), places, axis=0)  # [rows, 1, columns]
        return self.add("Reshape", rows, self.whole(-1, table.shape[1]))

    def one_of(self, places: str, count: int) -> str:
        """1 in the output at the place of each row, FP32 [rows, count]; zeros for the place that is the count."""
        return self.rows_at(np.vstack([np.eye(count), np.zeros((1, count))]).astype(np.float32), places)

    def polynomial(self, value: str, coefficients: list[float]) -> str:
        """The value of a polynomial, highest power first, by Horner's scheme."""
        found = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            found = self.add("Add", self.add("Mul", found, value), self.number(coefficient))
        return found

    def bucket(self, value: str, buckets: int) -> str:
        """The bucket of each value, INT64: what its MurmurHash3 as a signed number leaves, without its sign."""
        hashed = self.add("MurmurHash3", value, domain=OWN, seed=0, positive=0)
        size = self.add("Abs", self.add("Cast", hashed, to=TensorProto.INT64))
        return self.add("Mod", size, self.whole(buckets))
