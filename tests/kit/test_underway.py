"""What happens to calls when the door that answers them closes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.kit.auth import Identity
from services.kit.channels import RemoteChannel
from services.kit.errors import Unavailable
from services.kit.grpc_door import GrpcDoor
from services.kit.rpc import Call, guard
from tests.kit.conftest import now
from tests.kit.test_channels import SERVICE, EchoApi, declare, say


class SlowApi(EchoApi):
    """`One` takes its word for seconds; `Spread` says each word after its word in seconds, `for ever` goes on so."""

    async def One(self, request: StringValue, call: Call) -> StringValue:
        await asyncio.sleep(float(request.value))
        return request

    async def Spread(self, request: StringValue, call: Call) -> AsyncIterator[StringValue]:
        words = request.value.split()
        while words:
            await asyncio.sleep(float(words[0]))
            yield StringValue(value=words[0])
            words = words if words[-1] == "0.01" else words[1:]


@pytest.fixture
async def door(identity: Identity, free_port: int) -> AsyncIterator[GrpcDoor]:
    declare()
    made = GrpcDoor(f"127.0.0.1:{free_port}", guard({SERVICE: SlowApi()}, identity, "data", now, None))
    await made.open()
    yield made
    await made.close(0)


@pytest.fixture
async def channel(door: GrpcDoor, free_port: int) -> AsyncIterator[RemoteChannel]:
    remote = RemoteChannel(f"127.0.0.1:{free_port}", "data")
    yield remote
    await remote.close()


async def closed_under(door: GrpcDoor, call: Any, grace: float) -> tuple[Any, float]:
    """What a call gives, or its failure, when the door closes while it runs; and how long the closing took."""
    running = asyncio.ensure_future(call)
    await asyncio.sleep(0.3)
    begun = time.monotonic()
    await door.close(grace)
    took = time.monotonic() - begun
    return (await asyncio.gather(running, return_exceptions=True))[0], took


async def test_a_call_that_ends_in_time_is_answered(door: GrpcDoor, channel: Any, identity: Identity) -> None:
    answer, took = await closed_under(door, say(channel, identity, "One", "1.5"), 10)

    assert answer == ["1.5"]
    assert took < 3, "nothing is waited for when all is answered"


async def test_a_stream_that_has_things_to_say_says_them_all(door: GrpcDoor, channel: Any, identity: Identity) -> None:
    words = ["0.5"] * 5
    answer, _ = await closed_under(door, say(channel, identity, "Spread", *words), 10)

    assert answer == words


async def test_a_stream_that_waits_for_news_is_told_to_come_again(
    door: GrpcDoor, channel: Any, identity: Identity
) -> None:
    answer, took = await closed_under(door, say(channel, identity, "Spread", "0.1", "30"), 10)

    assert isinstance(answer, Unavailable)
    assert (answer.detail, answer.retry_after) == ("the service is stopping: call again", 0.5)
    assert took < 3


@pytest.mark.parametrize(("kind", "word"), [("One", "30"), ("Spread", "0.01")])
async def test_what_does_not_end_is_told_so_before_it_would_be_cut(
    kind: str, word: str, door: GrpcDoor, channel: Any, identity: Identity
) -> None:
    answer, took = await closed_under(door, say(channel, identity, kind, word), 2)

    assert isinstance(answer, Unavailable)
    assert answer.detail == "the service is stopping: call again"
    assert 1 < took < 2.5


async def test_a_caller_that_gives_up_is_no_call_that_was_ended(
    door: GrpcDoor, channel: Any, identity: Identity
) -> None:
    calling = asyncio.ensure_future(say(channel, identity, "One", "30"))
    await asyncio.sleep(0.3)
    calling.cancel()
    begun = time.monotonic()
    await door.close(10)

    assert time.monotonic() - begun < 2
