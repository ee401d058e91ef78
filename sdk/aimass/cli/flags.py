"""The fields of a request as options of a command."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from aimass import contract
from aimass.contract import Method, policy_of
from aimass.failures import Failure

_DEPTH = 3
_COMMON = {"json", "output", "project", "all", "wait", "no_wait", "etag"}  # options that are no fields
_FLAT = {"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"}  # one word each
_KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: bool,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
    FieldDescriptor.CPPTYPE_FLOAT: float,
    FieldDescriptor.CPPTYPE_STRING: str,
    FieldDescriptor.CPPTYPE_ENUM: str,
    FieldDescriptor.CPPTYPE_MESSAGE: str,
}


@dataclass(frozen=True)
class Flag:
    """A field that is an option; `path` leads to it through the request."""

    field: FieldDescriptor
    path: tuple[str, ...]
    name: str

    @property
    def json(self) -> bool:
        """It is given as JSON: lists of messages, maps, free structures."""
        message = self.field.message_type
        return message is not None and message.full_name not in _FLAT

    @property
    def kind(self) -> Any:
        """The Python type of one value."""
        return str if self.json else _KINDS.get(self.field.cpp_type, int)

    @property
    def repeated(self) -> bool:
        """It may be given several times."""
        return bool(self.field.is_repeated) and not self.json

    @property
    def options(self) -> list[str]:
        """--upload-digest, and --upload as its short form."""
        text = f"--{self.name.replace('_', '-')}"
        return [text, text.removesuffix("-digest")] if text.endswith("-digest") else [text]

    @property
    def help(self) -> str:
        """The comment of the field in the contract."""
        text = contract.comments().get(self.field.full_name, "")
        if self.field.enum_type:
            values = [value.name for value in self.field.enum_type.values[1:]]
            prefix = self.field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            text = f"{text} One of {', '.join(v.removeprefix(prefix).lower() for v in values)}.".strip()
        return f"{text} As JSON.".strip() if self.json else text


def positional(method: Method) -> tuple[str, ...]:
    """The fields that are arguments: those of the route, or the name of what is created."""
    if method.path_fields or method.verb != "POST":
        return method.path_fields
    first = next(iter(method.takes.fields), None)
    named = first is not None and policy_of(first).name and not policy_of(first).optional
    return (first.name,) if first is not None and named else ()


def flags(method: Method) -> list[Flag]:
    """The other fields, also those of messages in the request. A name that occurs twice gets its message as prefix."""
    found = [
        Flag(field, path, path[-1]) for field, path in _leaves(method.takes, ()) if path[0] not in positional(method)
    ]
    count = Counter(flag.name for flag in found) + Counter(_COMMON)
    return [flag if count[flag.name] == 1 else Flag(flag.field, flag.path, "_".join(flag.path[-2:])) for flag in found]


def _leaves(descriptor: Descriptor, above: tuple[str, ...]) -> Iterator[tuple[FieldDescriptor, tuple[str, ...]]]:
    for field in descriptor.fields:
        path, message = (*above, field.name), field.message_type
        if policy_of(field).output_only or (message and message.full_name == "google.api.HttpBody"):
            continue
        apart = message and message.full_name.startswith("aimass.") and not field.is_repeated and len(path) < _DEPTH
        if apart and message:
            yield from _leaves(message, path)
        else:
            yield field, path


def gather(found: list[Flag], given: Mapping[str, Any], start: Mapping[str, Any]) -> dict[str, Any]:
    """The request: the JSON in `start`, overridden by the options in `given`. Raises Failure for invalid JSON."""
    if not isinstance(start, Mapping):
        raise Failure("invalid_value", "--json is not a JSON object")
    request: dict[str, Any] = orjson.loads(orjson.dumps(start))
    for flag in found:
        value = given.get("_".join(flag.path))
        if value is None or value == []:
            continue
        into = request
        for step in flag.path[:-1]:
            into = into.setdefault(step, {})
            if not isinstance(into, dict):
                raise Failure("invalid_value", f"--{flag.name}: {step} is not a JSON object in --json")
        into[flag.path[-1]] = parse(value, f"--{flag.name}") if flag.json else value
    return request


def parse(text: str, where: str) -> Any:
    """JSON, or `@FILE` with it, or `-` for stdin. Raises Failure."""
    file = "/dev/stdin" if text == "-" else text[1:] if text.startswith("@") else ""
    try:
        return orjson.loads(Path(file).read_bytes() if file else text)
    except OSError as error:
        raise Failure("invalid_value", f"{where}: {file} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise Failure("invalid_value", f"{where} is not JSON: {error}") from None
