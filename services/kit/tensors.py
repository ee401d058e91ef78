"""Tensors of the Open Inference Protocol.

Values are bytes, little endian and row major, as in the protocol's binary extension; the elements of a BYTES tensor are
texts in UTF-8, each after its length in 4 bytes.
"""

from typing import NamedTuple

# Bytes of one element; those of BYTES differ.
SIZES = {
    "BOOL": 1,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "FP32": 4,
    "FP64": 8,
}


class Spec(NamedTuple):
    """What an input or output must be; -1 in the shape for a size that varies: in front, the number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Tensor(NamedTuple):
    """A named tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes
