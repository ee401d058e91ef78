"""JSON Schemas of messages, by the proto3 JSON mapping and the rules of fields."""

from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from aimass.v1 import options_pb2
from services.kit import contract

Json = dict[str, Any]
NAME = "^[a-z][a-z0-9_-]{0,62}$"
_KINDS = FieldDescriptor
_SCALARS: dict[int, Json] = {
    _KINDS.CPPTYPE_INT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    _KINDS.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    _KINDS.CPPTYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"},
    _KINDS.CPPTYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"},
    _KINDS.CPPTYPE_FLOAT: {"type": ["number", "string"], "format": "float"},
    _KINDS.CPPTYPE_DOUBLE: {"type": ["number", "string"], "format": "double"},
    _KINDS.CPPTYPE_BOOL: {"type": "boolean"},
    _KINDS.CPPTYPE_STRING: {"type": "string"},
}
_KNOWN: dict[str, Json] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$", "examples": ["3.5s"]},
    "Struct": {"type": "object"},
    "Value": {},
    "ListValue": {"type": "array"},
    "FieldMask": {"type": "string", "examples": ["display_name,config"]},
    "Empty": {"type": "object"},
    "Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
}


def name_of(message: Descriptor) -> str:
    """The name of a message in the document."""
    return message.full_name.removeprefix("aimass.v1.")


def reference(message: Descriptor) -> Json:
    """A schema, or where it is."""
    if message.full_name.startswith("google.protobuf."):
        return dict(_KNOWN.get(message.name, {}))
    return {"$ref": f"#/components/schemas/{name_of(message)}"}


def schema(field: FieldDescriptor, given: bool = False) -> Json:
    """The schema of a field with description and example; without bounds for one that is only returned (`given`)."""
    policy = field.GetOptions().Extensions[options_pb2.field]
    found = _shape(field, policy, given)
    if comment := contract.comments().get(field.full_name):
        found["description"] = comment
    if policy.example and "$ref" not in found:
        example = orjson.loads(policy.example)
        found["examples"] = [[example] if field.is_repeated and not isinstance(example, list) else example]
    if policy.output_only:
        found["readOnly"] = True
    return found


def _shape(field: FieldDescriptor, policy: options_pb2.FieldPolicy, given: bool) -> Json:
    entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    if entry:
        return {"type": "object", "additionalProperties": _one(entry.fields_by_name["value"], policy, given)}
    if field.is_repeated:
        least = {"minItems": 1} if policy.required else {}
        bounds = {} if given else {"maxItems": policy.max_items or 1000, **least}
        return {"type": "array", "items": _one(field, policy, given), **bounds}
    return _one(field, policy, given)


def _one(field: FieldDescriptor, policy: options_pb2.FieldPolicy, given: bool) -> Json:
    if field.enum_type:
        return {"type": "string", "enum": list(field.enum_type.values_by_name)}
    if field.message_type:
        return reference(field.message_type)
    found = dict(_SCALARS[field.cpp_type])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not (policy.output_only or given):
        found |= _text(policy, field.is_repeated)
    return found


def _text(policy: options_pb2.FieldPolicy, repeated: bool) -> Json:
    if policy.name:
        return {"pattern": "^([a-z][a-z0-9_-]{0,62})?$" if policy.optional else NAME}
    found: Json = {"maxLength": policy.max_length or 1024}
    if policy.required and not repeated:
        found["minLength"] = 1
    if policy.secret:
        found["format"] = "password"
    return found


def needed(field: FieldDescriptor) -> bool:
    """True if a request without the field is refused."""
    policy = field.GetOptions().Extensions[options_pb2.field]
    return bool((policy.required or (policy.name and not policy.optional)) and not policy.output_only)


def body(message: Descriptor, left_out: Iterable[str]) -> Json:
    """A request's body: its fields but those that the path holds."""
    skipped = set(left_out)
    fields = [field for field in message.fields if field.name not in skipped]
    found: Json = {
        "type": "object",
        "properties": {field.name: schema(field) for field in fields},
        "additionalProperties": False,
    }
    if required := [field.name for field in fields if needed(field)]:
        found["required"] = required
    return found


def components(taken: Iterable[Descriptor], given: Iterable[Descriptor]) -> Json:
    """Schemas of the messages of requests and of answers, and of all that they hold, by name."""
    asked = _held(taken)
    found: Json = {}
    for name, message in (_held(given) | asked).items():
        fields = {field.name: schema(field, given=name not in asked) for field in message.fields}
        described: Json = {"type": "object", "properties": fields}
        if comment := contract.comments().get(message.full_name):
            described["description"] = comment
        found[name] = described
    return dict(sorted(found.items()))


def _held(messages: Iterable[Descriptor]) -> dict[str, Descriptor]:
    """Messages and all that they hold, by name."""
    found: dict[str, Descriptor] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name.startswith("google.protobuf.") or name_of(message) in found:
            continue
        if not message.GetOptions().map_entry:
            found[name_of(message)] = message
        waiting += [field.message_type for field in message.fields if field.message_type]
    return found
