"""Python arguments to REST requests, and JSON answers to messages."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from aimass.contract import Method
from aimass.failures import Failure

_LONG = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}


@dataclass(frozen=True)
class Prepared:
    """A request without its address and headers."""

    verb: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None
    media_type: str = ""


def prepare(method: Method, arguments: Mapping[str, Any]) -> Prepared:
    """Puts arguments into path, query and body. Raises TypeError for an unknown or missing argument.

    Raises Failure invalid_name for a name that would change the path.
    """
    values = _fields(method.takes, arguments, method.name)
    path = method.route
    for name in method.path_fields:
        # An unset number is version 0, the newest.
        default = None if method.takes.fields_by_name[name].cpp_type == FieldDescriptor.CPPTYPE_STRING else 0
        value = values.pop(name, default)
        if value in (None, ""):
            raise TypeError(f"{method.name}() needs {name}")
        if value in (".", ".."):
            raise Failure("invalid_name", f"{name} cannot be {value}")
        path = path.replace(f"{{{name}}}", quote(str(value), safe=":@"))
    if method.body == "*":
        return Prepared(method.verb, path, [], orjson.dumps(values), "application/json")
    if method.body:
        content = arguments.get(method.body, b"")
        values.pop(method.body, None)
        return Prepared(method.verb, path, _query(values), bytes(content), "application/octet-stream")
    return Prepared(method.verb, path, _query(values))


def _fields(descriptor: Descriptor, arguments: Mapping[str, Any], of: str) -> dict[str, Any]:
    known = descriptor.fields_by_name
    for name in arguments:
        if name not in known:
            raise TypeError(f"{of} has no {name}; it has {', '.join(known) or 'nothing'}")
    return {name: _encode(known[name], value) for name, value in arguments.items() if value is not None}


def _encode(field: FieldDescriptor, value: Any) -> Any:
    if field.is_repeated and field.message_type and field.message_type.GetOptions().map_entry:
        item = field.message_type.fields_by_name["value"]
        return {str(key): _one(item, found) for key, found in dict(value).items()}
    if field.is_repeated:
        if isinstance(value, str | bytes | Mapping):
            raise TypeError(f"{field.name} takes a list, not {type(value).__name__}")
        return [_one(field, found) for found in value]
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True)
    if field.message_type:
        special = _SPECIAL.get(field.message_type.full_name)
        return special(value) if special else _message(field, value)
    if field.enum_type:
        return _enum(field, value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"  # JSON has no such numbers
    return str(value) if field.cpp_type in _LONG else value


def _message(field: FieldDescriptor, value: Any) -> dict[str, Any]:
    assert field.message_type
    if not isinstance(value, Mapping):
        raise TypeError(f"{field.name} takes a mapping or a {field.message_type.name}, not {type(value).__name__}")
    return _fields(field.message_type, value, field.message_type.name)


def _enum(field: FieldDescriptor, value: Any) -> str:
    """An enum's value by number, by full name, or without the prefix: `csv`."""
    assert field.enum_type
    if isinstance(value, int):
        if value not in field.enum_type.values_by_number:
            raise TypeError(f"{field.name} has no value {value}")
        return str(field.enum_type.values_by_number[value].name)
    known = field.enum_type.values_by_name
    text = str(value).upper().replace("-", "_")
    prefix = next(iter(known)).removesuffix("UNSPECIFIED")
    return text if text in known else f"{prefix}{text}"


def _time(value: datetime | str) -> str:
    return value if isinstance(value, str) else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _seconds(value: timedelta | float | str) -> str:
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _mask(value: Sequence[str] | str) -> str:
    return value if isinstance(value, str) else ",".join(value)


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": _time,
    "google.protobuf.Duration": _seconds,
    "google.protobuf.FieldMask": _mask,
    "google.protobuf.Struct": dict,
    "google.protobuf.Value": lambda value: value,
    "google.api.HttpBody": lambda value: "",  # is the body itself
}


def _query(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _query(value, f"{prefix}{name}.")
            continue
        for one in value if isinstance(value, list) else [value]:
            found.append((f"{prefix}{name}", str(one).lower() if isinstance(one, bool) else str(one)))
    return found


def decode(descriptor: Descriptor, body: bytes) -> Message:
    """A message from JSON; fields of a newer server are ignored. Raises Failure for anything else."""
    message = GetMessageClass(descriptor)()
    try:
        if body:
            ParseDict(document(body), message, ignore_unknown_fields=True)
    except ParseError:
        raise Failure(
            "internal", f"the answer is not a {descriptor.name}: is this address an AI Mass gateway?"
        ) from None
    return message


def document(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises Failure for anything else, such as the page of a proxy."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise Failure("internal", "the answer is not a JSON object: is this address an AI Mass gateway?")
    return found


def plain(message: Message) -> dict[str, Any]:
    """A message as plain values: names as in the contract, defaults printed."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
