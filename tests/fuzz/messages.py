"""Calls over gRPC to every method, with messages that are odd and messages that are damaged."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from services.gateway.api.oip_messages import SERVICE, pool
from services.kit import contract
from tests.fuzz.mutations import mutated
from tests.fuzz.target import NAMES, Target, Wrong

_AT_ONCE = 24
_PATIENCE = 20.0  # seconds
_A_WHILE = 0.4  # seconds that one reads what has no end
_DEPTH = 4
_FAILED = ("UNKNOWN", "INTERNAL", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED")
_NUMBERS = (0, 1, 1, 2, 3, -1, 7, 100, 1000, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS = (0.0, -0.0, 1.0, 0.5, -1.5, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    *(
        "",
        " ",
        "*",
        "models.*",
        "a b",
        "\x00",
        "\u202e",
        "\U0001f600",
        "\ufeff",
        "\n",
        "..",
        "../../etc/passwd",
        "%00",
        "%s",
    ),
    *("a" * 64, "b" * 1025, "\u00e9" * 300, "1", "-1", "default", "sha256:" + "0" * 64, "SELECT 1", "SELECT * FROM m"),
    *(
        "a > 1",
        "((((",
        "[",
        "$.a[*]",
        "(?P<a>.*)",
        "(a+)+$",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "sqlite:///a.db",
    ),
    *(
        "{{ a }}",
        "{a.b.c}",
        "kind:log AND status:200",
        "level:",
        "2026-01-01T00:00:00Z",
        "01890000-0000-7000-8000-000000000000",
    ),
)


class Call(NamedTuple):
    """One method and bytes for it."""

    path: str
    content: bytes
    streams: bool
    metadata: Sequence[tuple[str, str]]
    gives: Any


class Messages:
    """Fires them on one channel."""

    def __init__(self, target: Target, seed: int, wrong: Wrong) -> None:
        self._target, self._seed, self._wrong = target, seed, wrong
        self.said: Counter[str] = Counter()
        self._methods = [
            (method.path, method.takes, method.gives, method.descriptor.server_streaming)
            for method in contract.all_methods().values()
            if method.public
        ]
        oip = pool().FindServiceByName(SERVICE)
        self._methods += [(f"/{SERVICE}/{one.name}", one.input_type, one.output_type, False) for one in oip.methods] * 4

    def make(self, number: int) -> Call:
        chance = random.Random(self._seed << 40 | number)
        path, takes, gives, streams = chance.choice(self._methods)
        content, other = (odd(chance, takes).SerializePartialToString() for _ in range(2))
        if chance.random() < 0.5:
            content = mutated(chance, content, other)
        metadata = [("authorization", f"Bearer {self._target.key}")]
        more = (("if-match", '"1"'), ("idempotency-key", f"k{number % 50}"), ("x-project", chance.choice(NAMES)))
        metadata += [pair for pair in (*more, ("x-tokens", "-1"), ("x-priority", "batch")) if chance.random() < 0.2]
        return Call(path, content, streams, metadata, GetMessageClass(gives))

    async def fire(self, first: int, end: int) -> None:
        """The calls with these numbers."""
        numbers = iter(range(first, end))
        async with aio.insecure_channel(self._target.server.grpc) as channel:

            async def some() -> None:
                for number in numbers:
                    call = self.make(number)
                    status = await self._ask(channel, call)
                    self.said[status.partition(":")[0]] += 1
                    if status.startswith(_FAILED):
                        self._wrong(number, f"{call.path} ended with {status}", call.content)

            await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    def close(self) -> None:
        """Nothing stays open between shots."""

    async def _ask(self, channel: aio.Channel, call: Call) -> str:
        """The name of the status, with the details of a failure."""
        waits = call.streams or call.path.endswith("/WaitOperation")
        try:
            if call.streams:
                stream: Any = channel.unary_stream(call.path)
                async for item in stream(call.content, metadata=call.metadata, timeout=_A_WHILE):
                    call.gives.FromString(item)
            else:
                patience = _A_WHILE if waits else _PATIENCE
                ask: Any = channel.unary_unary(call.path)
                call.gives.FromString(await ask(call.content, metadata=call.metadata, timeout=patience))
        except aio.AioRpcError as error:
            if waits and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return "OK"
            return f"{error.code().name}: {error.details()}"
        except DecodeError:
            return "DATA_LOSS: the reply is no message of its kind"
        return "OK"


def odd(chance: random.Random, kind: Descriptor, depth: int = 0) -> Message:
    """A message with about half of its fields, many of them at the bounds of something."""
    found: Any = GetMessageClass(kind)()
    for field in kind.fields:
        if chance.random() < (0.35 if depth == 0 else 0.5):
            continue
        if field.message_type and depth >= _DEPTH:
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            _entries(chance, getattr(found, field.name), field.message_type, depth)
        elif field.is_repeated:
            many = [_value(chance, field, depth) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
            getattr(found, field.name).extend(many)
        elif field.message_type:
            getattr(found, field.name).CopyFrom(_value(chance, field, depth))
        else:
            setattr(found, field.name, _value(chance, field, depth))
    return cast(Message, found)


def _entries(chance: random.Random, target: Any, entry: Descriptor, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for _ in range(chance.choice((0, 1, 2))):
        if value.message_type:
            target[_value(chance, key, depth)].CopyFrom(_value(chance, value, depth))
        else:
            target[_value(chance, key, depth)] = _value(chance, value, depth)


def _value(chance: random.Random, field: FieldDescriptor, depth: int) -> Any:
    if field.message_type:
        return odd(chance, field.message_type, depth + 1)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            numbers = [value.number for value in field.enum_type.values] if field.enum_type else [0]
            return chance.choice((*numbers, *numbers, 99, -1))
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return chance.choice(_FLOATS[:6] if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else _FLOATS)
        case FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return chance.randbytes(chance.choice((0, 1, 4, 16, 300)))
            return chance.choice(NAMES if chance.random() < 0.6 else _TEXTS)
    low, end = _BOUNDS[field.cpp_type]
    return min(max(chance.choice(_NUMBERS), low), end)


_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
