"""JSON to messages, by the proto3 JSON mapping with the names of the proto; what is wrong is named with its place."""

import base64
import binascii
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.errors import Code, Failure, InvalidValue, Violation, pointer_part

DEPTH = 32
_MOST = 20  # violations that one answer names
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_WELL_KNOWN = {
    "Timestamp": "must be a time such as 2026-01-31T12:00:00Z",
    "Duration": "must be seconds such as 3.5s",
    "FieldMask": "must be names with commas between them",
    "Struct": "must be an object",
    "ListValue": "must be a list",
    "Value": "must be a JSON value",
}


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty body is an empty one. Raises malformed_json, invalid_value."""
    try:
        value = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        raise Failure(Code.MALFORMED_JSON, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidValue("the body must be a JSON object", [Violation("", "must be an object")])
    if body.count(b"{") + body.count(b"[") > DEPTH and _deeper(value, DEPTH):
        raise Failure(Code.MALFORMED_JSON, f"the body is nested deeper than {DEPTH} levels")
    return value


def _deeper(value: Any, levels: int) -> bool:
    inner: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels <= 1 or _deeper(item, levels - 1) for item in inner if isinstance(item, dict | list))


class Decoder:
    """Fills a message and collects what is wrong."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def wrong(self, at: str, rule: str) -> None:
        """Notes a violation."""
        if len(self._found) < _MOST:
            self._found.append(Violation(at, rule))

    def raise_wrong(self) -> None:
        """Raises invalid_value with everything that was noted."""
        if self._found:
            first = self._found[0]
            name = first.pointer[1:].replace("/", ".") or "the request"
            raise InvalidValue(f"{name} {first.rule}", self._found)

    def fill(self, message: Any, fields: Mapping[str, Any], at: str = "") -> None:
        """Sets fields from a JSON object."""
        known = message.DESCRIPTOR.fields_by_name
        for name, value in fields.items():
            place = f"{at}/{pointer_part(name[:100])}"
            field = known.get(name)
            if field is None:
                self.wrong(place, "is not known")
            elif value is None and not _is(field, "Value"):
                continue
            elif (oneof := field.containing_oneof) and message.WhichOneof(oneof.name) not in (None, name):
                self.wrong(place, f"cannot be set beside {message.WhichOneof(oneof.name)}")
            elif field.message_type and field.message_type.GetOptions().map_entry:
                self._map(getattr(message, name), field.message_type, value, place)
            elif field.is_repeated:
                self._list(getattr(message, name), field, value, place)
            elif field.message_type:
                self._message(getattr(message, name), value, place)
            else:
                self._scalar(message, field, value, place)

    def texts(self, message: Any, texts: Mapping[str, Sequence[str]]) -> None:
        """Sets fields from path and query, where everything is text; `a.b` names a field of a field."""
        for name, values in texts.items():
            place = "/" + "/".join(pointer_part(part[:100]) for part in name.split("."))
            owner, field = message, _find(message.DESCRIPTOR, name)
            if field is None:
                self.wrong(place, "is not known")
                continue
            for part in name.split(".")[:-1]:
                owner = getattr(owner, part)
            if not field.is_repeated and len(values) > 1:
                self.wrong(place, "is there twice")
                continue
            typed = [_typed(field, value) for value in values]
            self.fill(owner, {field.name: typed if field.is_repeated else typed[0]}, place.rpartition("/")[0])

    def _message(self, message: Any, value: Any, at: str) -> None:
        if message.DESCRIPTOR.full_name.startswith("google.protobuf."):
            self._well_known(message, value, at)
        elif not isinstance(value, dict):
            self.wrong(at, "must be an object")
        else:
            message.SetInParent()
            self.fill(message, value, at)

    def _well_known(self, message: Any, value: Any, at: str) -> None:
        try:
            ParseDict(value, message)
            message.SetInParent()
        except Exception:  # what it raises depends on the type: ParseError, TypeError, AttributeError, OverflowError
            self.wrong(at, _WELL_KNOWN.get(message.DESCRIPTOR.name, "does not fit"))

    def _list(self, items: Any, field: FieldDescriptor, values: Any, at: str) -> None:
        if not isinstance(values, list):
            self.wrong(at, "must be a list")
            return
        for index, value in enumerate(values):
            if field.message_type:
                self._message(items.add(), value, f"{at}/{index}")
                continue
            try:
                items.append(scalar(field, value))
            except ValueError as error:
                self.wrong(f"{at}/{index}", str(error))

    def _map(self, target: Any, entry: Descriptor, values: Any, at: str) -> None:
        if not isinstance(values, dict):
            self.wrong(at, "must be an object")
            return
        key, field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for name, value in values.items():
            place = f"{at}/{pointer_part(name[:100])}"
            try:
                if field.message_type:
                    self._message(target[scalar(key, name)], value, place)
                else:
                    target[scalar(key, name)] = scalar(field, value)
            except ValueError as error:
                self.wrong(place, str(error))

    def _scalar(self, message: Any, field: FieldDescriptor, value: Any, at: str) -> None:
        try:
            setattr(message, field.name, scalar(field, value))
        except ValueError as error:
            self.wrong(at, str(error))


def scalar(field: FieldDescriptor, value: Any) -> Any:
    """A value of a field that is not a message. Raises ValueError with the rule."""
    kind = field.cpp_type
    if bounds := _INTEGERS.get(kind):
        return _integer(value, *bounds)
    if kind in _FLOATS:
        return _float(value, single=kind == FieldDescriptor.CPPTYPE_FLOAT)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if field.enum_type:
        if not isinstance(value, str) or value not in field.enum_type.values_by_name:
            raise ValueError(f"must be one of {', '.join(field.enum_type.values_by_name)}")
        return field.enum_type.values_by_name[value].number
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return _bytes(value) if field.type == FieldDescriptor.TYPE_BYTES else value


def _integer(value: Any, least: int, end: int) -> int:
    if _is_whole(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < end:
        raise ValueError(f"must be a whole number from {least} to {end - 1}")
    return value


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) < 2**53
    return isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdecimal()


def _float(value: Any, single: bool) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 400:
            raise ValueError
        number = float(value)
    except ValueError:
        raise ValueError("must be a number") from None
    if single and math.isfinite(number) and abs(number) > 3.4028235677973366e38:
        raise ValueError("must be a number that 32 bits can hold")
    return number


def _bytes(value: str) -> bytes:
    try:
        plain = value.replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None


def _typed(field: FieldDescriptor, text: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    return text


def _find(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    *owners, last = name.split(".")
    for part in owners:
        field = descriptor.fields_by_name.get(part)
        if field is None or field.is_repeated or not field.message_type:
            return None
        descriptor = field.message_type
    return descriptor.fields_by_name.get(last)


def _is(field: FieldDescriptor, name: str) -> bool:
    return field.message_type is not None and field.message_type.full_name == f"google.protobuf.{name}"


def empty(kind: Descriptor) -> Message:
    """A message with nothing set."""
    return GetMessageClass(kind)()
