"""Records and rows as protobuf structs: what JSON can say of them."""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct

_EXACT = 2**53
_WORDS = {math.inf: "Infinity", -math.inf: "-Infinity"}
_DEEPEST = 8  # protobuf refuses messages that nest a hundred deep, and a value takes three


def to_struct(record: Mapping[str, Any]) -> Struct:
    """A record. What JSON has no number for becomes text as in protobuf's JSON; bytes become hex digits."""
    struct = Struct()
    struct.update(to_plain(record))
    return struct


def to_plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same as values of JSON."""
    return {name: _plain(value, _DEEPEST) for name, value in record.items()}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _WORDS.get(value, "NaN")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if not depth:
        return json.dumps(value)
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return {str(name): _plain(item, depth - 1) for name, item in value.items()}
