"""Health of internal doors, as gRPC's own tools ask for it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.grpc_door import GrpcDoor
from tests.support.house import house

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Asked:
    stub: Any
    door: GrpcDoor
    answers: dict[str, bool] = field(default_factory=lambda: {"ready": True})

    async def check(self, name: str = "") -> Any:
        return (await self.stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)).status


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    answers = {"ready": True}
    door = GrpcDoor("127.0.0.1:0", {}, ready=lambda: answers["ready"])
    await door.open()
    async with aio.insecure_channel(door.address) as channel:
        yield Asked(health_pb2_grpc.HealthStub(channel), door, answers)
    await door.close(0)


async def test_a_door_serves_while_its_service_can_answer(asked: Asked) -> None:
    assert await asked.check() == SERVING

    asked.answers["ready"] = False
    assert await asked.check() == NOT_SERVING


async def test_a_service_that_is_not_here_is_not_found(asked: Asked) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await asked.check("aimass.v1.Nothing")

    assert caught.value.code() is StatusCode.NOT_FOUND


async def test_who_watches_is_told_of_a_change(asked: Asked) -> None:
    watch = asked.stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert (await watch.read()).status == SERVING
    asked.answers["ready"] = False

    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()


async def test_who_watches_does_not_keep_a_door_open(asked: Asked) -> None:
    watch = asked.stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
    await watch.read()
    async with asyncio.timeout(10):
        await asked.door.close(30)


async def test_every_service_of_an_internal_door_is_named(tmp_path: Path, free_port: int) -> None:
    async with (
        house(tmp_path, "registry", AIMASS_REGISTRY_LISTEN=f"127.0.0.1:{free_port}") as running,
        aio.insecure_channel(f"127.0.0.1:{free_port}") as channel,
    ):
        asked = Asked(health_pb2_grpc.HealthStub(channel), running.process._internal["registry"])
        assert await asked.check("aimass.v1.Models") == SERVING
        running.runtime.draining = True
        assert await asked.check("aimass.v1.Models") == NOT_SERVING
