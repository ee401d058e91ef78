"""Small servers that say who they are, for tests of the way to several instances."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.kit.errors import Unavailable
from services.kit.health import NAME
from services.kit.member import Instance
from services.kit.rpc import PINGED
from services.kit.status import refuse
from tests.support.server import free_ports

PATH = "/aimass.test.Who/Who"


@dataclass
class Speaker:
    """One instance. It answers with its name, `broken` with an error; `gate` holds its calls back.

    What is `lost` ends as when its connection breaks, and the connection is there all the same; who `refuses` says that
    it cannot now. `fails`: each so manieth call ends with an error; `pause`: seconds that calls take.
    """

    name: str
    port: int
    calls: int = 0
    broken: bool = False
    lost: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    server: aio.Server | None = None
    host: str = "127.0.0.1"
    weight: int = 1
    well: bool = True  # what it says of its health
    refuses: bool = False
    fails: int = 0
    pause: float = 0.0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def instance(self) -> Instance:
        return Instance(self.name, f"{self.host}:{self.port}", self.weight)

    async def start(self) -> "Speaker":
        self.server = aio.server(options=[*PINGED, ("grpc.so_reuseport", 0)])
        who = grpc.method_handlers_generic_handler(
            "aimass.test.Who", {"Who": grpc.unary_unary_rpc_method_handler(self._answer)}
        )
        health = grpc.method_handlers_generic_handler(
            NAME,
            {"Check": grpc.unary_unary_rpc_method_handler(self._check, None, HealthCheckResponse.SerializeToString)},
        )
        self.server.add_generic_rpc_handlers((who, health))
        self.server.add_insecure_port(f"{self.host}:{self.port}")
        await self.server.start()
        return self

    async def stop(self, grace: float | None = None) -> None:
        """Without grace its calls are cut."""
        if self.server:
            server, self.server = self.server, None
            await server.stop(grace)

    async def _check(self, request: bytes, context: Any) -> HealthCheckResponse:
        status = HealthCheckResponse.SERVING if self.well else HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=status)

    async def _answer(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        await self.gate.wait()
        if self.lost:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        if self.refuses:
            await refuse(context, Unavailable("not now"))
        await asyncio.sleep(self.pause)
        if self.broken or (self.fails and self.calls % self.fails == 0):
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        return self.name.encode()


@contextlib.asynccontextmanager
async def speakers(count: int, started: bool = True) -> AsyncIterator[list[Speaker]]:
    """Servers a, b, c ... on the loopback."""
    found = [Speaker(name, port) for name, port in zip("abcdef", free_ports(count), strict=False)]
    try:
        for speaker in found:
            if started:
                await speaker.start()
        yield found
    finally:
        for speaker in found:
            speaker.gate.set()
            await speaker.stop()


async def who(channel: Any, seconds: float = 5) -> str:
    """Who answers a call."""
    return str((await channel.unary_unary(PATH)(b"", timeout=seconds)).decode())


async def several(channel: Any, count: int) -> list[str]:
    """Who answers so many calls, one after the other."""
    return [await who(channel) for _ in range(count)]


async def main(name: str, port: int) -> None:
    """One that runs until its process is ended."""
    await Speaker(name, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
