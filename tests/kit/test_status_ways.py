"""One suite for each way that a call may go, in a process, over gRPC, as frames: a failure arrives the same."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.kit.auth import Identity
from services.kit.channels import RemoteChannel
from services.kit.errors import Code, Failure, NotFound, Violation
from services.kit.frames import Lines
from services.kit.frames_door import FramesDoor
from services.kit.grpc_door import GrpcDoor
from services.kit.local import LocalChannel
from services.kit.rpc import Call, Guarded, guard
from tests.kit.conftest import as_key, now
from tests.kit.test_channels import SERVICE, EchoApi, declare
from tests.support.house import until

Fail = Callable[[Failure], Awaitable[Failure]]


class Refusing(EchoApi):
    """Refuses what it is asked."""

    failure: Failure

    async def One(self, request: StringValue, call: Call) -> StringValue:
        raise self.failure


async def stubbed(channel: Any, identity: Identity) -> None:
    call = channel.unary_unary(f"/{SERVICE}/One", StringValue.SerializeToString, StringValue.FromString)
    await call(StringValue(), metadata=as_key(identity, "echo.use"))


@contextlib.asynccontextmanager
async def local(guarded: dict[str, Guarded], identity: Identity) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    channel = LocalChannel()
    channel.serve(guarded)
    yield lambda: stubbed(channel, identity)


@contextlib.asynccontextmanager
async def over_grpc(guarded: dict[str, Guarded], identity: Identity) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    door = GrpcDoor("127.0.0.1:0", guarded)
    await door.open()
    channel = RemoteChannel(door.address, "data")
    yield lambda: stubbed(channel, identity)
    await channel.close()
    await door.close(0)


@contextlib.asynccontextmanager
async def as_frames(guarded: dict[str, Guarded], identity: Identity) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    door, lines = FramesDoor("127.0.0.1", 0, lambda: guarded[f"/{SERVICE}/One"]), Lines("data")
    await door.open()
    line = await until(lambda: lines.to("127.0.0.1", door.port))

    async def call() -> None:
        await line.call(orjson.dumps(dict(as_key(identity, "echo.use"))), b"", 30)

    yield call
    await lines.close()
    await door.close(0)


@pytest.fixture(params=[local, over_grpc, as_frames], ids=["in process", "gRPC", "frames"])
async def fail(request: pytest.FixtureRequest, identity: Identity) -> AsyncIterator[Fail]:
    """What arrives of a failure at who called."""
    declare()
    api = Refusing()
    async with request.param(guard({SERVICE: api}, identity, "data", now, None), identity) as call:

        async def arrived(failure: Failure) -> Failure:
            api.failure = failure
            with pytest.raises(Failure) as caught:
                await call()
            return caught.value

        yield arrived


def said(failure: Failure) -> tuple[object, ...]:
    return failure.code, failure.detail, failure.violations, failure.retry_after, failure.committed_size


async def test_all_that_a_failure_says_arrives_with_each_code(fail: Fail) -> None:
    for code in Code:
        sent = Failure(code, f"iris: {code.text}", [Violation("/a/0", "must be set"), Violation("", "x")], 1.5, 2**40)
        assert said(await fail(sent)) == said(sent)


@pytest.mark.parametrize("text", ["", "Größe, 尺寸, 🌸", "100 % of\nit\tis\r\nlost", "a\x7fb"])
async def test_a_sentence_arrives_in_any_script(fail: Fail, text: str) -> None:
    assert (await fail(NotFound(text))).detail == text


async def test_it_can_be_caught_as_what_it_is(fail: Fail) -> None:
    assert isinstance(await fail(NotFound("there is no iris")), NotFound)


@pytest.mark.parametrize("letter", ["x", "ü", "尺", "🌸", "%"])
async def test_a_long_sentence_is_cut_and_keeps_its_code(fail: Fail, letter: str) -> None:
    found = await fail(NotFound(letter * 10_000, retry_after=3))

    assert (found.code, found.retry_after) == (Code.NOT_FOUND, 3)
    assert 200 < len(found.detail) < 2000
    assert set(found.detail) == {letter}


@pytest.mark.parametrize("letter", ["x", "尺"])
async def test_of_many_broken_rules_the_first_are_named_and_the_others_counted(fail: Fail, letter: str) -> None:
    sent = [Violation(f"/columns/{number}/name", f"must be a name {letter}") for number in range(1000)]
    found = await fail(Failure(Code.INVALID_NAME, f"columns.0.name {letter * 500}", sent))

    *named, last = found.violations
    assert found.code is Code.INVALID_NAME
    assert len(named) > 30
    assert named == sent[: len(named)]
    assert last == Violation("", f"{1000 - len(named)} more rules are broken")
