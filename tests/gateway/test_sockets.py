"""A port that is about to be closed takes no new connections; those that there are go on."""

import asyncio
import contextlib
import socket
import sys

import pytest

from services.gateway.sockets import deafen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")


def listening(port: int = 0) -> socket.socket:
    found = socket.create_server(("127.0.0.1", port))
    found.setblocking(False)
    return found


async def test_who_comes_while_a_port_is_closed_reaches_the_next_one_that_listens() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as left:
        old, other = left.enter_context(listening()), left.enter_context(listening())
        address = old.getsockname()
        before = left.enter_context(socket.create_connection(address))
        accepted = left.enter_context((await loop.sock_accept(old))[0])

        deafen({address[1]})
        coming = asyncio.ensure_future(asyncio.open_connection(*address))
        await asyncio.sleep(0.3)
        assert not coming.done(), "neither accepted nor refused"
        before.sendall(b"ping")
        assert await loop.sock_recv(accepted, 4) == b"ping"
        left.enter_context(socket.create_connection(other.getsockname(), timeout=1))

        old.close()
        new = left.enter_context(listening(address[1]))
        async with asyncio.timeout(5):
            _, writer = await coming
            left.enter_context((await loop.sock_accept(new))[0])
        writer.close()
