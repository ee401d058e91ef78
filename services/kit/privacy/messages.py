"""Filters on messages of the contract: all their texts but secrets, etags and page tokens."""

from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from aimass.v1 import options_pb2
from services.kit.errors import pointer_part
from services.kit.privacy.filtering import Filter

_OURS = ("etag", "page_token", "next_page_token", "resume_token")


def clean(message: Message, through: Filter, at: str = "") -> None:
    """Filters all texts of a message in place. Raises invalid_value at a JSON pointer for what is refused."""
    for field, value in message.ListFields():
        if (work := _works(message.DESCRIPTOR).get(field.number)) is not None:
            work(message, field, value, through, f"{at}/{field.name}")


_Work = Callable[[Any, FieldDescriptor, Any, Filter, str], None]


@cache
def _works(descriptor: Descriptor) -> dict[int, _Work]:
    """A function for each field that may hold text."""
    return {field.number: work for field in descriptor.fields if (work := _work(field))}


def _work(field: FieldDescriptor) -> _Work | None:
    if field.GetOptions().Extensions[options_pb2.field].secret or field.name in _OURS:
        return None
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return _map
    if field.type == FieldDescriptor.TYPE_STRING:
        return _texts if field.is_repeated else _text
    if kind is None:
        return None
    return _messages if field.is_repeated else _message


def _text(message: Any, field: FieldDescriptor, value: str, through: Filter, at: str) -> None:
    if (cleaned := through(value, at)) != value:
        setattr(message, field.name, cleaned)


def _texts(message: Any, field: FieldDescriptor, values: Any, through: Filter, at: str) -> None:
    for index, value in enumerate(values):
        values[index] = through(value, f"{at}/{index}")


def _message(message: Any, field: FieldDescriptor, value: Any, through: Filter, at: str) -> None:
    clean(value, through, at)


def _messages(message: Any, field: FieldDescriptor, values: Any, through: Filter, at: str) -> None:
    for index, value in enumerate(values):
        clean(value, through, f"{at}/{index}")


def _map(message: Any, field: FieldDescriptor, values: Any, through: Filter, at: str) -> None:
    """Filters keys as well as values. No pointer holds a key as it was."""
    assert field.message_type
    entry = field.message_type.fields_by_name
    named, texts = entry["key"].type == FieldDescriptor.TYPE_STRING, entry["value"].type == FieldDescriptor.TYPE_STRING
    for key in list(values):
        kept = through(key, at) if named else key
        if kept != key:
            if entry["value"].message_type:
                values[kept].CopyFrom(values[key])
            else:
                values[kept] = values[key]
            del values[key]
        place = f"{at}/{pointer_part(str(kept))}"
        if texts:
            values[kept] = through(values[kept], place)
        elif entry["value"].message_type:
            clean(values[kept], through, place)
