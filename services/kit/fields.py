"""The rules of fields that the contract declares, checked before a use case sees a request."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from aimass.v1 import options_pb2
from services.kit.errors import InvalidValue, Violation, pointer_part, refuse


class _Bounds(NamedTuple):
    """Bounds of a time or a duration, in seconds; over gRPC any numbers may come."""

    least: int
    most: int
    rule: str

    def holds(self, value: Any) -> bool:
        """Whether the value is in the bounds of every reader."""
        nanos = value.nanos * (-1 if value.seconds < 0 and self.least == -self.most else 1)
        return bool(self.least <= value.seconds <= self.most and 0 <= nanos < 10**9)


_TIMES = {
    "google.protobuf.Timestamp": _Bounds(-62_135_596_800, 253_402_300_799, "must be a time of the years 1 to 9999"),
    "google.protobuf.Duration": _Bounds(-315_576_000_000, 315_576_000_000, "must be of at most 10,000 years"),
}
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
T = TypeVar("T")


def read(parse: Callable[[bytes], T], content: bytes) -> T:
    """A call's message. Raises invalid_value for bytes that are none."""
    try:
        return parse(content)
    except DecodeError:
        raise InvalidValue("the message is not one of this method") from None


def masked(request: Any, names: Sequence[str]) -> set[str]:
    """The fields that an update changes: those that its `update_mask` names, or without one those that are set.

    Raises invalid_value for a name in the mask that is not one of `names`.
    """
    asked = set(request.update_mask.paths)
    if unknown := sorted(asked.difference(names)):
        rule = f"must name one of {', '.join(names)}"
        raise InvalidValue(f"{unknown[0]} cannot be changed", [Violation("/update_mask", rule)])
    return asked or {field.name for field, _ in request.ListFields()}.intersection(names)


def check(request: Message) -> None:
    """Raises invalid_value or invalid_name, with every field that breaks its rule; clears output-only fields."""
    refuse(_violations(request, ""))


_Rule = Callable[[Any, str], Iterator[Violation]]


def _violations(message: Message, at: str) -> Iterator[Violation]:
    for field, rule in _rules(message.DESCRIPTOR):
        policy = field.GetOptions().Extensions[options_pb2.field]
        if policy.output_only:
            message.ClearField(field.name)
        else:
            yield from rule(message, f"{at}/{field.name}")


@cache
def _rules(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, _Rule], ...]:
    return tuple((field, _rule(field)) for field in descriptor.fields)


def _rule(field: FieldDescriptor) -> _Rule:
    policy = field.GetOptions().Extensions[options_pb2.field]
    kind = field.message_type
    entry = kind is not None and kind.GetOptions().map_entry
    inner = kind.fields_by_name["value"].message_type if kind is not None and entry else kind
    own = inner is not None and inner.full_name.startswith("aimass.")
    bounds = _TIMES.get(inner.full_name) if inner is not None else None
    longest, most = policy.max_length or 1024, policy.max_items or 1000

    def one(value: Any, at: str) -> Iterator[Violation]:
        if own:
            yield from _violations(value, at)
        elif bounds:
            if not bounds.holds(value):
                yield Violation(at, bounds.rule)
        elif isinstance(value, str):
            yield from _string(value, at)

    def _string(value: str, at: str) -> Iterator[Violation]:
        if policy.name and not NAME.match(value) and not (policy.optional and not value):
            yield Violation(at, "must be a name: [a-z][a-z0-9_-]{0,62}")
        elif len(value) > longest:
            yield Violation(at, f"must have at most {longest} characters")
        elif "\0" in value:
            yield Violation(at, "must not contain NUL")

    def rule(message: Any, at: str) -> Iterator[Violation]:
        value = getattr(message, field.name)
        if field.is_repeated:
            if policy.required and not value:
                yield Violation(at, "must not be empty")
            if len(value) > most:
                yield Violation(at, f"must have at most {most} items")
            elif not entry:
                for index, item in enumerate(value):
                    yield from one(item, f"{at}/{index}")
            else:
                for key, item in value.items():
                    yield from _string(key, at)
                    yield from one(item, f"{at}/{pointer_part(key)}")
        elif policy.required and not (message.HasField(field.name) if field.message_type else value):
            yield Violation(at, "must be set")
        elif not field.has_presence or message.HasField(field.name):
            yield from one(value, at)

    return rule
