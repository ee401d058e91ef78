"""Streams that are begun and reset as fast as somebody can (RELIABILITY A37): others are answered all the same."""

import asyncio
import resource
import struct
import time

import pytest
from grpc import aio

from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
STREAMS = 20_000
_SAID = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/aimass.v1.Access/WhoAmI",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}
# Each field as a literal that no table keeps (RFC 7541, 6.2.2).
_HEAD = b"".join(
    b"".join((b"\x00", bytes([len(name)]), name.encode(), bytes([len(value)]), value.encode()))
    for name, value in _SAID.items()
)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


async def flood(gateway: Gateway) -> None:
    """Begins streams and resets each of them at once."""
    host, _, port = gateway.doors["grpc"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answers = asyncio.create_task(reader.read())
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
    for number in range(1, 2 * STREAMS, 200):
        streams = range(number, number + 200, 2)
        writer.write(b"".join(frame(1, 4, one, _HEAD) + frame(3, 0, one, struct.pack(">I", 8)) for one in streams))
        try:
            await writer.drain()
        except ConnectionError:
            break  # it is shown the door, which is as well
    answers.cancel()
    writer.close()


async def test_who_resets_his_streams_costs_a_core_at_most_and_hinders_nobody(gateway: Gateway) -> None:
    begun, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    flooding = asyncio.create_task(flood(gateway))
    async with aio.insecure_channel(gateway.doors["grpc"]) as channel:
        stub, metadata = AccessStub(channel), (("authorization", f"Bearer {gateway.admin}"),)
        waited: list[float] = []
        while not flooding.done() or not waited:
            asked = time.monotonic()
            await stub.WhoAmI(access_pb2.WhoAmIRequest(), metadata=metadata, timeout=5)
            waited.append(time.monotonic() - asked)
        await flooding
    used, seconds = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - begun
    cores = (used.ru_utime + used.ru_stime - spent.ru_utime - spent.ru_stime) / seconds

    assert max(waited) < 5
    assert cores <= 1.5  # ours as well: who floods is in this process
    async with gateway.client() as client:
        assert (await client.get("/v1/whoami")).status_code == 200
