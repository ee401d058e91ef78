"""A server that says less of itself than Redis does: never used, and looked at until it says all."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.kit.cache_redis import RedisCache
from services.kit.config import ConfigError
from services.kit.errors import Failure
from tests.support.house import until
from tests.support.server import free_ports

INFO = {
    "redis_version": "7.2.0",
    "run_id": "1",
    "server_time_usec": "1000000",
    "uptime_in_seconds": "1",
    "maxmemory_policy": "noeviction",
}


class Server:
    """Speaks as much of the protocol as a cache asks of it before its first call."""

    def __init__(self, port: int) -> None:
        self.port, self.info = port, dict(INFO)
        self.connections = set[asyncio.StreamWriter]()
        self.greeted = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while (head := await reader.readline()).startswith(b"*"):
                words = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2].upper())
                writer.write(self._answer(words))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
        if words[0] == b"INFO":
            self.greeted += 1
            text = "\r\n".join(f"{key}:{value}" for key, value in self.info.items())
        elif words[0] in (b"SCRIPT", b"EVALSHA"):
            text = "0"
        else:
            return b"+OK\r\n"
        return f"${len(text)}\r\n{text}\r\n".encode()

    def cut(self) -> None:
        """Breaks every connection, as one does that starts again."""
        for writer in self.connections:
            writer.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    [port] = free_ports(1)
    made = Server(port)
    async with await asyncio.start_server(made, "127.0.0.1", port):
        yield made
        made.cut()
        await until(lambda: not made.connections)


@pytest.mark.parametrize("field", INFO)
async def test_a_server_that_does_not_say_what_it_is_is_refused_by_what_it_lacks(server: Server, field: str) -> None:
    del server.info[field]
    cache = RedisCache(f"redis://127.0.0.1:{server.port}/0")
    with pytest.raises(ConfigError, match=f"redis says nothing of its {field} in INFO"):
        await cache.start()
    await cache.close()


async def test_a_server_that_says_nonsense_is_refused(server: Server) -> None:
    server.info["uptime_in_seconds"] = "long"
    cache = RedisCache(f"redis://127.0.0.1:{server.port}/0")
    with pytest.raises(ConfigError, match=r"redis says in INFO what cannot be read: .*'long'"):
        await cache.start()
    await cache.close()


async def test_a_server_that_lacks_something_for_a_while_is_found_again(server: Server) -> None:
    cache = RedisCache(f"redis://127.0.0.1:{server.port}/0", budget=0.5)
    await cache.start()
    del server.info["run_id"]
    server.cut()
    while cache.up:
        with pytest.raises(Failure):
            await cache.get("k")
    greeted = server.greeted
    await until(lambda: server.greeted > greeted, 20)  # it is looked at, and refused
    server.info = dict(INFO)

    await until(lambda: cache.up, 20)
    await cache.close()
