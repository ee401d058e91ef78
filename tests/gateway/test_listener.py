"""The socket on which a gateway listens: what it has accepted ends, one way or another."""

import asyncio
import socket
import ssl

import pytest

from services.gateway.listener import Listener
from services.kit import tasks
from tests.support.house import until

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


async def test_connections_with_tls_are_accepted_also_after_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_FIRST", 0.01)
    taken = list[socket.socket]()

    class Odd(Listener):
        def _take(self, connection: socket.socket) -> None:
            taken.append(connection)
            if len(taken) == 1:
                raise KeyError("nobody has foreseen it")

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    listener = Odd(listening, asyncio.Protocol, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    await listener.open()
    with socket.create_connection(listening.getsockname()[:2]), socket.create_connection(listening.getsockname()[:2]):
        await until(lambda: len(taken) == 2)
    listener.close()
    for connection in taken:
        connection.close()
