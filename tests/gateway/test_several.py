"""Two gateways, two inference instances: houses in one process, over gRPC, with the bus of the first."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import operations_pb2
from services.kit.auth import Scope
from services.kit.errors import FailedPrecondition, Unavailable
from services.kit.frames import Line
from tests.gateway.serving import DOORS, Serving
from tests.support import models
from tests.support.house import House, house, until
from tests.support.server import ROOT, free_ports
from tests.support.servers import address, make
from tests.support.tenants import Tenant

ROWS = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}


@dataclass
class Estate:
    """Houses that know each other: static lists near, leases in Redis far."""

    home: Path
    redis: str = ""
    # Of the two instances.
    weights: tuple[int, int] = (1, 1)
    ports: list[int] = field(default_factory=lambda: free_ports(6))
    ends: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    houses: dict[str, House] = field(default_factory=dict)
    killed: dict[str, House] = field(default_factory=dict)

    @property
    def where(self) -> str:
        if self.redis:
            return self.redis
        at = [f"127.0.0.1:{port}" for port in self.ports]
        first, second = (f"{at[2 + number]};weight={weight}" for number, weight in enumerate(self.weights))
        return f"static:registry={at[1]},inference={first}|{second}"

    def settings(self, name: str, service: str, port: int) -> dict[str, str]:
        """The environment of a process that hosts one service on a port."""
        listen = {} if service == "gateway" else {f"AIMASS_{service.upper()}_LISTEN": f"127.0.0.1:{self.ports[port]}"}
        bus = f"127.0.0.1:{self.ports[0]}"
        line = {"AIMASS_BUS_LISTEN": bus} if service == "registry" else {"AIMASS_BUS_URL": f"grpc://{bus}"}
        database = {f"AIMASS_{service.upper()}_DATABASE_URL": f"sqlite:///{self.home}/{name}.db"}
        known = {"AIMASS_DISCOVERY_URL": self.where, "AIMASS_DRAIN_ACCEPT_SECONDS": "0.5"}
        own = {"AIMASS_WEIGHT": str(self.weights[port - 2])} if service == "inference" else {}
        return known | listen | line | database | own

    async def open(self, name: str, service: str, port: int, **env: str) -> House:
        """A house for one service on a port; `stop` ends it."""
        running = house(self.home, service, **(self.settings(name, service, port) | env))
        self.houses[name] = await running.__aenter__()
        self.ends.push_async_exit(running)
        return self.houses[name]

    def spawn(self, name: str, service: str, port: int) -> subprocess.Popen[bytes]:
        """The same in a process of its own; killed at the end at the latest."""
        paths = os.pathsep.join([str(ROOT), str(ROOT / "sdk")])
        env = {"PATH": os.environ["PATH"], "AIMASS_HOME": str(self.home), "PYTHONPATH": paths}
        command = [sys.executable, "-m", "services", service]
        process = subprocess.Popen(
            command, env=env | self.settings(name, service, port), stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.ends.callback(process.wait)
        self.ends.callback(process.kill)
        return process

    async def stop(self, name: str) -> None:
        """Ends a house as a process that is killed: its connections break, nothing is said."""
        self.killed[name] = self.houses.pop(name)
        process = self.killed[name].process
        for door in process._internal.values():
            await door.close(0)
        await process.runtime.directory.source.close()

    def silence(self, name: str) -> None:
        """A house that was killed hears nothing any more either."""
        for task in self.killed[name].runtime._tasks:
            task.cancel()

    async def gateway(self, name: str, **env: str) -> Serving:
        running = await self.open(name, "gateway", 0, **DOORS, **env)
        await until(running.runtime.ready)
        found = Serving(running)
        found.doors = json.loads((self.home / "doors.json").read_text())
        return found


@contextlib.asynccontextmanager
async def estate(home: Path, redis: str = "", gateways: str = "1") -> AsyncIterator[Estate]:
    found = Estate(home, redis)
    async with found.ends:
        # Where nobody knows which gateways live, it has to be said how many there are.
        await found.open("registry", "registry", 1, AIMASS_REGISTRY_GATEWAYS=gateways)
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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_predictions_survive_a_process_that_is_killed_or_frozen(several: Estate, how: signal.Signals) -> None:
    await several.open("one", "inference", 2)
    process = several.spawn("two", "inference", 3)
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic())
    assert await promoted(owner, 1) == SUCCEEDED
    directory = door.house.runtime.directory
    await until(lambda: sum(member.connected for member in directory._pools["inference"].members) == 2)
    tasks = door.house.runtime.apps["gateway"].tasks
    traffic = next(found for task in tasks if (found := getattr(getattr(task, "__self__", None), "_traffic", None)))
    await until(lambda: len(traffic.having(Scope("default"), "late", 1)) == 2)
    asked = asyncio.ensure_future(answers(door, 800))
    await asyncio.sleep(0.3)
    process.send_signal(how)

    assert await asked == {200: 800}


async def test_predictions_go_by_frames_where_they_are_taken(several: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    await several.open("one", "inference", 2)
    count(several.houses["one"])
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic())
    assert await promoted(owner, 1) == SUCCEEDED
    await answers(door, 8)  # the first ones go over gRPC, until the line is there
    framed = [0]
    call = Line.call

    async def counted(self: Line, *args: Any) -> bytes:
        framed[0] += 1
        return await call(self, *args)

    monkeypatch.setattr(Line, "call", counted)
    before = calls(several.houses["one"])

    assert await answers(door, 40) == {200: 40}
    assert framed[0] == calls(several.houses["one"]) - before > 0


async def test_predictions_survive_an_instance_that_stops_in_good_order(several: Estate) -> None:
    for name, port in (("one", 2), ("two", 3)):
        await several.open(name, "inference", port)
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic())
    assert await promoted(owner, 1) == SUCCEEDED
    asked = asyncio.ensure_future(answers(door, 1200))
    await asyncio.sleep(0.3)
    await several.houses["two"].process.stop()

    assert await asked == {200: 1200}


async def test_an_instance_that_is_started_later_is_used_within_seconds(several: Estate) -> None:
    await several.open("one", "inference", 2)
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic())
    assert await promoted(owner, 1) == SUCCEEDED
    late = await several.open("two", "inference", 3)
    count(late)

    async def used() -> bool:
        assert await answers(door, 20) == {200: 20}
        return calls(late) > 0

    await until(used, 10)


async def test_a_version_serves_when_one_of_two_instances_cannot_load_it(several: Estate) -> None:
    for name, port in (("one", 2), ("two", 3)):
        await several.open(name, "inference", port)
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic(), models.logistic(seed=1))
    assert await promoted(owner, 1) == SUCCEEDED
    break_loading(several.houses["two"])

    assert await promoted(owner, 2) == SUCCEEDED
    assert await versions(door, 40) == {"2"}


async def test_a_version_that_no_instance_can_load_leaves_the_old_one_serving(several: Estate) -> None:
    for name, port in (("one", 2), ("two", 3)):
        await several.open(name, "inference", port)
    door = await several.gateway("gateway")
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic(), models.logistic(seed=1))
    assert await promoted(owner, 1) == SUCCEEDED
    for name in ("one", "two"):
        break_loading(several.houses[name])

    assert await promoted(owner, 2) == operations_pb2.OPERATION_STATE_FAILED
    assert await versions(door, 40) == {"1"}


async def test_an_instance_that_refuses_what_another_answers_is_left_out(several: Estate, tmp_path: Path) -> None:
    file = tmp_path / "calls.toml"
    file.write_text("[ejection.inference]\ninterval = 1.0\ncalls = 10\ninstances = 2\nfactor = 2\ntime = 300\n")
    for name, port in (("one", 2), ("two", 3)):
        await several.open(name, "inference", port)
    door = await several.gateway("gateway", AIMASS_CALLS_FILE=str(file))
    owner = Tenant(several.houses["registry"], "default")
    await owner.add("late", models.logistic())
    assert await promoted(owner, 1) == SUCCEEDED
    pool = door.house.runtime.directory.pool("inference")
    assert pool
    await until(lambda: sum(member.connected for member in pool.members) == 2)
    break_engines(several.houses["two"])

    async def left_out() -> bool:
        await answers(door, 100)
        return bool(pool.ejected)

    await until(left_out)
    [out] = pool.ejected
    assert out.instance.address.endswith(f":{several.ports[3]}")
    count(several.houses["two"])
    assert await answers(door, 100) == {200: 100}
    assert calls(several.houses["two"]) == 0


def break_engines(running: House) -> None:
    """From now on what runs the instance's models is away."""

    async def infer(*_: Any) -> Any:
        raise Unavailable("the model's engine is away")

    inference = running.runtime.apps["inference"].rpc["aimass.v1.Engines"]._inference
    inference.infer = inference.infer_joined = infer


def break_loading(running: House) -> None:
    """From now on the instance loads nothing: its machine has had enough."""

    async def load(*_: Any) -> Any:
        raise FailedPrecondition("no memory")

    api = running.runtime.apps["inference"].rpc["aimass.v1.Engines"]
    api._inference._catalogue._with.loader.load = load


async def versions(door: Serving, times: int) -> set[str]:
    """The versions that answer."""
    async with door.client() as client:
        found = [(await client.post("/v2/models/late/infer", json=ROWS)).json() for _ in range(times)]
    return {answer["model_version"] for answer in found}


@pytest.mark.parametrize("kind", [pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def test_a_promotion_ends_when_both_gateways_have_switched(tmp_path: Path, kind: str) -> None:
    redis, gateways = (address("redis"), "1") if kind == "far" else ("", "2")
    async with estate(tmp_path, redis, gateways) as several:
        await several.open("one", "inference", 2)
        doors = [await several.gateway(name) for name in ("first", "second")]
        owner = Tenant(several.houses["registry"], "default")
        if redis:
            await until(lambda: len(several.houses["registry"].runtime.directory.living("gateway") or ()) == 2)
        await owner.add("late", models.logistic(), models.logistic(seed=1))
        for number in (1, 2, 1, 2):
            assert await promoted(owner, number) == SUCCEEDED
            assert [await versions(door, 2) for door in doors] == [{str(number)}] * 2


@pytest.mark.far
async def test_a_gateway_that_died_is_not_waited_for(tmp_path: Path) -> None:
    async with estate(tmp_path, address("redis")) as several:
        await several.open("one", "inference", 2)
        door = await several.gateway("first")
        await several.gateway("second")
        owner = Tenant(several.houses["registry"], "default")
        await owner.add("late", models.logistic())
        await until(lambda: len(several.houses["registry"].runtime.directory.living("gateway") or ()) == 2)
        await several.stop("second")
        several.silence("second")

        assert await promoted(owner, 1) == SUCCEEDED  # once its lease is over
        assert await versions(door, 2) == {"1"}


@pytest.mark.far
async def test_predictions_and_promotions_go_on_without_redis(tmp_path: Path) -> None:
    address("redis")
    server = make("redis", tmp_path / "redis").start()
    try:
        async with estate(tmp_path / "home", server.address) as several:
            for name, port in (("one", 2), ("two", 3)):
                await several.open(name, "inference", port)
            door = await several.gateway("gateway")
            owner = Tenant(several.houses["registry"], "default")
            await owner.add("late", models.logistic(), models.logistic(seed=1))
            assert await promoted(owner, 1) == SUCCEEDED
            asked = asyncio.ensure_future(answers(door, 400))
            await asyncio.to_thread(server.kill)

            assert await asked == {200: 400}
            assert await promoted(owner, 2) == SUCCEEDED
            await asyncio.sleep(2)
            assert await versions(door, 20) == {"2"}
    finally:
        server.kill()
