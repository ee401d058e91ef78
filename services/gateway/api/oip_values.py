"""Values of tensors as JSON has them, to and from the bytes that engines take.

A JSON null is a missing value: NaN in FP32 and FP64, the empty string in BYTES, an error elsewhere. In answers a value
that JSON cannot write (NaN, an infinity) is null; the binary form of the protocol has the exact bits.
"""

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import orjson

from services.kit.errors import InvalidValue, Violation
from services.kit.tensors import Tensor

# How struct and numpy name the datatypes.
_STRUCT = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP32": "f",
    "FP64": "d",
}
_KINDS: dict[str, frozenset[type]] = {
    **dict.fromkeys(_STRUCT, frozenset({int})),
    "BOOL": frozenset({bool}),
    "FP32": frozenset({float, int}),
    "FP64": frozenset({float, int}),
    "BYTES": frozenset({str}),
}
_WORDS = {"BOOL": "true or false", "BYTES": "strings", "FP32": "numbers", "FP64": "numbers"}
_NONE = frozenset({type(None)})
_FLOATS = _KINDS["FP32"]


def pack(name: str, datatype: str, shape: Sequence[int], data: Any, at: str) -> bytes:
    """JSON values, flat or nested row by row, as bytes. Raises invalid_value that names the input."""
    if datatype not in _KINDS:
        raise wrong(f"{name} has the unknown datatype {datatype[:16]}", f"{at}/datatype")
    if not isinstance(data, list):
        raise wrong(f"the data of {name} must be a list", f"{at}/data")
    values = _flat(name, data, shape, at)
    if len(values) != math.prod(shape):
        raise wrong(f"{name} has {len(values)} values, its shape {list(shape)} needs {math.prod(shape)}", f"{at}/data")
    kinds = set(map(type, values))
    if not kinds <= _KINDS[datatype]:
        values = _fill(name, datatype, values, kinds, at)
    return _bytes(values) if datatype == "BYTES" else _numbers(name, datatype, values, at)


class Floats:
    """Packs flat numbers of one shape."""

    def __init__(self, datatype: str, shape: Sequence[int]) -> None:
        """`datatype`: FP32 or FP64."""
        self._count = math.prod(shape)
        self._pack = struct.Struct(f"<{self._count}{_STRUCT[datatype]}").pack

    def pack(self, data: Any) -> bytes:
        """Their bytes; empty for whatever else it is, which `pack` reads or refuses."""
        if type(data) is not list or len(data) != self._count or not _FLOATS.issuperset(map(type, data)):
            return b""
        try:
            return self._pack(*data)
        except (struct.error, OverflowError):
            return b""


def _flat(name: str, data: list[Any], shape: Sequence[int], at: str) -> list[Any]:
    """The values of nested lists. Lists of one level must all be as long as the shape says."""
    level = 1
    while data and isinstance(data[0], list):
        size = shape[level] if level < len(shape) else -1
        if any(type(part) is not list or len(part) != size for part in data):
            raise wrong(f"the data of {name} is ragged or not of the shape {list(shape)}", f"{at}/data")
        data = list(chain.from_iterable(data))
        level += 1
    return data


def _fill(name: str, datatype: str, values: list[Any], kinds: set[type], at: str) -> list[Any]:
    """The values with something in place of nulls, where the datatype has something."""
    if kinds <= _KINDS[datatype] | _NONE and datatype in ("FP32", "FP64", "BYTES"):
        missing: Any = "" if datatype == "BYTES" else math.nan
        return [missing if value is None else value for value in values]
    where = next(i for i, value in enumerate(values) if type(value) not in _KINDS[datatype])
    words = _WORDS.get(datatype, "integers")
    raise wrong(f"{name} is {datatype}: its values must be {words}, not {_word(values[where])}", f"{at}/data/{where}")


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return {str: "a string", list: "a list", dict: "an object", float: "a fraction"}.get(type(value), "a number")


def _numbers(name: str, datatype: str, values: list[Any], at: str) -> bytes:
    try:
        return struct.pack(f"<{len(values)}{_STRUCT[datatype]}", *values)
    except (struct.error, OverflowError):
        raise wrong(f"{name} is {datatype}: one of its values is out of range", f"{at}/data") from None


def _bytes(values: list[str]) -> bytes:
    return b"".join(framed(value.encode()) for value in values)


def framed(value: bytes) -> bytes:
    """One element of a BYTES tensor: its length, then itself."""
    return len(value).to_bytes(4, "little") + value


def unpack(tensor: Tensor) -> Any:
    """The values of a tensor, flat, as orjson with OPT_SERIALIZE_NUMPY writes them: an FP32 as its shortest decimal."""
    if tensor.datatype == "BYTES":
        return strings(tensor.raw)
    return _reader(tensor.datatype)(tensor.raw)


@cache
def _reader(datatype: str) -> Callable[[bytes], Any]:
    import numpy as np  # a tenth of a second: the process imports it after its doors are open

    return partial(np.frombuffer, dtype=np.dtype(f"<{_STRUCT[datatype]}"))


def strings(raw: bytes) -> list[str]:
    """The elements of a BYTES tensor; what is no UTF-8 is replaced."""
    found, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : end].decode(errors="replace"))
        at = end
    return found


def dump(document: Any) -> bytes:
    """JSON, also of numpy arrays."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def wrong(text: str, pointer: str) -> InvalidValue:
    """invalid_value at one place."""
    return InvalidValue(text, [Violation(pointer, text)])
