"""A Triton server that dies, freezes, loses a process, is shared: versions come back by themselves, no call hangs."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy
import psutil
import pytest

from deploy.authority import Authority
from services.inference.domain.batches import Item
from services.inference.domain.engines import Released
from services.inference.engine_triton import TritonServer
from services.inference.triton.loading import TritonLoader
from services.inference.triton.needs import Needs
from services.inference.triton.version import TritonVersion
from services.inference.wire import signature_from_wire
from services.kit.cache import NearCache
from services.kit.digests import digest_of
from services.kit.errors import Failure
from services.kit.tensors import Tensor
from services.kit.tls import Credentials
from tests.gateway.serving import serving
from tests.support import models
from tests.support.certificates import certify
from tests.support.house import until
from tests.support.servers import Program, address, make

pytestmark = [pytest.mark.far]
ROW = numpy.array([[1, 2, 3, 4]], "<f4")
GRAPHS = [models.logistic(seed=seed) for seed in range(3)]


class Shared(NearCache):
    """A cache that several instances of this process share as if they were in several."""

    near = False


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of this module's own: it is killed."""
    address("triton")
    program = make("triton", tmp_path_factory.mktemp("triton")).start()
    yield program
    program.end()


@contextlib.asynccontextmanager
async def instance(
    program: Program, cache: NearCache | None = None, name: str = "i-1", credentials: Credentials | None = None
) -> AsyncIterator[TritonLoader]:
    server = TritonServer(f"triton{'s' * bool(credentials)}://{program.address}", credentials)
    loader = TritonLoader(server, 256, Needs(cache or NearCache(), "triton", name))
    watching = asyncio.ensure_future(loader.watch())
    yield loader
    watching.cancel()
    for version in list(loader._versions.values()):
        await version.close()
    await loader.close()


async def load(loader: TritonLoader, number: int = 1, data: bytes = GRAPHS[0]) -> TritonVersion:
    async def read() -> bytes:
        return data

    released = Released(number, digest_of(data), signature_from_wire(models.signature(data)))
    return await loader.load(f"acme.default.late.{number}", released, read)


async def ask(version: TritonVersion, seconds: float = 5) -> str:
    """The code of one call's answer; it comes in time in any case."""
    began = time.monotonic()
    try:
        item = Item("r", began + seconds, [Tensor("x", "FP32", (1, 4), ROW.tobytes())])
        (answer,) = await version.infer([item])
    except Failure as failure:
        answer = failure
    assert time.monotonic() - began < seconds + 0.2
    return answer.code.text if isinstance(answer, Failure) else "ok"


async def names(program: Program) -> set[str]:
    server = TritonServer(f"triton://{program.address}")
    found = await server.loaded()
    await server.close()
    return found


def processes(program: Program) -> list[psutil.Process]:
    """Those that run versions."""
    assert program.process
    found = psutil.Process(program.process.pid).children(recursive=True)
    return [process for process in found if runs_versions(process)]


def runs_versions(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.name().startswith("triton_python_b")
    except psutil.NoSuchProcess:  # it ended while it was looked at
        return False


async def test_a_server_that_dies_refuses_at_once_and_comes_back_with_everything(triton: Program) -> None:
    async with instance(triton) as loader:
        versions = [await load(loader, number, data) for number, data in enumerate(GRAPHS, 1)]
        codes, stop = dict[str, int](), asyncio.Event()

        async def caller(version: TritonVersion) -> None:
            while not stop.is_set():
                code = await ask(version)
                codes[code] = codes.get(code, 0) + 1
                await asyncio.sleep(0.01)

        callers = [asyncio.ensure_future(caller(version)) for version in versions for _ in range(4)]
        await asyncio.sleep(0.5)
        triton.kill()
        await until(lambda: not loader.up, 3)
        began = time.monotonic()
        assert [await ask(version) for version in versions] == ["unavailable"] * 3
        assert time.monotonic() - began < 0.1
        assert set(await loader.changed()) == set(versions)

        await asyncio.to_thread(triton.start)
        await until(lambda: all(version.up for version in versions), 30)
        stop.set()
        await asyncio.gather(*callers)

        assert set(codes) == {"ok", "unavailable"}
        assert [await ask(version) for version in versions] == ["ok"] * 3
        assert await names(triton) == {version.name for version in versions}


async def test_a_server_that_says_nothing_is_left_alone_until_it_speaks(triton: Program) -> None:
    async with instance(triton) as loader:
        version = await load(loader)
        await until(lambda: loader.up)
        triton.freeze()
        try:
            assert await ask(version, seconds=0.5) in ("deadline_exceeded", "unavailable")
            await until(lambda: not version.up, 3)
            assert await ask(version) == "unavailable"
        finally:
            triton.thaw()
        await until(lambda: version.up, 3)

        assert await ask(version) == "ok"


async def test_a_version_whose_process_dies_is_brought_back_by_the_call_that_finds_it_dead(triton: Program) -> None:
    async with instance(triton) as loader:
        version = await load(loader)
        (process,) = processes(triton)
        os.kill(process.pid, signal.SIGKILL)

        assert await ask(version, seconds=30) == "ok"
        assert len(processes(triton)) == 1


async def test_a_version_that_somebody_took_away_is_brought_back_without_a_failed_call(triton: Program) -> None:
    async with instance(triton) as loader:
        version = await load(loader)
        server = TritonServer(f"triton://{triton.address}")
        await server.unload(version.name)

        assert await asyncio.gather(*(ask(version, seconds=30) for _ in range(20))) == ["ok"] * 20
        await server.close()


async def test_versions_that_another_instance_needs_stay(triton: Program) -> None:
    cache = Shared()
    async with instance(triton, cache, "i-1") as one, instance(triton, cache, "i-2") as two:
        first, second = await load(one), await load(two)
        alone = await load(two, 2, GRAPHS[1])
        await first.close()
        assert await names(triton) == {second.name, alone.name}
        assert await ask(second) == "ok"

        await second.close()
        assert await names(triton) == {alone.name}
    assert await names(triton) == set()


async def test_a_second_instance_finds_what_the_first_one_pushed(triton: Program) -> None:
    cache = Shared()
    async with instance(triton, cache, "i-1") as one, instance(triton, cache, "i-2") as two:
        first = await load(one)
        began = time.monotonic()
        second = await load(two)

        assert time.monotonic() - began < 1
        assert len(processes(triton)) == 1
        assert [await ask(first), await ask(second)] == ["ok", "ok"]


async def test_what_a_dead_instance_left_behind_goes(triton: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.inference.triton.loading._COMPARE", 0.2)
    later = [0.0]
    cache = Shared(clock=lambda: time.time() + later[0])
    async with instance(triton, cache, "i-1") as one:
        kept = await load(one)
        dead = TritonLoader(TritonServer(f"triton://{triton.address}"), 256, Needs(cache, "triton", "dead"))
        left = await load(dead, 2, GRAPHS[1])
        await dead._server.close()
        await asyncio.sleep(1)
        assert await names(triton) == {kept.name, left.name}

        later[0] = 20.0  # its lease is over; that of the living one is said again
        await one._announce()
        await until(lambda: _only(triton, kept.name), 10)


async def _only(program: Program, name: str) -> bool:
    return await names(program) == {name}


async def test_reloads_leave_no_process_and_no_memory_behind(triton: Program) -> None:
    assert triton.process
    data = models.lookup(2**20)  # 4 MiB
    async with instance(triton) as loader:
        sizes = []
        for number in range(1, 21):
            version = await load(loader, number, data)
            await version.close()
            await until(lambda: not processes(triton))
            sizes.append(sum(resident(process) for process in family(triton)) / 2**20)

    # What allocators keep is theirs after the first ones; a server that leaked would have 80 MiB more each time around.
    assert sizes[-1] - sizes[4] < 40


def family(program: Program) -> list[psutil.Process]:
    assert program.process
    return [psutil.Process(program.process.pid), *psutil.Process(program.process.pid).children(recursive=True)]


def resident(process: psutil.Process) -> int:
    """Bytes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


async def test_a_server_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    address("triton")
    program = make("triton", tmp_path)
    async with instance(program) as loader:
        assert await _code(load(loader)) == "unavailable"
        assert not loader.up
        await asyncio.to_thread(program.start)
        try:
            await until(lambda: loader.up, 10)
            assert await ask(await load(loader)) == "ok"
        finally:
            program.end()


async def test_the_gateway_refuses_with_a_time_while_the_server_is_away_and_goes_on_by_itself(tmp_path: Path) -> None:
    address("triton")
    (tmp_path / "triton").mkdir()
    program = make("triton", tmp_path / "triton").start()
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    paths = ("/v2/models/late/infer", "/v2/models/late/versions/1/infer")
    try:
        async with serving(tmp_path / "home", AIMASS_INFERENCE_ENGINE=f"triton://{program.address}") as running:
            await running.serve("late", GRAPHS[0])
            before = [(await running.post(path, body)).json()["outputs"] for path in paths]
            program.kill()
            await until(lambda: not running.house.runtime.ready(), 5)
            for path in paths * 10:
                began = time.monotonic()
                refused = await running.post(path, body)
                assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
                assert int(refused.headers["retry-after"]) >= 1
                assert time.monotonic() - began < 1
                await asyncio.sleep(0.1)

            await asyncio.to_thread(program.start)
            await until(running.house.runtime.ready, 10)

            async def answers() -> bool:
                return (await running.post(paths[1], body)).status_code == 200

            await until(answers, 20)
            assert [(await running.post(path, body)).json()["outputs"] for path in paths] == before
    finally:
        program.end()


async def test_a_server_is_asked_over_tls_with_certificates_of_both_sides(tmp_path: Path) -> None:
    address("triton")
    (tmp_path / "triton").mkdir()
    program, authority = make("triton", tmp_path / "triton"), Authority.new()
    theirs = certify(tmp_path / "theirs", authority, "triton")
    files = {"server-cert": "cert.pem", "server-key": "key.pem", "root-cert": "ca.pem"}
    program.command = [*program.command, "--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1"]
    program.command += [f"--grpc-{option}={theirs / file}" for option, file in files.items()]
    program.start()
    ours = Credentials(certify(tmp_path / "ours", authority, "inference"))
    strangers = Credentials(certify(tmp_path / "strangers", Authority.new(), "inference"))
    try:
        async with instance(program, credentials=ours) as loader:
            version = await load(loader)
            assert await ask(version) == "ok"
            loader._server.renew()  # type: ignore[attr-defined]
            assert await ask(version) == "ok"
        async with instance(program, credentials=strangers) as loader:
            assert await _code(load(loader)) == "unavailable"
    finally:
        program.end()


async def _code(work: object) -> str:
    try:
        await work  # type: ignore[misc]
    except Failure as failure:
        return failure.code.text
    return "ok"
