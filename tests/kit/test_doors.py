"""Doors of a process, and what a process gives its services."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from services.kit.app import App, Runtime
from services.kit.auth import Identity, Principal, Scope
from services.kit.channels import RemoteChannel
from services.kit.config import ConfigError
from services.kit.errors import Failure
from services.kit.grpc_door import GrpcDoor
from services.kit.local import LocalChannel
from services.kit.running import Process
from tests.kit.test_running import run, started
from tests.support.house import until


@pytest.fixture
async def runtime(tmp_path: Path) -> Any:
    made = Runtime(("registry",), {"AIMASS_HOME": str(tmp_path / "home"), "AIMASS_LOG_LEVEL": "DEBUG"})
    yield made
    await made.stop_tasks()
    await made.telemetry.close()
    await made.bus.close()
    made.blobs.close()
    made.identity.close()


async def test_a_port_has_one_door(free_port: int) -> None:
    first, second = GrpcDoor(f"127.0.0.1:{free_port}", {}), GrpcDoor(f"127.0.0.1:{free_port}", {})
    await first.open()
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{free_port}"):
        await second.open()
    await second.close(0)
    await first.close(0)


async def test_a_door_that_closed_leaves_its_port_to_the_next(free_port: int) -> None:
    for _ in range(3):
        door = GrpcDoor(f"127.0.0.1:{free_port}", {})
        await door.open()
        await door.close(0)


async def test_a_door_may_be_closed_before_and_twice(free_port: int) -> None:
    door = GrpcDoor(f"127.0.0.1:{free_port}", {})
    await door.close(0)
    await door.open()
    await door.close(0)
    await door.close(0)


async def test_a_port_of_another_program_is_said_to_be_so() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="another program does"):
            await GrpcDoor(f"127.0.0.1:{other.getsockname()[1]}", {}).open()


@pytest.mark.parametrize("address", ["203.0.113.7:9101", "not an address", "127.0.0.1:notaport"])
async def test_an_address_that_is_not_ours_is_said_to_be_so(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        await GrpcDoor(address, {}).open()


async def test_a_method_that_nobody_offers_is_said_so_at_the_door(free_port: int) -> None:
    door = GrpcDoor(f"127.0.0.1:{free_port}", {})
    await door.open()
    remote = RemoteChannel(f"127.0.0.1:{free_port}", "data")
    with pytest.raises(Failure, match="data has no such method"):
        await remote.unary_unary("/aimass.v1.Models/GetModel", bytes, bytes)(b"")
    await remote.close()
    await door.close(0)


def test_two_processes_do_not_share_a_port(tmp_path: Path, free_port: int) -> None:
    listen = {"AIMASS_REGISTRY_LISTEN": f"127.0.0.1:{free_port}"}
    with started(tmp_path / "one", "registry", **listen):
        second = run(tmp_path / "two", "registry", **listen)

    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{free_port}" in second.stderr
    assert "Traceback" not in second.stderr


async def test_a_task_that_fails_is_logged_and_stops_nothing(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise KeyError("lost")

    done = asyncio.Event()

    async def work() -> None:
        done.set()

    with caplog.at_level(logging.ERROR):
        failed = runtime.spawn(fail())
        runtime.spawn(work())
        await asyncio.wait([failed])
        await done.wait()
        await until(lambda: [r for r in caplog.records if r.message.endswith(".fail failed")])


async def test_a_process_is_ready_when_all_its_services_are_and_it_is_not_stopping(runtime: Runtime) -> None:
    state = {"data": True, "logs": False}
    runtime.apps = {name: App(ready=lambda name=name: state[name]) for name in state}  # type: ignore[misc]
    assert not runtime.ready()
    state["logs"] = True
    assert runtime.ready()
    runtime.draining = True
    assert not runtime.ready()


async def test_a_call_carries_a_token_for_its_audience_only(runtime: Runtime) -> None:
    principal = Principal(Scope("acme"), "key:a", ("models.get",))
    metadata = dict(runtime.metadata("data", principal, "r-1"))
    token = metadata["authorization"].removeprefix("Bearer ")

    assert metadata["x-request-id"] == "r-1"
    assert runtime.identity.verify(token, "data") == principal
    with pytest.raises(Failure):
        runtime.identity.verify(token, "registry")
    assert "x-request-id" not in dict(runtime.metadata("data", principal))


async def test_a_service_calls_in_its_own_name_for_one_tenant(runtime: Runtime) -> None:
    metadata = dict(runtime.as_service("trainer", "data", Scope("acme", "lab"), "data_sets.locate"))
    seen = runtime.identity.verify(metadata["authorization"].removeprefix("Bearer "), "data")

    assert seen == Principal(Scope("acme", "lab"), "service:trainer", ("data_sets.locate",))


async def test_a_service_here_is_reached_without_a_socket_and_another_is_not_reached(runtime: Runtime) -> None:
    assert isinstance(runtime.channel("registry"), LocalChannel)
    with pytest.raises(ConfigError, match="must name data"):
        runtime.channel("data")


async def test_two_processes_have_two_names(tmp_path: Path) -> None:
    names = [Identity(f"registry-{n}", tmp_path).name for n in range(2)]

    assert sorted(path.stem for path in tmp_path.glob("*.pub")) == names


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"AIMASS_HOEM": "x"}, "unknown settings: AIMASS_HOEM"),
        ({"AIMASS_A": "1", "AIMASS_B": "2"}, "unknown settings: AIMASS_A, AIMASS_B"),
        ({"AIMASS_DRAIN_SECONDS": "soon"}, "AIMASS_DRAIN_SECONDS"),
        ({"AIMASS_DISCOVERY_URL": "dns:x"}, "AIMASS_DISCOVERY_URL"),
    ],
)
def test_a_process_is_not_made_of_settings_that_cannot_be(tmp_path: Path, env: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Process(("registry",), {"AIMASS_HOME": str(tmp_path), **env})
