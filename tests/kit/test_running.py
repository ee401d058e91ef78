"""A process of services, as an operator starts and stops it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from aimass.v1.models_pb2 import ListModelsRequest
from aimass.v1.models_pb2_grpc import ModelsStub
from aimass.v1.registry_events_pb2 import ReleaseChanged
from aimass.v1.trainer_events_pb2 import JobChanged
from deploy.authority import Authority
from services import SERVICES
from services.kit import tasks
from services.kit.auth import Scope
from services.kit.bus import Event, NearBus, NearReader
from services.kit.errors import Forbidden
from services.kit.event import TELEMETRY
from services.kit.grpc_door import GrpcDoor
from tests.support.certificates import certify
from tests.support.house import house, until
from tests.support.prepared import prepare

ROOT = Path(__file__).parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIMASS_")}
    return kept | {"AIMASS_HOME": str(home), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'sdk'}", **more}


def run(home: Path, *names: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services", *names]
    return subprocess.run(
        command, env=environment(home, **env), capture_output=True, text=True, timeout=30, check=False
    )


@contextlib.contextmanager
def started(home: Path, *names: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "services", *names]
    process = subprocess.Popen(command, env=environment(home, **env), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        log = home / "logs" / f"{'-'.join(names)}.log"
        while not (log.exists() and "ready" in log.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("names", "env", "says"),
    [
        (["registrar"], {}, "no such service: registrar"),
        (["registry"], {"AIMASS_REGISTRY_LISTN": "x"}, "unknown settings: AIMASS_REGISTRY_LISTN"),
        (["registry"], {"AIMASS_DATA_LISTN": "x"}, "unknown settings: AIMASS_DATA_LISTN"),
        (["registry"], {"AIMASS_DRAIN_SECONDS": "soon"}, "AIMASS_DRAIN_SECONDS"),
        (["registry"], {"AIMASS_DISCOVERY_URL": "magic:"}, "AIMASS_DISCOVERY_URL"),
    ],
)
def test_settings_that_cannot_be_stop_the_start(
    tmp_path: Path, names: list[str], env: dict[str, str], says: str
) -> None:
    ended = run(tmp_path, *names, **env)

    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_that_is_in_use_is_said_so(tmp_path: Path) -> None:
    with started(tmp_path, "registry"):
        second = run(tmp_path, "registry")

    assert second.returncode == 1
    assert "is in use by another process" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path: Path, sign: signal.Signals) -> None:
    with started(tmp_path, "registry") as process:
        process.send_signal(sign)
        assert process.wait(15) == 0

    assert not list((tmp_path / "keys").glob("registry-*.pub")), "its key is believed no more"


def test_what_it_keeps_is_the_owners_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with started(home, "registry"):
        assert home.stat().st_mode & 0o077 == 0
        assert (home / "keys").stat().st_mode & 0o077 == 0


def test_it_starts_again_after_a_kill(tmp_path: Path) -> None:
    with started(tmp_path, "registry") as process:
        process.kill()
        process.wait()
    (tmp_path / "logs" / "registry.log").unlink()

    with started(tmp_path, "registry"):
        pass


def test_a_start_says_where_it_is_and_where_the_key_lies(tmp_path: Path) -> None:
    env = {"AIMASS_GATEWAY_HTTP_PORT": "0", "AIMASS_GATEWAY_GRPC_PORT": "0"}
    env |= {"AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0", "AIMASS_GATEWAY_DRAIN_SILENT_SECONDS": "0"}
    prepare(tmp_path, *SERVICES, "bus")
    command = [sys.executable, "-m", "services"]
    with subprocess.Popen(command, env=environment(tmp_path, **env), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()

    assert str(tmp_path / "admin-key") in lines[0]
    assert "open at http://127.0.0.1:" in lines[1]
    assert "ready" in lines[2]
    assert (tmp_path / "admin-key").read_text().strip() not in "".join(lines)


async def test_a_process_that_stops_is_announced_no_more_before_its_doors_close(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, close = list[str](), GrpcDoor.close

    async def closing(door: GrpcDoor, grace: float) -> None:
        order.append("closed")
        await close(door, grace)

    async def withdraw() -> None:
        order.append("withdrawn")

    monkeypatch.setattr(GrpcDoor, "close", closing)
    async with house(tmp_path, "registry", AIMASS_REGISTRY_LISTEN=f"127.0.0.1:{free_port}") as running:
        monkeypatch.setattr(running.runtime.directory.source, "withdraw", withdraw)

    assert order == ["withdrawn", "closed"]


@pytest.mark.parametrize("topic", ["aimass.registry.v1", TELEMETRY])
async def test_what_is_cancelled_within_the_bus_ends_no_publishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    """As a library may do with what is waited for: nobody has cancelled the task itself."""
    left, publish = [1, 1], NearBus.publish

    async def cancelled(bus: NearBus, events: Sequence[Event]) -> None:
        if left and topic in {event.topic for event in events}:
            left.pop()
            raise asyncio.CancelledError
        await publish(bus, events)

    monkeypatch.setattr(tasks, "_FIRST", 0.01)
    monkeypatch.setattr(NearBus, "publish", cancelled)
    async with house(tmp_path, "registry") as running:
        reader = await running.runtime.bus.reader([topic], "test", from_end=True)
        app, told = running.runtime.apps["registry"], ReleaseChanged(generation=7)
        assert app.schema
        assert app.database
        event = Event.of(told, Scope("acme"), "models", "late", "test", running.runtime.now())
        await app.database.run(partial(app.schema.outbox.add, events=[event]))
        async with asyncio.timeout(20):
            while left or not await reader.poll(10):
                await asyncio.sleep(0.05)


async def test_what_is_cancelled_within_the_bus_ends_no_consuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, poll = [1, 1], NearReader.poll

    async def cancelled(reader: NearReader, limit: int) -> list[Event]:
        if left:
            left.pop()
            raise asyncio.CancelledError
        return await poll(reader, limit)

    monkeypatch.setattr(tasks, "_FIRST", 0.01)
    monkeypatch.setattr(NearReader, "poll", cancelled)
    async with house(tmp_path, "registry") as running:
        await until(lambda: not left)
        await running.publish(JobChanged(), "jobs", "j")

        async def read() -> bool:
            lag = await running.runtime.bus.lag()
            return {lag[group] for group in lag if group.startswith("registry")} == {0}

        await until(read)


def test_a_setting_that_needs_a_missing_package_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError('as if it were not there', name='redis')")
    path = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "sdk")))
    ended = run(tmp_path / "home", "registry", AIMASS_CACHE_URL="redis://127.0.0.1:1/0", PYTHONPATH=path)

    assert ended.returncode == 2
    assert "the package redis, which is not installed: pip install 'aimass-server[far]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("service", ["gateway", "registry"])
def test_a_start_loads_nothing_that_no_request_waits_for(service: str, tmp_path: Path) -> None:
    env = {"AIMASS_HOME": str(tmp_path), "AIMASS_BUS_URL": "kafka://127.0.0.1:1"}
    compose = (
        f"import sys; from services.kit.running import Process; Process([{service!r}], {env}); print(*sys.modules)"
    )
    command = [sys.executable, "-c", compose]
    made = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=True)
    loaded = set(made.stdout.split())

    assert f"services.{service}.app" in loaded
    assert not {"kafka", "fastapi", "alembic", "pydantic_settings", "services.data.config"} & loaded
    assert not {"services.gateway.issuers.table", "services.kit.egress", "services.kit.privacy.names"} & loaded


def test_a_certificate_for_another_service_stops_the_start(tmp_path: Path, free_port: int) -> None:
    tls = certify(tmp_path / "tls", Authority.new(), "trainer")
    listen = f"127.0.0.1:{free_port}"
    ended = run(tmp_path / "home", "registry", AIMASS_TLS_DIR=str(tls), AIMASS_REGISTRY_LISTEN=listen)

    assert ended.returncode == 2
    assert "AIMASS_TLS_DIR: the certificate is not for registry" in ended.stderr


async def test_processes_with_certificates_and_a_folder_of_keys_serve_together(tmp_path: Path, free_port: int) -> None:
    authority, listen = Authority.new(), f"127.0.0.1:{free_port}"

    def settings(name: str) -> dict[str, str]:
        return {
            "AIMASS_TLS_DIR": str(certify(tmp_path / f"{name}-tls", authority, name)),
            "AIMASS_KEYS_DIR": str(tmp_path / "keys"),
        }

    where = {"AIMASS_DISCOVERY_URL": f"static:registry={listen}"}
    ports = {"AIMASS_GATEWAY_HTTP_PORT": "0", "AIMASS_GATEWAY_GRPC_PORT": "0"}
    with started(tmp_path / "registry", "registry", AIMASS_REGISTRY_LISTEN=listen, **settings("registry")):
        async with house(tmp_path / "gateway", "gateway", **where, **ports, **settings("gateway")) as here:
            stub = here.stub(ModelsStub, "registry")
            assert not (await stub.ListModels(ListModelsRequest())).models
        async with house(tmp_path / "logs", "logs", **where, **settings("logs")) as here:
            stub = here.stub(ModelsStub, "registry")
            with pytest.raises(Forbidden, match="the certificate is not that of gateway"):
                await stub.ListModels(ListModelsRequest())
