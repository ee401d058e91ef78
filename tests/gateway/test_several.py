"""Two gateways, two inference instances: houses in one process, over gRPC, with the bus of the first."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aimass.v1 import operations_pb2
from tests.gateway.serving import DOORS, Serving
from tests.support import models
from tests.support.house import House, house, until
from tests.support.server import free_ports
from tests.support.servers import address
from tests.support.tenants import Tenant

ROWS = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}


@dataclass
class Estate:
    """Houses that know each other: static lists near, leases in Redis far."""

    home: Path
    redis: str = ""
    ports: list[int] = field(default_factory=lambda: free_ports(6))
    ends: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    houses: dict[str, House] = field(default_factory=dict)

    @property
    def where(self) -> str:
        if self.redis:
            return self.redis
        at = [f"127.0.0.1:{port}" for port in self.ports]
        return f"static:registry={at[1]},inference={at[2]}|{at[3]}"

    async def open(self, name: str, service: str, port: int, **env: str) -> House:
        """A house for one service on a port; `stop` ends it."""
        listen = {} if service == "gateway" else {f"AIMASS_{service.upper()}_LISTEN": f"127.0.0.1:{self.ports[port]}"}
        bus = f"127.0.0.1:{self.ports[0]}"
        line = {"AIMASS_BUS_LISTEN": bus} if service == "registry" else {"AIMASS_BUS_URL": f"grpc://{bus}"}
        database = {f"AIMASS_{service.upper()}_DATABASE_URL": f"sqlite:///{self.home}/{name}.db"}
        env = (
            {"AIMASS_DISCOVERY_URL": self.where, "AIMASS_DRAIN_ACCEPT_SECONDS": "0.5"} | listen | line | database | env
        )
        running = house(self.home, service, **env)
        self.houses[name] = await running.__aenter__()
        self.ends.push_async_exit(running)
        return self.houses[name]

    async def stop(self, name: str) -> None:
        """Ends a house as a process that is killed: its connections break, nothing is said."""
        process = self.houses.pop(name).process
        for door in process._internal.values():
            await door.close(0)
        await process.runtime.directory.source.close()

    async def gateway(self, name: str) -> Serving:
        running = await self.open(name, "gateway", 0, **DOORS)
        await until(running.runtime.ready)
        found = Serving(running)
        found.doors = json.loads((self.home / "doors.json").read_text())
        return found


@contextlib.asynccontextmanager
async def estate(home: Path, redis: str = "") -> AsyncIterator[Estate]:
    found = Estate(home, redis)
    async with found.ends:
        await found.open("registry", "registry", 1)
        yield found


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def several(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path, address("redis") if request.param == "far" else "") as found:
        yield found


async def answers(door: Serving, count: int) -> Counter[int]:
    """The statuses of so many predictions, a few at a time."""
    found: Counter[int] = Counter()
    async with door.client() as client:

        async def ask() -> None:
            for _ in range(count // 4):
                answer = await client.post("/v2/models/late/infer", json=ROWS)
                found[answer.status_code] += 1

        await asyncio.gather(*(ask() for _ in range(4)))
    return found


def calls(running: House) -> int:
    """What an instance was asked so far."""
    inference = running.runtime.directory.local["inference"].methods["/aimass.v1.Engines/InferMany"]
    return getattr(inference, "counted", 0)


def count(running: House) -> None:
    """Counts the calls of an instance from now on."""
    method = running.runtime.directory.local["inference"].methods["/aimass.v1.Engines/InferMany"]
    run = method._run

    async def counted(request: object, call: object) -> object:
        method.counted = getattr(method, "counted", 0) + 1  # type: ignore[attr-defined]
        return await run(request, call)

    method._run = counted


async def promoted(owner: Tenant, version: int) -> int:
    """The state that the operation of a promotion ends with."""
    return (await owner.ended(await owner.promote("late", version), 30)).state


SUCCEEDED = operations_pb2.OPERATION_STATE_SUCCEEDED


async def test_predictions_survive_an_instance_that_is_killed_under_load(several: Estate) -> None:
    for name, port in (("one", 2), ("two", 3)):
        count(await several.open(name, "inference", port))
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic())
    assert await promoted(owner, 1) == SUCCEEDED
    two = several.houses["two"]
    assert await answers(door, 200) == {200: 200}
    assert min(calls(several.houses["one"]), calls(two)) > 10
    asked = asyncio.ensure_future(answers(door, 800))
    await asyncio.sleep(0.3)
    await several.stop("two")

    assert await asked == {200: 800}
    assert await answers(door, 100) == {200: 100}
