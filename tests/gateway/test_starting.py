"""When a gateway that has begun says that it is ready: not before what serves can answer, and not much later."""

import asyncio
from pathlib import Path

import pytest

from aimass.v1 import engines_pb2
from services.gateway.traffic import api
from tests.gateway.peers import FAILED, LOADING, READY, SERVING, Peers, peers, release, scattered
from tests.gateway.serving import serving
from tests.support.house import until
from tests.support.models import logistic

SAID = [release("late", 1, SERVING, 1, 1)]


async def begun(running: Peers) -> None:
    """The first snapshot is there."""
    await until(lambda: running.traffic.whole)


async def test_who_predicts_with_a_restarted_house_that_is_ready_gets_an_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as before:
        await before.serve("late", logistic(4, 1))
    asked = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}

    async with serving(tmp_path) as again:
        await until(again.house.runtime.ready)
        answer = await again.post("/v2/models/late/infer", asked)

    assert (answer.status_code, answer.json()["model_version"]) == (200, "1")


async def test_a_gateway_is_ready_when_what_serves_is_loaded(tmp_path: Path) -> None:
    async with peers(tmp_path, releases=SAID) as running:
        await begun(running)
        assert not running.api.ready()
        await running.say_engine("late", 1, READY)

        await until(running.api.ready)
        await running.say_engine("late", 1, engines_pb2.ENGINE_STATE_LOADING)
        await asyncio.sleep(0.1)
        assert running.api.ready()


async def test_what_the_bus_does_not_tell_is_found_soon(tmp_path: Path) -> None:
    async with peers(tmp_path, releases=SAID) as running:
        await begun(running)
        running.inference.loaded.add(("acme", "late", 1))

        await until(running.api.ready, 3)


@pytest.mark.parametrize("heard", [True, False], ids=["as the bus tells", "as the instance says"])
async def test_what_could_not_be_loaded_is_not_waited_for(tmp_path: Path, heard: bool) -> None:
    async with peers(tmp_path, releases=SAID) as running:
        await begun(running)
        assert not running.api.ready()
        if heard:
            await running.say_engine("late", 1, FAILED)
        else:
            running.inference.failed.add(("acme", "late", 1))

        await until(running.api.ready, 5)


@pytest.mark.parametrize("heard", [True, False], ids=["as the bus tells", "as the instance says"])
async def test_what_one_instance_could_not_load_is_waited_for_while_another_may(tmp_path: Path, heard: bool) -> None:
    late = ("acme", "late", 1)
    async with scattered(tmp_path, releases=SAID) as (running, [slow, broken]):
        await begun(running)
        if heard:
            await running.say_engine("late", 1, FAILED)  # of the second one
        else:
            broken.failed.add(late)
        await asyncio.sleep(2)
        assert not running.api.ready()
        slow.loaded.add(late)

        await until(running.api.ready, 5)


async def test_what_no_instance_could_load_is_not_waited_for(tmp_path: Path) -> None:
    async with scattered(tmp_path, releases=SAID) as (running, instances):
        await begun(running)
        for one in instances:
            one.failed.add(("acme", "late", 1))

        await until(running.api.ready, 5)


async def test_what_takes_long_to_load_is_not_waited_for_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_PATIENCE", 0.2)
    async with peers(tmp_path, releases=SAID) as running:
        await until(running.api.ready, 5)


@pytest.mark.parametrize(
    "said", [release("late", 1, LOADING, 1), release("late", 2, LOADING, 2, 1)], ids=["the first", "the next"]
)
async def test_what_is_to_serve_is_not_waited_for(tmp_path: Path, said: object) -> None:
    async with peers(tmp_path, ("acme", "late", 1), releases=[said]) as running:  # type: ignore[list-item]
        await begun(running)

        assert running.api.ready()
