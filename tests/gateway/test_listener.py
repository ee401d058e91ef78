"""The socket on which a gateway listens: what it has accepted ends, one way or another."""

import asyncio
import socket

import pytest

from services.gateway.listener import Listener

pytestmark = pytest.mark.asyncio


async def test_connections_that_are_given_up_are_closed() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    listener = Listener(listening, asyncio.Protocol)
    with socket.create_connection(listening.getsockname()[:2]) as caller:
        caller.setblocking(False)
        listener.close()  # takes what the kernel has accepted
        assert len(listener.shaking) == 1
        listener.give_up()
        async with asyncio.timeout(10):
            assert await asyncio.get_running_loop().sock_recv(caller, 1) == b""
