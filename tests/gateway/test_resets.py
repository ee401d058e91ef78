"""Streams that are begun and reset as fast as somebody can (RELIABILITY A37): others are answered all the same."""

import asyncio
import contextlib
import os
import resource
import sys
import time

import pytest
from grpc import aio

from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from services.gateway.resets import MOST
from tests.fuzz.frames import Frame, call
from tests.gateway.conftest import Gateway
from tests.gateway.resetting import HEAD
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_who_resets_his_streams_costs_a_core_at_most_and_hinders_nobody(gateway: Gateway) -> None:
    host, _, port = gateway.doors["grpc"].rpartition(":")
    begun, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    # In a process of its own: what is measured here is ours.
    flooding = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.gateway.resetting", host, port, "3")
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        stub, metadata = AccessStub(channel), (("authorization", f"Bearer {gateway.admin}"),)
        waited: list[float] = []
        while flooding.returncode is None or not waited:
            asked = time.monotonic()
            await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata, timeout=5)
            waited.append(time.monotonic() - asked)
            await asyncio.sleep(0.02)
        assert await flooding.wait() == 0
    used, seconds = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - begun
    cores = (used.ru_utime + used.ru_stime - spent.ru_utime - spent.ru_stime) / seconds

    assert max(waited) < 5
    assert cores <= 1
    async with gateway.client() as client:
        assert (await client.get("/v1/whoami")).status_code == 200


class Caller:
    """One connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._first, self._heard, self._said = 1, b"", 1

    @classmethod
    async def come(cls, gateway: Gateway, left: contextlib.AsyncExitStack) -> "Caller":
        host, _, port = gateway.doors["grpc"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        left.callback(writer.close)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, b"").whole())
        return cls(reader, writer)

    async def reset(self, count: int) -> bool:
        """Begins calls, lets the gateway begin them as well, and resets all at once; whether it is still connected.

        Nothing was reset for a second before: the gateway counts them together, unless it takes more than one for them.
        """
        streams, before = range(self._first, self._first + 2 * count, 2), len(asyncio.all_tasks())
        self._first += 2 * count
        self._writer.writelines(Frame(1, 4, stream, HEAD).whole() for stream in streams)
        await asyncio.sleep(1.05)
        await until(lambda: len(asyncio.all_tasks()) >= before + count)  # each call is a task of this loop
        self._writer.writelines(Frame(3, 0, stream, b"\0\0\0\x08").whole() for stream in streams)
        await until(lambda: len(asyncio.all_tasks()) < before + 50)  # the gateway may do something else besides
        await asyncio.sleep(0.2)  # a thread closes it
        return await self._read()

    async def _read(self) -> bool:
        """Whether the other end has read all that was sent: it agrees to settings when it comes to them."""
        self._writer.write(Frame(4, 0, 0, b"").whole())
        self._said += 1
        try:
            while self._heard.count(Frame(4, 1, 0, b"").whole()) < self._said:
                if not (more := await self._reader.read(2**16)):
                    return False
                self._heard += more
        except ConnectionError:
            return False
        return True


async def test_a_connection_that_resets_more_calls_than_it_may_have_open_is_closed_and_no_other(
    gateway: Gateway,
) -> None:
    async with contextlib.AsyncExitStack() as left, asyncio.timeout(300):
        other, most = await Caller.come(gateway, left), await Caller.come(gateway, left)

        assert await other.reset(500)
        assert await most.reset(MOST - 1)
        # A machine that is so busy that a thousand take longer than a second gets more tries; one of them must do.
        for _ in range(5):
            unruly = await Caller.come(gateway, left)
            before = len(os.listdir("/dev/fd"))
            if not await unruly.reset(MOST):
                break
        else:
            raise AssertionError("it is still connected")
        assert await other.reset(100)
        assert len(os.listdir("/dev/fd")) <= before


async def test_who_calls_a_method_that_nobody_can_read_stops_nothing(gateway: Gateway) -> None:
    host, _, port = gateway.doors["grpc"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head, data = call(1, "/aimass.v1.Access/Who@mI", "")
    torn = head._replace(payload=head.payload.replace(b"Who@mI", b"Who\xe4mI"))
    frames = (Frame(4, 0, 0, b""), torn, data)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frame.whole() for frame in frames))
    async with asyncio.timeout(10):
        while b"grpc-status" not in await reader.read(2**16):
            pass
    writer.close()
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        metadata = (("authorization", f"Bearer {gateway.admin}"),)
        principal = await AccessStub(channel).WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata, timeout=5)

    assert principal.tenant == "default"
