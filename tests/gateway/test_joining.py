"""A gateway that begins beside another one, or before it knows any release."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from services.kit.running import Process
from tests.gateway.conftest import FAST, gateway_at
from tests.support.house import until
from tests.support.server import free_ports

KEY = "aim_joining1_" + "x" * 43
ASKED = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}


def nobody() -> str:
    """Places where a registry and an inference instance should be and are not."""
    registry, inference = free_ports(2)
    return f"static:registry=127.0.0.1:{registry},inference=127.0.0.1:{inference}"


def shared() -> dict[str, str]:
    """What gateways on one pair of ports are told."""
    http, grpc = free_ports(2)
    return FAST | {
        "AIMASS_GATEWAY_HTTP_PORT": str(http),
        "AIMASS_GATEWAY_GRPC_PORT": str(grpc),
        "AIMASS_GATEWAY_REUSE_PORT": "true",
        "AIMASS_GATEWAY_PEPPER": "A" * 43 + "=",
        "AIMASS_GATEWAY_ADMIN_KEY": KEY,
    }


async def test_a_model_that_is_not_known_yet_is_unavailable_and_not_missing(tmp_path: Path) -> None:
    async with gateway_at(tmp_path, AIMASS_DISCOVERY_URL=nobody()) as gateway, gateway.client() as client:
        answer = await client.post("/v2/models/late/infer", json=ASKED)

        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"


async def test_a_gateway_alone_opens_without_a_registry(tmp_path: Path) -> None:
    env = shared() | {"AIMASS_DISCOVERY_URL": nobody()}
    async with gateway_at(tmp_path, **env) as gateway, gateway.client(KEY) as client:
        assert (await client.get("/v1/whoami")).status_code == 200


def waiting(home: Path, env: dict[str, str]) -> tuple[Process, "asyncio.Task[None]"]:
    """A gateway that begins and has no registry."""
    settings: Any = {"AIMASS_HOME": str(home), **env, "AIMASS_DISCOVERY_URL": nobody()}
    process = Process(["gateway"], settings)
    return process, asyncio.create_task(process.start())


async def test_beside_another_gateway_one_that_knows_no_release_takes_no_connections(tmp_path: Path) -> None:
    env, second = shared(), tmp_path / "second"
    async with contextlib.AsyncExitStack() as ends:
        first = await ends.enter_async_context(gateway_at(tmp_path / "first", **env))
        process, starting = waiting(second, env)
        ends.push_async_callback(process.stop)
        await until((second / "gateway.db").exists)
        await asyncio.sleep(0.5)
        assert not (second / "doors.json").exists()

        await first.house.process.stop()
        await until((second / "doors.json").exists, 5)  # now nobody else would answer
        await starting


async def test_one_that_waits_beside_another_ends_at_once_when_it_is_told_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env, second = shared(), tmp_path / "second"
    async with gateway_at(tmp_path / "first", **env):
        process, starting = waiting(second, env)
        await until((second / "gateway.db").exists)
        caplog.clear()
        process.runtime.draining = True

        async with asyncio.timeout(5):
            await starting
        assert not (second / "doors.json").exists()
        assert "gateway ready" not in caplog.text
        await process.stop()
