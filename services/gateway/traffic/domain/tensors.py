"""Tensors checked against the signature of a version; their values stay bytes from the door to the engine."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from services.kit.errors import InvalidValue, Violation
from services.kit.tensors import SIZES, Spec, Tensor

_FLOATS = ("FP32", "FP64")
_SINGLE, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and gives."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]


class Fit:
    """Remembers the check of inputs that come again with other values but the same names, types, shapes and sizes."""

    __slots__ = ("_rows", "_signature")

    def __init__(self) -> None:
        self._signature: Signature | None = None
        self._rows = 0

    def check(self, signature: Signature, inputs: Sequence[Tensor], outputs: Sequence[str]) -> int:
        """As `check`, which runs once for each signature."""
        if self._signature is not signature:
            self._rows = check(signature, inputs, outputs)
            self._signature = signature
        return self._rows


def check(signature: Signature, inputs: Sequence[Tensor], outputs: Sequence[str]) -> int:
    """The number of rows of inputs that fit. Raises invalid_value that names each input that does not."""
    if not outputs and len(inputs) == len(signature.inputs) and (rows := _fitting(signature.inputs, inputs)):
        return rows  # the usual case; the rest is for naming what does not fit
    specs = {spec.name: spec for spec in signature.inputs}
    wrong: list[Violation] = []
    given: set[str] = set()
    rows = 0
    for index, tensor in enumerate(inputs):
        spec = specs.get(tensor.name)
        rule = _misfit(spec, tensor) if spec else f"the model takes no input {tensor.name}"
        if tensor.name in given:
            rule = f"the input {tensor.name} comes twice"
        elif not rule and spec and spec.shape[:1] == (-1,):
            rows = rows or tensor.shape[0]
            if tensor.shape[0] != rows:
                rule = f"{tensor.name} has {tensor.shape[0]} rows where {inputs[0].name} has {rows}"
        given.add(tensor.name)
        if rule:
            wrong.append(Violation(f"/inputs/{index}", rule))
    wrong += [Violation("/inputs", f"the input {name} is missing") for name in specs if name not in given]
    known = {spec.name for spec in signature.outputs}
    wrong += [Violation("/outputs", f"the model has no output {name}") for name in outputs if name not in known]
    if wrong:
        raise InvalidValue(wrong[0].rule + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""), wrong)
    return rows or 1


def _fitting(specs: Sequence[Spec], inputs: Sequence[Tensor]) -> int:
    """The number of rows of inputs that fit and come in the order of the signature, rows in front; else 0."""
    rows = 0
    for spec, tensor in zip(specs, inputs, strict=True):
        shape, size = tensor.shape, SIZES.get(tensor.datatype, 0)
        fits = spec.name == tensor.name and spec.datatype == tensor.datatype and spec.shape[1:] == shape[1:]
        if not fits or spec.shape[:1] != (-1,) or not shape or min(shape) < 1:
            return 0
        if rows not in (0, shape[0]) or (size and prod(shape) * size != len(tensor.raw)):
            return 0
        rows = shape[0]
    return rows


def _misfit(spec: Spec, tensor: Tensor) -> str:
    """What is wrong with a tensor, or empty."""
    name = tensor.name
    if tensor.datatype != spec.datatype:
        return f"{name} must be {spec.datatype}, not {tensor.datatype}"
    fits = len(tensor.shape) == len(spec.shape) and all(
        want in (-1, size) for want, size in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        return f"{name} must have the shape {list(spec.shape)}, not {list(tensor.shape)}"
    if min(tensor.shape, default=1) < 1:
        return f"{name} must have at least one row"
    size = SIZES.get(tensor.datatype, 0)
    if size and prod(tensor.shape) * size != len(tensor.raw):
        return f"{name} must have {prod(tensor.shape) * size} bytes for its shape, not {len(tensor.raw)}"
    return ""


def scores(outputs: Sequence[Tensor], most: int) -> bytes:
    """The score of each of the first `most` rows, as little-endian float64: the first floating output's last column.

    With one column or one per class that is the positive class. Empty when there is no such output.
    """
    for tensor in outputs:
        if tensor.datatype in _FLOATS and tensor.raw:
            if tensor.shape[:1] == (1,):  # as most have: the last value is all there is to say
                return tensor.raw[-8:] if tensor.datatype == "FP64" else _DOUBLE.pack(*_SINGLE.unpack(tensor.raw[-4:]))
            view = memoryview(tensor.raw)
            values = view.cast("f") if tensor.datatype == "FP32" else view.cast("d")
            columns = max(len(values) // max(tensor.shape[0], 1), 1) if tensor.shape else 1
            last = values[columns - 1 : columns * most : columns].tolist()
            return struct.pack(f"<{len(last)}d", *last)
    return b""
