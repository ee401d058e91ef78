"""All four kinds of calls, over both channels: they answer, fail and end alike."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.wrappers_pb2 import StringValue

from aimass.v1 import options_pb2
from services.kit import contract
from services.kit.auth import Identity
from services.kit.channels import RemoteChannel
from services.kit.errors import Code, Failure, Unavailable
from services.kit.grpc_door import GrpcDoor
from services.kit.local import LocalChannel
from services.kit.rpc import Call, guard
from tests.kit.conftest import as_key, now

SERVICE = "aimass.test.Echo"
KINDS = {"One": (False, False), "Gather": (True, False), "Spread": (False, True), "Talk": (True, True)}


@cache
def declare() -> None:
    """A service with one method of each kind; the house itself has no use for two of them."""
    file = FileDescriptorProto(name="aimass/test/echo.proto", package="aimass.test", syntax="proto3")
    file.dependency.extend(["google/protobuf/wrappers.proto", "aimass/v1/options.proto"])
    service = file.service.add(name="Echo")
    service.options.Extensions[options_pb2.owner] = "data"
    for name, (takes_many, gives_many) in KINDS.items():
        kind = ".google.protobuf.StringValue"
        method = service.method.add(name=name, input_type=kind, output_type=kind)
        method.client_streaming, method.server_streaming = takes_many, gives_many
        policy = method.options.Extensions[options_pb2.policy]
        policy.audience, policy.permission = options_pb2.AUDIENCE_PUBLIC, "echo.use"
    Default().Add(file)


class EchoApi:
    """Says what it hears; `refuse` is refused, `cannot` is not now, `break` is a bug, `wait` takes
    long, `dwell` a moment.
    """

    async def One(self, request: StringValue, call: Call) -> StringValue:
        return StringValue(value=await self._say(request.value))

    async def Gather(self, requests: AsyncIterator[StringValue], call: Call) -> StringValue:
        return StringValue(value="".join([await self._say(request.value) async for request in requests]))

    async def Spread(self, request: StringValue, call: Call) -> AsyncIterator[StringValue]:
        for letter in request.value.split():
            yield StringValue(value=await self._say(letter))

    async def Talk(self, requests: AsyncIterator[StringValue], call: Call) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=await self._say(request.value))

    async def _say(self, word: str) -> str:
        if word == "refuse":
            raise Failure(Code.SQL_NOT_ALLOWED, "that is refused", retry_after=1.5)
        if word == "cannot":
            raise Unavailable("not now")
        if word == "break":
            raise KeyError("secret")
        if word == "wait":
            await asyncio.sleep(30)
        if word == "dwell":
            await asyncio.sleep(0.02)
        return word


@pytest.fixture(params=["local", "remote"])
async def channel(request: pytest.FixtureRequest, identity: Identity, free_port: int) -> AsyncIterator[Any]:
    declare()
    guarded = guard({SERVICE: EchoApi()}, identity, "data", now, None)
    if request.param == "local":
        local = LocalChannel()
        local.serve(guarded)
        yield local
        return
    door = GrpcDoor(f"127.0.0.1:{free_port}", guarded)
    await door.open()
    remote = RemoteChannel(f"127.0.0.1:{free_port}", "data")
    yield remote
    await remote.close()
    await door.close(0)


async def say(channel: Any, identity: Identity, kind: str, *words: str, **options: Any) -> list[str]:
    """What comes back from a call of a kind."""
    takes_many, gives_many = KINDS[kind]
    make = getattr(channel, f"{'stream' if takes_many else 'unary'}_{'stream' if gives_many else 'unary'}")
    call = make(f"/{SERVICE}/{kind}", StringValue.SerializeToString, StringValue.FromString)
    metadata = options.pop("metadata", as_key(identity, "echo.use"))

    async def several() -> AsyncIterator[StringValue]:
        for word in words:
            yield StringValue(value=word)

    request = several() if takes_many else StringValue(value=" ".join(words))
    if gives_many:
        return [reply.value async for reply in call(request, metadata=metadata, **options)]
    return [(await call(request, metadata=metadata, **options)).value]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("One", ["a b"]), ("Gather", ["ab"]), ("Spread", ["a", "b"]), ("Talk", ["a", "b"])],
)
async def test_every_kind_of_call_answers(channel: Any, identity: Identity, kind: str, answer: list[str]) -> None:
    assert await say(channel, identity, kind, "a", "b") == answer


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_fails_as_the_service_said(channel: Any, identity: Identity, kind: str) -> None:
    with pytest.raises(Failure, match="that is refused") as caught:
        await say(channel, identity, kind, "refuse")
    assert (caught.value.code, caught.value.retry_after) == (Code.SQL_NOT_ALLOWED, 1.5)


@pytest.mark.parametrize("kind", ["One", "Spread"])
async def test_bytes_that_are_no_message_are_refused(channel: Any, identity: Identity, kind: str) -> None:
    make = channel.unary_stream if kind == "Spread" else channel.unary_unary
    call = make(f"/{SERVICE}/{kind}", None, StringValue.FromString)(b"\xff", metadata=as_key(identity, "echo.use"))
    with pytest.raises(Failure, match="the message is not one of this method") as caught:
        _ = [item async for item in call] if kind == "Spread" else await call
    assert caught.value.code is Code.INVALID_VALUE


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bug_leaves_without_its_text(channel: Any, identity: Identity, kind: str) -> None:
    with pytest.raises(Failure, match=r"^internal error$") as caught:
        await say(channel, identity, kind, "break")
    assert caught.value.code is Code.INTERNAL


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_answer_is_a_deadline(channel: Any, identity: Identity, kind: str) -> None:
    with pytest.raises(Failure, match="data took too long") as caught:
        await say(channel, identity, kind, "wait", timeout=0.1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_calls_without_permission(channel: Any, identity: Identity, kind: str) -> None:
    with pytest.raises(Failure) as caught:
        await say(channel, identity, kind, "a", metadata=as_key(identity, "other.use"))
    assert caught.value.code is Code.FORBIDDEN


async def test_a_method_that_is_not_there_is_said_so(channel: Any) -> None:
    call = channel.unary_unary("/aimass.test.Echo/Nothing", StringValue.SerializeToString, StringValue.FromString)

    with pytest.raises(Failure) as caught:
        await call(StringValue())
    assert caught.value.code is Code.METHOD_NOT_ALLOWED


def test_a_servicer_that_lacks_a_method_stops_the_start(identity: Identity) -> None:
    declare()

    with pytest.raises(AttributeError):
        guard({SERVICE: object()}, identity, "data", now, None)


async def test_a_service_that_is_away_is_unavailable(identity: Identity, free_port: int) -> None:
    declare()
    remote = RemoteChannel(f"127.0.0.1:{free_port}", "data")

    with pytest.raises(Failure) as caught:
        await say(remote, identity, "One", "a", timeout=0.3)
    assert caught.value.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
    await remote.close()


def test_declared_methods_are_known_to_the_contract() -> None:
    declare()

    assert [method.descriptor.name for method in contract.methods(SERVICE)] == list(KINDS)


async def test_a_door_is_left_when_nobody_calls_any_more(identity: Identity, free_port: int) -> None:
    declare()
    door = GrpcDoor(f"127.0.0.1:{free_port}", guard({SERVICE: EchoApi()}, identity, "data", now, None))
    await door.open()
    channel = RemoteChannel(f"127.0.0.1:{free_port}", "data")
    began, left = time.monotonic(), list[bool]()
    await door.left(60)
    await say(channel, identity, "One", "a")
    leaving = asyncio.ensure_future(door.left(60))
    for _ in range(4):
        await asyncio.wait({leaving}, timeout=0.2)
        left.append(leaving.done())
        await say(channel, identity, "One", "a")
    await leaving
    await channel.close()
    await door.close(0)

    assert left == [False] * 4
    assert 1 < time.monotonic() - began < 30
