"""Records and rows as protobuf structs: what JSON can say of them."""

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from services.kit.errors import InvalidValue

_EXACT = 2**53
_WORDS = {math.inf: "Infinity", -math.inf: "-Infinity"}
_DEEPEST = 8  # protobuf refuses messages that nest a hundred deep, and a value takes three


def to_struct(record: Mapping[str, Any]) -> Struct:
    """A record. What JSON has no number for becomes text as in protobuf's JSON; bytes become hex digits."""
    struct = Struct()
    struct.update(to_plain(record))
    return struct


def from_struct(struct: Struct) -> dict[str, Any]:
    """The record as values of JSON: a whole number that a double holds exactly is an integer."""
    return {name: _of_value(value) for name, value in struct.fields.items()}


def _of_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_of_value(one) for one in value.list_value.values]
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise InvalidValue("a number of a record must be finite")
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


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
