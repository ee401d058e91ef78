"""The gRPC server takes what is known by its name, and whatever else there may be by none."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import StatusCode, aio

from services.kit.grpc_server import Server
from tests.fuzz.frames import Frame, call, literal

KNOWN = "/test.Echo/Say"


class Echo(grpc.GenericRpcHandler):
    """Answers with what it was asked, but waits when told so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting = asyncio.Event()
        self.given_up: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        self.asked.append(details.method)
        return grpc.unary_unary_rpc_method_handler(self._say) if details.method == KNOWN else None

    async def _say(self, content: bytes, context: Any) -> bytes:
        if content == b"wait":
            self.waiting.set()
            await asyncio.sleep(60)
        return content


@pytest_asyncio.fixture
async def echo() -> Echo:
    return Echo()


@pytest_asyncio.fixture
async def address(echo: Echo) -> AsyncIterator[str]:
    server = Server([echo], [KNOWN], [], echo.given_up.append)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    async with asyncio.timeout(10):
        await server.stop(0)


async def say(address: str, path: str = KNOWN, content: bytes = b"x") -> Any:
    async with aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(path)
        return await ask(content, timeout=10)


async def write(address: str, *frames: Frame) -> bytes:
    """What is answered to frames on a connection of their own, until a stream ends."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frame.whole() for frame in frames))
    came = b""
    async with asyncio.timeout(10):
        while b"grpc-status" not in came and (more := await reader.read(2**16)):
            came += more
    writer.transport.abort()
    return came


async def test_a_method_that_is_known_is_called_by_its_name(address: str, echo: Echo) -> None:
    assert await asyncio.gather(*(say(address, content=b"%d" % n) for n in range(20))) == [b"%d" % n for n in range(20)]
    assert set(echo.asked) == {KNOWN}


async def test_any_other_method_is_one_that_is_not_there(address: str, echo: Echo) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await say(address, "/test.Echo/Shout")
    assert refused.value.code() is StatusCode.UNIMPLEMENTED
    assert echo.asked == [""]


async def test_the_name_of_a_method_that_nobody_can_read_stops_nothing(address: str) -> None:
    head, data = call(1, "/test.Echo/S@y", "key", b"x")
    torn = head._replace(payload=head.payload.replace(b"S@y", b"S\xe4y"))
    assert b"grpc-status" in await write(address, Frame(4, 0, 0, b""), torn, data)
    assert await say(address) == b"x"


async def test_calls_under_way_end_with_the_server(echo: Echo) -> None:
    server = Server([echo], [KNOWN], [], echo.given_up.append)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    under_way = asyncio.create_task(say(f"127.0.0.1:{port}", content=b"wait"))
    await echo.waiting.wait()
    async with asyncio.timeout(10):
        await server.stop(0)
    with pytest.raises(aio.AioRpcError):
        await under_way
    assert not [task for task in asyncio.all_tasks() if "_take" in repr(task.get_coro())]


def test_a_header_without_a_table_says_its_lengths() -> None:
    assert literal("te", "trailers") == b"\x00\x02te\x08trailers"


async def test_who_resets_a_call_is_told_and_not_whose_time_is_over(echo: Echo, address: str) -> None:
    async with aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(KNOWN)
        assert await ask(b"x", timeout=10) == b"x"
        with pytest.raises(aio.AioRpcError):
            await ask(b"wait", timeout=0.2)
        echo.waiting.clear()
        given_up = ask(b"wait", timeout=10)
        await echo.waiting.wait()
        given_up.cancel()
        async with asyncio.timeout(10):
            while not echo.given_up:
                await asyncio.sleep(0.01)
        assert await ask(b"x", timeout=10) == b"x"

    (peer,) = echo.given_up
    assert peer.startswith("ipv4:127.0.0.1:")


def burst(address: str, number: int, options: Any = ()) -> list[StatusCode]:
    """Calls of one connection that has been used, all at once."""
    with grpc.insecure_channel(address, options) as channel:
        ask: Any = channel.unary_unary(KNOWN)
        return [call.code() for call in [ask.future(b"x", timeout=10) for _ in range(number)]]


async def late(server: aio.Server, number: int, options: Any = ()) -> list[StatusCode]:
    """What is answered to calls that arrive while a process is busy with other things, and then stops."""
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    assert await say(address) == b"x"
    calls = asyncio.create_task(asyncio.to_thread(burst, address, number, options))
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251
    await server.stop(5)
    return await calls


async def test_calls_that_have_arrived_when_a_server_stops_are_answered(echo: Echo) -> None:
    assert await late(Server([echo], [KNOWN], []), 200) == [StatusCode.OK] * 200
    assert len(echo.asked) == 201


class Unread(grpc.GenericRpcHandler):
    """Nothing of ours: what grpcio does."""

    def __init__(self) -> None:
        self.asked = 0

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        self.asked += 1
        return grpc.unary_unary_rpc_method_handler(self._say)

    async def _say(self, content: bytes, context: Any) -> bytes:
        return content


async def test_grpcio_says_cancelled_of_calls_that_it_has_not_taken_when_it_stops() -> None:
    """So docs/guides/refusals.md tells clients to repeat such calls; without it, nobody need be told."""
    handler = Unread()
    ends = await late(aio.server(handlers=[handler]), 20)
    assert ends.count(StatusCode.CANCELLED) > 0, "an upgrade has mended it"
    assert handler.asked == 1 + ends.count(StatusCode.OK), "none of them had an effect"
