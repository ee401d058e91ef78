"""Streams that are begun and reset as fast as somebody can (RELIABILITY A37): others are answered all the same."""

import asyncio
import resource
import sys
import time

import pytest
from grpc import aio

from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from tests.fuzz.frames import Frame, call
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_who_resets_his_streams_costs_a_core_at_most_and_hinders_nobody(gateway: Gateway) -> None:
    host, _, port = gateway.doors["grpc"].rpartition(":")
    begun, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    # In a process of its own: what is measured here is ours.
    flooding = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.gateway.resetting", host, port)
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        stub, metadata = AccessStub(channel), (("authorization", f"Bearer {gateway.admin}"),)
        waited: list[float] = []
        while flooding.returncode is None or not waited:
            asked = time.monotonic()
            await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata, timeout=5)
            waited.append(time.monotonic() - asked)
        assert await flooding.wait() == 0
    used, seconds = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - begun
    cores = (used.ru_utime + used.ru_stime - spent.ru_utime - spent.ru_stime) / seconds

    assert max(waited) < 5
    assert cores <= 1
    async with gateway.client() as client:
        assert (await client.get("/v1/whoami")).status_code == 200


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
        said = await AccessStub(channel).WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata, timeout=5)

    assert said.tenant == "default"
