"""Calls as frames: they answer and fail as over gRPC, and nobody waits for who is gone."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.kit import frames_door
from services.kit.auth import Identity
from services.kit.breaker import Rules
from services.kit.channels import framed
from services.kit.errors import Code, DeadlineExceeded, Disconnected, Failure
from services.kit.frames import Line, Lines
from services.kit.frames_door import FramesDoor
from services.kit.member import Instance, Member, plain
from services.kit.outliers import Record
from services.kit.rpc import LARGE, Call, guard
from tests.kit.conftest import as_key, now
from tests.kit.test_channels import SERVICE, EchoApi, declare
from tests.support.house import until


class Watched(EchoApi):
    """Says also who gave up."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.metadata = 0, 0, dict[str, str]()

    async def One(self, request: StringValue, call: Call) -> StringValue:
        self.begun += 1
        self.metadata = dict(call.metadata)
        try:
            return await super().One(request, call)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
def echo() -> Watched:
    return Watched()


@pytest.fixture
async def door(echo: Watched, identity: Identity) -> AsyncIterator[FramesDoor]:
    declare()
    guarded = guard({SERVICE: echo}, identity, "data", now, None)[f"/{SERVICE}/One"]
    made = FramesDoor("127.0.0.1", 0, lambda: guarded)
    await made.open()
    yield made
    await made.close(0)


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    made = Lines("data")
    yield made
    await made.close()


async def to(lines: Lines, port: int) -> Line:
    """The line to a door, once it is there."""
    async with asyncio.timeout(5):
        while (found := lines.to("127.0.0.1", port)) is None:
            await asyncio.sleep(0.01)
    return found


@pytest.fixture
async def line(lines: Lines, door: FramesDoor) -> Line:
    return await to(lines, door.port)


async def say(line: Line, identity: Identity, word: str, seconds: float = 5, named: str = "") -> str:
    shown = orjson.dumps(dict(as_key(identity, "echo.use")) | {"x-request-id": named})
    message = StringValue(value=word).SerializeToString()
    return StringValue.FromString(await line.call(shown, message, seconds)).value


async def test_calls_are_answered_each_for_itself(line: Line, identity: Identity) -> None:
    words = ["dwell", "a", "", "b" * 1000]

    assert await asyncio.gather(*(say(line, identity, word) for word in words)) == words


async def test_a_call_fails_as_the_service_said(line: Line, identity: Identity) -> None:
    with pytest.raises(Failure, match="that is refused") as caught:
        await say(line, identity, "refuse")

    assert (caught.value.code, caught.value.retry_after) == (Code.SQL_NOT_ALLOWED, 1.5)


async def test_a_bug_is_told_without_its_text(line: Line, identity: Identity) -> None:
    with pytest.raises(Failure, match="internal error"):
        await say(line, identity, "break")


async def test_who_shows_no_token_is_refused(line: Line, echo: Watched) -> None:
    for shown in (b"{}", orjson.dumps({"authorization": "Bearer nonsense"})):
        with pytest.raises(Failure) as caught:
            await line.call(shown, b"", 5)
        assert caught.value.code.http == 401
    assert echo.begun == 0


async def test_what_a_caller_says_beside_his_message_comes_along(line: Line, identity: Identity, echo: Watched) -> None:
    await say(line, identity, "a", named="mine")

    assert echo.metadata["x-request-id"] == "mine"


async def test_a_call_whose_time_is_over_ends_the_work_at_the_other_end(
    line: Line, identity: Identity, echo: Watched
) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await say(line, identity, "wait", seconds=0.2)

    assert time.monotonic() - began < 1
    await until(lambda: echo.cancelled == 1, 2)


async def test_a_caller_who_leaves_ends_the_work(line: Line, identity: Identity, echo: Watched) -> None:
    call = asyncio.ensure_future(say(line, identity, "wait", seconds=30))
    await until(lambda: echo.begun == 1, 2)
    call.cancel()

    await until(lambda: echo.cancelled == 1, 2)
    assert await say(line, identity, "a") == "a"


async def test_who_leaves_as_soon_as_he_has_asked_takes_no_room_with_him(
    line: Line, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames_door, "_MOST", 2)
    for _ in range(5):
        call = asyncio.ensure_future(say(line, identity, "wait", seconds=30))
        await asyncio.sleep(0)
        call.cancel()  # before the door has read that he asks
        assert await say(line, identity, "a") == "a"


async def test_a_connection_that_ends_ends_its_calls(line: Line, identity: Identity, echo: Watched) -> None:
    call = asyncio.ensure_future(say(line, identity, "wait", seconds=30))
    await until(lambda: echo.begun == 1, 2)
    line.abort()

    with pytest.raises(Disconnected):
        await call
    await until(lambda: echo.cancelled == 1, 2)


async def test_nobody_waits_for_who_is_known_to_be_gone(line: Line, identity: Identity) -> None:
    line.alive = lambda: False
    with pytest.raises(Disconnected):
        await say(line, identity, "wait", seconds=30)

    assert not line.open


async def test_a_door_that_closes_answers_what_it_was_asked_and_is_asked_no_more(
    lines: Lines, line: Line, door: FramesDoor, identity: Identity, echo: Watched
) -> None:
    call = asyncio.ensure_future(say(line, identity, "dwell"))
    await until(lambda: echo.begun == 1, 2)
    port = door.port
    await asyncio.gather(door.close(5), asyncio.sleep(0))

    assert await call == "dwell"
    assert not line.open
    assert lines.to("127.0.0.1", port) is None


async def test_a_door_that_closes_cuts_what_takes_too_long(
    line: Line, door: FramesDoor, identity: Identity, echo: Watched
) -> None:
    call = asyncio.ensure_future(say(line, identity, "wait", seconds=30))
    await until(lambda: echo.begun == 1, 2)
    await door.close(0.1)

    with pytest.raises(Failure) as caught:
        await call
    assert caught.value.code is Code.UNAVAILABLE


async def test_a_door_that_is_not_there_is_left_alone_for_a_while(lines: Lines, free_port: int) -> None:
    assert lines.to("127.0.0.1", free_port) is None
    await asyncio.sleep(0.1)
    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", free_port)
    assert lines.to("127.0.0.1", free_port) is None
    await asyncio.sleep(0.1)

    assert lines.to("127.0.0.1", free_port) is None
    listening.close()


@pytest.mark.parametrize(
    "broken",
    [
        struct.pack("<I", LARGE + 1),
        struct.pack("<II", 4, 1),
        struct.pack("<IIIH", 10, 1, 5, 0),
        struct.pack("<IIIH", 14, 1, 5, 4) + b"[1]\n",
    ],
    ids=["too large", "cut short", "no metadata", "no object"],
)
async def test_what_is_no_frame_ends_the_connection(door: FramesDoor, broken: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(broken)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_nothing_is_begun_behind_what_ends_the_connection(door: FramesDoor, identity: Identity) -> None:
    shown = orjson.dumps(dict(as_key(identity, "echo.use")))
    request = shown + StringValue(value="wait").SerializeToString()
    used_twice = [struct.pack("<IIIH", 10 + len(request), number, 60_000, len(shown)) + request for number in (1, 1, 2)]
    begun: list[str] = []

    def begin(loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> "asyncio.Task[Any]":
        begun.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **named)

    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    asyncio.get_running_loop().set_task_factory(begin)
    writer.write(b"".join(used_twice))
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()

    assert begun.count("_Caller._run") == 1


async def test_a_message_that_cannot_be_read_is_said(line: Line, identity: Identity) -> None:
    with pytest.raises(Failure) as caught:
        await line.call(orjson.dumps(dict(as_key(identity, "echo.use"))), b"\xff\xff", 5)

    assert caught.value.code is Code.INVALID_VALUE


async def test_frames_in_pieces_are_put_together(door: FramesDoor, identity: Identity) -> None:
    shown = orjson.dumps(dict(as_key(identity, "echo.use")))
    message = StringValue(value="abc").SerializeToString()
    frame = struct.pack("<IIIH", 10 + len(shown) + len(message), 7, 5000, len(shown)) + shown + message
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    for at in range(0, len(frame), 50):
        writer.write(frame[at : at + 50])
        await writer.drain()
        await asyncio.sleep(0.001)
    async with asyncio.timeout(5):
        size, number, kind = struct.unpack("<IIB", await reader.readexactly(9))
        assert (number, kind) == (7, 0)
        assert StringValue.FromString(await reader.readexactly(size - 5)).value == "abc"
    writer.close()


@pytest.mark.parametrize(
    "said", [b"\x02\x00\x00\x00\x01\x00", b"\x07\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff"], ids=["short", "no failure"]
)
async def test_who_is_answered_with_what_is_no_frame_is_told_at_once(lines: Lines, free_port: int, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", free_port)
    lines.to("127.0.0.1", free_port)
    await until(lambda: lines.to("127.0.0.1", free_port))
    line = lines.to("127.0.0.1", free_port)
    assert line
    async with asyncio.timeout(10):
        with pytest.raises(Disconnected):
            await line.call(b"{}", b"", 30)
    assert not line.open
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize(
    ("word", "seconds", "outcome"),
    [
        ("a", 5.0, (1, 0)),
        ("refuse", 5.0, (1, 0)),
        ("cannot", 5.0, (1, 1)),
        ("break", 5.0, (1, 1)),
        ("wait", 0.1, (0, 0)),
    ],
)
async def test_what_became_of_a_call_is_told_of_its_instance(
    line: Line, door: FramesDoor, identity: Identity, word: str, seconds: float, outcome: tuple[int, int]
) -> None:
    instance = Instance("data-1", f"127.0.0.1:{door.port}")
    member = Member(instance, plain(instance.address, "data"), Rules(), lambda: None)
    member.connected, member.record = True, Record(timed=True)
    with contextlib.suppress(Failure):
        await framed(line, member, as_key(identity, "echo.use"), StringValue(value=word).SerializeToString(), seconds)

    assert (member.record.calls, member.record.failed) == outcome
    assert sum(member.record.times) == outcome[0] - outcome[1]
    await member.close()
