"""What is known of how long calls take, and what a server does with a call that comes too late."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aimass.v1 import models_pb2
from services.kit.auth import Identity, Principal, Scope
from services.kit.errors import DeadlineExceeded
from services.kit.rpc import guard
from services.kit.tempo import Tempo
from tests.gateway.echo import Echo


class Clock:
    """Time that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_few_calls_say_nothing() -> None:
    tempo = Tempo(Clock())
    for _ in range(7):
        tempo.took(1.0)

    assert not tempo.hopeless(0.1)


def test_half_of_the_calls_decide() -> None:
    tempo = Tempo(Clock())
    for seconds in (0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5, 9.0):
        tempo.took(seconds)

    assert tempo.median == 0.5
    assert tempo.hopeless(0.49)
    assert not tempo.hopeless(0.5)


def test_what_is_old_says_nothing() -> None:
    clock = Clock()
    tempo = Tempo(clock)
    for _ in range(8):
        tempo.took(1.0)
    clock.now += 1.0

    assert not tempo.hopeless(0.1)


def test_only_the_last_calls_count() -> None:
    tempo = Tempo(Clock())
    for _ in range(64):
        tempo.took(1.0)
    for _ in range(64):
        tempo.took(0.01)

    assert tempo.median == 0.01


async def test_a_server_refuses_at_once_what_most_calls_take_longer_for(tmp_path: Path) -> None:
    class Slow(Echo):
        """Takes a while."""

        async def GetModel(self, request: models_pb2.GetModelRequest, call: object) -> models_pb2.Model:
            await asyncio.sleep(0.05)
            return models_pb2.Model()

    identity = Identity("gateway", tmp_path)
    servicers = {"aimass.v1.Models": Slow("aimass.v1.Models")}
    guarded = guard(servicers, identity, "registry", lambda: datetime.now(UTC), None)
    method = guarded["/aimass.v1.Models/GetModel"]
    token = identity.token("registry", Principal(Scope("acme"), "service:gateway", ("*",)))
    metadata = {"authorization": f"Bearer {token}"}
    request = models_pb2.GetModelRequest(model="late")
    for _ in range(8):
        await method.unary(request, metadata, 5.0)

    with pytest.raises(DeadlineExceeded, match="longer than the time that is left"):
        method.timely(0.02)
    method.timely(None)
    await method.unary(request, metadata, 5.0)
