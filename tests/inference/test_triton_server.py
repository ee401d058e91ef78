"""What a Triton server may do wrong, on one that speaks its protocol: versions stay, and callers are told the truth."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy
import pytest

from services.inference.domain.batches import Item
from services.inference.domain.engines import Released
from services.inference.engine_triton import TritonServer
from services.inference.triton.loading import TritonLoader
from services.inference.triton.needs import Needs
from services.inference.triton.version import TritonVersion
from services.inference.wire import signature_from_wire
from services.kit.cache import NearCache
from services.kit.digests import digest_of
from services.kit.errors import DeadlineExceeded, Failure, Unavailable
from services.kit.tensors import Tensor
from tests.support import models
from tests.support.house import until
from tests.support.tritons import Instead, Triton

NAME = "acme.default.late.1"
LOOKUP = models.lookup()


@pytest.fixture
async def triton() -> AsyncIterator[Triton]:
    made = await Triton().start()
    yield made
    await made.stop()


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.inference.triton.loading._LOOK", 0.01)


@pytest.fixture
def quick_sweeps(monkeypatch: pytest.MonkeyPatch, quick_looks: None) -> None:
    """What the server has is compared with what it should have at every few looks."""
    monkeypatch.setattr("services.inference.triton.loading._COMPARE", 0.02)


@contextlib.asynccontextmanager
async def instance(triton: Triton, watched: bool = False) -> AsyncIterator[TritonLoader]:
    loader = TritonLoader(TritonServer(f"triton://{triton.address}"), 256, Needs(NearCache(), "triton", "i-1"))
    watching = asyncio.ensure_future(loader.watch()) if watched else None
    yield loader
    if watching:
        watching.cancel()
    await loader.close()


async def load(loader: TritonLoader, data: bytes = LOOKUP, name: str = NAME) -> TritonVersion:
    async def read() -> bytes:
        return data

    return await loader.load(name, Released(1, digest_of(data), signature_from_wire(models.signature(data))), read)


def i(*indexes: int, seconds: float = 5) -> Item:
    tensor = Tensor("i", "INT64", (len(indexes),), numpy.array(indexes, "<i8").tobytes())
    return Item("r", time.monotonic() + seconds, [tensor])


def x() -> Item:
    return Item("r", time.monotonic() + 5, [Tensor("x", "FP32", (1, 1), bytes(4))])


async def codes(version: TritonVersion, *items: Item) -> list[str]:
    try:
        answers = await version.infer(items)
    except Failure as failure:
        return [failure.code.text]
    return [answer.code.text if isinstance(answer, Failure) else "ok" for answer in answers]


def says(code: grpc.StatusCode, text: str, times: int = 1000) -> Instead:
    """Ends that many calls with a status."""
    left = [times]

    async def instead(request: Any, context: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            await context.abort(code, text)

    return instead


async def hangs(request: Any, context: Any) -> None:
    await asyncio.sleep(60)


async def test_what_the_back_end_for_graphs_refuses_is_its_requests_alone(triton: Triton) -> None:
    async with instance(triton) as loader:
        version = await load(loader)
        assert triton.backend(NAME) == "onnxruntime"
        for _ in range(6):  # more than open the breaker
            assert await codes(version, i(77)) == ["invalid_value"]

        assert await codes(version, i(1), i(77)) == ["ok", "invalid_value"]


async def test_what_cannot_be_tried_on_the_back_end_for_graphs_runs_on_the_other(triton: Triton) -> None:
    async def instead(request: Any, context: Any) -> None:
        if triton.backend(request.model_name) == "onnxruntime":
            await context.abort(grpc.StatusCode.INTERNAL, "out of order")

    triton.instead["ModelInfer"] = instead
    async with instance(triton) as loader:
        assert await codes(await load(loader), i(1)) == ["ok"]
        assert triton.backend(NAME) == "python"


@pytest.mark.parametrize("name", ["Stub process", "not ready", "unknown model"])
async def test_names_that_a_graph_gives_its_nodes_bring_nothing_back(triton: Triton, name: str) -> None:
    async with instance(triton) as loader:
        version = await load(loader)
        pushed = triton.asked.count("RepositoryModelLoad")
        for code, begin in (
            (grpc.StatusCode.INTERNAL, "onnx runtime error 2: "),
            (grpc.StatusCode.INVALID_ARGUMENT, ""),
        ):
            triton.instead["ModelInfer"] = says(code, f"{begin}Non-zero status code. Name:'{name}'")
            assert await codes(version, i(77)) == ["invalid_value"]

        assert triton.asked.count("RepositoryModelLoad") == pushed


async def test_what_the_server_has_lost_is_brought_back_by_the_call_that_misses_it(triton: Triton) -> None:
    async with instance(triton) as loader:
        version = await load(loader)
        await loader._server.unload(NAME)

        assert await codes(version, i(1)) == ["ok"]


@pytest.mark.parametrize("method", ["ModelReady", "ModelConfig", "RepositoryModelLoad"])
async def test_a_server_that_stops_while_a_version_is_loaded_may_be_asked_again(triton: Triton, method: str) -> None:
    async with instance(triton) as loader:
        if method == "ModelConfig":
            await load(loader)
        triton.instead[method] = says(grpc.StatusCode.UNAVAILABLE, "Server is not ready", times=2)
        with contextlib.suppress(Unavailable):
            await load(loader)

        assert await codes(await load(loader), i(1)) == ["ok"]


async def test_a_server_that_is_too_busy_to_say_what_it_has_may_be_asked_again(
    triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.engine_triton._ASK", 0.05)
    triton.instead["ModelReady"] = hangs
    async with instance(triton) as loader:
        with pytest.raises(Unavailable):
            await load(loader)


@pytest.mark.parametrize(("alive", "code"), [(True, "deadline_exceeded"), (False, "unavailable")])
async def test_time_that_is_over_is_the_graphs_fault_only_if_the_server_has_time_for_others(
    triton: Triton, monkeypatch: pytest.MonkeyPatch, alive: bool, code: str
) -> None:
    monkeypatch.setattr("services.inference.engine_triton._LOAD", 0.05)
    monkeypatch.setattr("services.inference.triton.loading._PATIENCE", 0.2)
    triton.instead["RepositoryModelLoad"] = hangs
    if not alive:
        triton.instead["ServerLive"] = hangs
    async with instance(triton) as loader:
        with pytest.raises(Failure) as failed:
            await load(loader)

    assert failed.value.code.text == code


@pytest.mark.usefixtures("quick_looks")
async def test_a_server_that_is_late_to_say_that_it_lives_is_there_while_it_answers_others(
    triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.triton.loading._PATIENCE", 0.1)
    async with instance(triton, watched=True) as loader:
        version = await load(loader)
        await until(lambda: loader.up)
        triton.instead["ServerLive"] = hangs
        triton.asked.clear()
        while triton.asked.count("ServerLive") < 5:
            assert await codes(version, i(1)) == ["ok"]
            await asyncio.sleep(0.01)
        assert loader.up

        await until(lambda: not loader.up)
        assert await codes(version, i(1)) == ["unavailable"]


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_server_that_lives_and_stops_is_looked_at_again(triton: Triton) -> None:
    async with instance(triton, watched=True) as loader:
        version = await load(loader)
        await until(lambda: loader.up)
        triton.instead["ModelStatistics"] = says(grpc.StatusCode.UNAVAILABLE, "Server is not ready", times=3)
        await asyncio.sleep(0.1)
        triton.instead["ServerLive"] = says(grpc.StatusCode.UNAVAILABLE, "gone")
        await until(lambda: not version.up)
        triton.instead.clear()

        await until(lambda: version.up)


async def test_a_look_that_fails_by_a_bug_leaves_no_watch_behind(triton: Triton) -> None:
    """Both begin again then, and there would be one more of the other each time."""

    class Odd(TritonServer):
        watching = 0

        async def alive(self, seconds: float) -> bool:
            await asyncio.sleep(0)
            raise KeyError("nobody has foreseen it")

        async def watch(self) -> None:
            self.watching += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.watching -= 1

    server = Odd(f"triton://{triton.address}")
    loader = TritonLoader(server, 256, Needs(NearCache(), "triton", "i-1"))
    with pytest.raises((KeyError, ExceptionGroup)):
        await loader.watch()

    assert server.watching == 0
    await loader.close()


async def test_when_a_call_fails_nothing_of_it_is_under_way_any_more(triton: Triton) -> None:
    begun, ended = [0], [0]

    async def instead(request: Any, context: Any) -> None:
        begun[0] += 1
        if begun[0] == 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        try:
            await asyncio.sleep(5)
        finally:
            ended[0] += 1

    async with instance(triton) as loader:
        version = await load(loader, models.dependent())  # whose requests are called for one by one
        triton.instead["ModelInfer"] = instead
        assert await codes(version, *(x() for _ in range(3))) == ["unavailable"]

        await until(lambda: ended[0] == 2, 1)


@pytest.mark.usefixtures("quick_sweeps")
async def test_what_could_not_be_taken_from_a_server_of_ones_own_is_taken_later(triton: Triton) -> None:
    async with instance(triton, watched=True) as loader:
        version, kept = await load(loader), await load(loader, name="acme.default.kept.1")
        triton.instead["RepositoryModelUnload"] = says(grpc.StatusCode.UNAVAILABLE, "busy", times=1)
        await version.close()
        assert triton.backend(NAME)

        await until(lambda: not triton.backend(NAME))
        assert await codes(kept, i(1)) == ["ok"]


@pytest.mark.usefixtures("quick_sweeps")
async def test_what_is_loaded_again_after_it_could_not_be_taken_away_stays(triton: Triton) -> None:
    async with instance(triton, watched=True) as loader:
        version = await load(loader)
        triton.instead["RepositoryModelUnload"] = says(grpc.StatusCode.UNAVAILABLE, "busy", times=1)
        await version.close()
        again = await load(loader)
        looks, taken = triton.asked.count("ModelStatistics"), triton.asked.count("RepositoryModelUnload")
        await until(lambda: triton.asked.count("ModelStatistics") > looks + 3)

        assert triton.asked.count("RepositoryModelUnload") == taken
        assert await codes(again, i(1)) == ["ok"]


@pytest.mark.usefixtures("quick_sweeps")
async def test_what_was_pushed_and_failed_is_taken_from_the_server_again(triton: Triton) -> None:
    async with instance(triton, watched=True) as loader:
        kept = await load(loader, name="acme.default.kept.1")
        triton.instead["ModelInfer"] = says(grpc.StatusCode.UNAVAILABLE, "busy")
        with pytest.raises(Unavailable):
            await load(loader)
        triton.instead.clear()
        assert triton.backend(NAME)

        await until(lambda: not triton.backend(NAME), 2)
        assert await codes(kept, i(1)) == ["ok"]


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_push_that_the_server_ends_after_it_was_given_up_is_taken_away(
    triton: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.engine_triton._LOAD", 0.2)
    pushed: list[Any] = []

    async def late(request: Any, context: Any) -> None:
        pushed.append(request)
        await asyncio.sleep(30)

    async with instance(triton, watched=True) as loader:
        kept = await load(loader, name="acme.default.kept.1")
        triton.instead["RepositoryModelLoad"] = late
        with pytest.raises(DeadlineExceeded):
            await load(loader)
        looks = triton.asked.count("ModelStatistics")
        await until(lambda: triton.asked.count("ModelStatistics") > looks + 3)
        await triton.put(pushed[-1])

        await until(lambda: not triton.backend(NAME), 5)
        assert await codes(kept, i(1)) == ["ok"]


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_version_that_cannot_be_taken_away_keeps_no_other_there(triton: Triton) -> None:
    async def busy(request: Any, context: Any) -> None:
        if request.model_name == NAME:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "busy")

    other = "acme.default.other.1"
    async with instance(triton, watched=True) as loader:
        versions = [await load(loader), await load(loader, name=other)]
        triton.instead["RepositoryModelUnload"] = busy
        for version in versions:
            await version.close()

        await until(lambda: not triton.backend(other), 5)
        assert triton.backend(NAME)


@pytest.mark.usefixtures("quick_looks")
async def test_a_push_that_takes_long_does_not_make_more_looks(triton: Triton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.inference.triton.loading._AGAIN", 0.0)
    async with instance(triton, watched=True) as loader:
        version = await load(loader)
        await until(lambda: loader.up)
        triton.instead["ServerLive"] = says(grpc.StatusCode.UNAVAILABLE, "gone")
        await until(lambda: not version.up)
        await loader._server.unload(NAME)
        triton.instead = {"RepositoryModelLoad": hangs}
        triton.asked.clear()
        await until(lambda: triton.asked.count("ServerLive") > 20)

        assert triton.asked.count("ModelStatistics") == 1
