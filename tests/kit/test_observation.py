"""Figures and health of a process, as an operator's tools ask for them."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from services.kit.config import ConfigError, Installation, load
from services.kit.observation import ObservationDoor
from services.kit.probe import probe
from services.kit.telemetry import REGISTRY
from tests.support.house import house
from tests.support.server import free_ports


@dataclass
class Watched:
    port: int
    started: bool = True
    ready: bool = True


@pytest.fixture
async def watched(free_port: int) -> AsyncIterator[Watched]:
    process = Watched(free_port)
    door = ObservationDoor(f"127.0.0.1:{free_port}", lambda: process.started, lambda: process.ready)
    await door.open()
    yield process
    await door.close(0)


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize("path", ["/health/live", "/health/started", "/health/ready"])
async def test_a_process_that_runs_says_so(watched: Watched, path: str) -> None:
    assert (await ask(watched.port, get(path))).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_requests_go_on_while_figures_are_written(watched: Watched) -> None:
    class Slow(Collector):
        """Waits for the event loop to turn, as one would that has many figures."""

        turned = False
        begun, turn = threading.Event(), threading.Event()

        def collect(self) -> Iterable[Metric]:
            self.begun.set()
            self.turned = self.turn.wait(2)
            return []

    slow = Slow()
    REGISTRY.register(slow)
    try:
        asked = asyncio.create_task(ask(watched.port, get("/metrics")))
        while not slow.begun.is_set():
            await asyncio.sleep(0.001)
        slow.turn.set()
        assert (await asked).startswith(b"HTTP/1.1 200 OK\r\n")
    finally:
        REGISTRY.unregister(slow)

    assert slow.turned


async def test_one_that_stops_lives_but_is_not_ready(watched: Watched) -> None:
    watched.ready = False

    assert b" 200 " in await ask(watched.port, get("/health/live"))
    assert (await ask(watched.port, get("/health/ready"))).startswith(b"HTTP/1.1 503 ")


async def test_one_that_starts_says_that_it_has_not_started(watched: Watched) -> None:
    watched.started = False

    assert (await ask(watched.port, get("/health/started"))).startswith(b"HTTP/1.1 503 ")


async def test_figures_come_in_the_format_of_prometheus(watched: Watched) -> None:
    answer = await ask(watched.port, get("/metrics?name=x"))

    assert b"Content-Type: text/plain; version=0.0.4" in answer
    assert b"\n# TYPE " in answer
    assert b"process_cpu_seconds_total" in answer


async def test_a_head_has_the_length_and_no_body(watched: Watched) -> None:
    head, _, body = (await ask(watched.port, get("/health/live", "HEAD"))).partition(b"\r\n\r\n")

    assert b"Content-Length: 4" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/health/live", "POST"), 405),
        (get("/secrets"), 404),
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 400),
    ],
)
async def test_what_is_no_question_is_refused(watched: Watched, request_bytes: bytes, status: int) -> None:
    assert (await ask(watched.port, request_bytes)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_one_who_goes_in_the_middle_of_a_question_harms_nobody(watched: Watched) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", watched.port)
    writer.write(b"GET /met")
    writer.transport.abort()

    assert b" 200 " in await ask(watched.port, get("/health/live"))


@pytest.mark.parametrize("address", ["9400", "localhost:", ":9400", "localhost:http", "localhost:1-x", "localhost:-9"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="AIMASS_OBSERVE_LISTEN: must be host:port or host:first-last"):
        load(Installation, {"AIMASS_OBSERVE_LISTEN": address})


async def test_a_port_that_is_taken_stops_the_start(watched: Watched) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        await ObservationDoor(f"127.0.0.1:{watched.port}", bool, bool).open()


async def test_a_range_without_a_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="AIMASS_OBSERVE_LISTEN"):
        await ObservationDoor("127.0.0.1:9-8", bool, bool).open()


async def test_processes_that_share_an_address_each_take_a_port_of_the_range(watched: Watched) -> None:
    second = ObservationDoor(f"127.0.0.1:{watched.port}-{watched.port + 20}", bool, bool)
    await second.open()

    host, _, port = second.address.rpartition(":")
    assert host == "127.0.0.1"
    assert watched.port < int(port) <= watched.port + 20
    assert (await ask(int(port), get("/health/ready"))).startswith(b"HTTP/1.1 503 ")
    await second.close(0)


async def test_the_home_folder_says_where_its_process_is_observed(tmp_path: Path, free_port: int) -> None:
    async with house(tmp_path, "registry", AIMASS_OBSERVE_LISTEN=f"127.0.0.1:{free_port}-{free_port}"):
        assert await asyncio.to_thread(probe, f"{tmp_path}/observed")

    assert not probe(f"{tmp_path}/observed")
    assert not probe(f"{tmp_path}/nothing")


async def test_a_process_is_observed_from_its_start_to_its_end(tmp_path: Path, free_port: int) -> None:
    async with house(tmp_path, "registry", AIMASS_OBSERVE_LISTEN=f"127.0.0.1:{free_port}"):
        assert b" 200 " in await ask(free_port, get("/health/ready"))
        assert await asyncio.to_thread(probe, f"127.0.0.1:{free_port}")

    with pytest.raises(ConnectionError):
        await ask(free_port, get("/health/live"))


def test_the_probe_of_nobody_fails_soon() -> None:
    (port,) = free_ports(1)
    began = time.monotonic()

    ended = subprocess.run([sys.executable, "-m", "services", "--probe", f"127.0.0.1:{port}"], check=False)

    assert ended.returncode == 1
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["", "nowhere", "127.0.0.1:x"])
def test_the_probe_of_what_is_no_address_fails(address: str) -> None:
    assert not probe(address)


async def test_a_start_that_fails_leaves_no_address_of_the_process_before(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "observed").write_text("0.0.0.0:9464\n")
    door = ObservationDoor(f"127.0.0.1:{free_port}", lambda: True, lambda: True)
    await door.open()
    with pytest.raises(ConfigError, match="cannot listen on"):
        async with house(tmp_path, "registry", AIMASS_OBSERVE_LISTEN=f"127.0.0.1:{free_port}"):
            pass
    await door.close(0)

    assert not (tmp_path / "observed").exists()
