"""The rules of fields inside maps, which the house's own public requests hardly use: a contract of its own."""

from functools import cache
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from aimass.v1 import options_pb2
from services.kit.errors import Code, Failure
from services.kit.fields import check

_OF = {"labels": "", "counts": "", "things": ".aimass.test.Thing"}


@cache
def messages() -> tuple[Any, Any]:
    """Thing{name} and Bag{labels: texts, counts: numbers, things: Things}, as protoc would make them."""
    file = FileDescriptorProto(name="aimass/test/bag.proto", package="aimass.test", syntax="proto3")
    file.dependency.append("aimass/v1/options.proto")
    thing = file.message_type.add(name="Thing")
    named = thing.field.add(name="name", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
    named.options.Extensions[options_pb2.field].max_length = 5
    bag = file.message_type.add(name="Bag")
    kinds = {"labels": FieldDescriptorProto.TYPE_STRING, "counts": FieldDescriptorProto.TYPE_INT64}
    for number, (name, kind) in enumerate(_OF.items(), 1):
        entry = bag.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
        value = kinds.get(name, FieldDescriptorProto.TYPE_MESSAGE)
        entry.field.add(name="value", number=2, type=value, label=1, type_name=kind or None)
        made = bag.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_MESSAGE, label=3)
        made.type_name = f".aimass.test.Bag.{entry.name}"
        made.options.Extensions[options_pb2.field].max_length = 8
        made.options.Extensions[options_pb2.field].max_items = 3
    Default().Add(file)
    find = Default().FindMessageTypeByName
    return GetMessageClass(find("aimass.test.Thing")), GetMessageClass(find("aimass.test.Bag"))


def refused(**given: Any) -> list[tuple[str, str]]:
    with pytest.raises(Failure) as caught:
        check(messages()[1](**given))
    assert caught.value.code is Code.INVALID_VALUE
    return [(violation.pointer, violation.rule) for violation in caught.value.violations]


def test_maps_of_texts_numbers_and_messages_are_taken() -> None:
    thing, bag = messages()

    check(bag(labels={"a": "b"}, counts={"n": 2**62}, things={"t": thing(name="short")}))


def test_a_text_in_a_map_has_the_bounds_of_its_field() -> None:
    assert refused(labels={"a": "x" * 9}) == [("/labels/a", "must have at most 8 characters")]
    assert refused(labels={"a": "\0"}) == [("/labels/a", "must not contain NUL")]


def test_a_key_of_a_map_has_the_bounds_of_its_field() -> None:
    assert refused(counts={"n" * 9: 1}) == [("/counts", "must have at most 8 characters")]


def test_a_message_in_a_map_keeps_its_own_rules() -> None:
    thing, _ = messages()

    assert refused(things={"t": thing(name="too long")}) == [("/things/t/name", "must have at most 5 characters")]


def test_a_map_has_no_more_entries_than_it_may() -> None:
    assert refused(counts={str(n): n for n in range(4)}) == [("/counts", "must have at most 3 items")]


def test_a_key_is_written_as_a_json_pointer() -> None:
    assert refused(labels={"a/b~c": "x" * 9})[0][0] == "/labels/a~1b~0c"


def test_every_entry_that_breaks_a_rule_is_named() -> None:
    found = refused(labels={"a": "x" * 9, "b": "fine", "c": "\0"})

    assert sorted(pointer for pointer, _ in found) == ["/labels/a", "/labels/c"]
