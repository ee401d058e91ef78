"""Containers on an engine that goes away and comes back: a proxy in front of the real one hangs up."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from services.kit.errors import Code, Failure, Unavailable
from services.trainer.runner import Runner
from tests.support.house import house
from tests.support.images import built
from tests.trainer.steps import submit, succeeds_at_once, waits_for
from tests.trainer.test_runner import LIMITS, containers, docker_runner, nothing

pytestmark = pytest.mark.far


class Proxy:
    """Passes bytes on to the engine while it is `open`; hangs up on requests of the method `unheard`."""

    def __init__(self) -> None:
        self.unheard = b"none"
        self.open, self._engine = True, os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._writers: set[asyncio.StreamWriter] = set()

    def hang_up(self) -> None:
        self.open = False
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        scheme, _, place = self._engine.partition("://")
        host, _, port = place.rpartition(":")
        called = asyncio.open_unix_connection(place) if scheme == "unix" else asyncio.open_connection(host, int(port))
        there, away = await called
        both = {writer, away}
        self._writers |= both
        await asyncio.gather(self._pass(reader, away), self._pass(there, writer))
        for one in both:
            one.close()
        self._writers -= both

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if data.startswith(self.unheard):
                    self.hang_up()
                writer.write(data)
                await writer.drain()
            writer.write_eof()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """In front of the engine for all that this process starts."""
    built()
    made = Proxy()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield made
    made.hang_up()
    server.close()


@pytest.fixture
async def runner(proxy: Proxy) -> AsyncIterator[Runner]:
    found = docker_runner("away")
    await found.start()
    yield found
    proxy.open = True
    await found.start()
    await found.close()
    assert await asyncio.to_thread(containers, "away") == []


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    (tmp_path / "a").write_text("of a\n")
    (tmp_path / "out").mkdir()
    graph = str(tmp_path / "a")
    return lambda do: {"do": do, "folder": str(tmp_path / "out"), "files": [graph], "graph": graph}


async def test_an_engine_that_has_gone_away_is_unavailable_until_it_is_back(
    proxy: Proxy, runner: Runner, ask: Any
) -> None:
    proxy.hang_up()
    for call in (runner.ready(), runner.run(ask("copy"), LIMITS, nothing)):
        with pytest.raises(Unavailable, match="the container engine is away"):
            await call
    proxy.open = True

    await runner.ready()
    assert await runner.run(ask("copy"), LIMITS, nothing) == {"files": {"copy.txt": "text/plain"}}


async def test_an_engine_that_goes_away_in_the_middle_of_work_is_unavailable(
    proxy: Proxy, runner: Runner, ask: Any
) -> None:
    async def leave(_: Any) -> None:
        proxy.hang_up()

    with pytest.raises(Failure) as caught:
        await runner.run(ask("wait"), LIMITS, leave)
    assert caught.value.code is Code.UNAVAILABLE


async def test_a_result_is_good_when_its_container_cannot_be_removed_yet(
    proxy: Proxy, runner: Runner, ask: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.unheard = b"DELETE"
    with caplog.at_level(logging.WARNING, "services.trainer"):
        result = await runner.run(ask("copy"), LIMITS, nothing)
    proxy.unheard = b"none"

    assert result == {"files": {"copy.txt": "text/plain"}}
    assert (tmp_path / "out/copy.txt").read_text() == "of a\n"
    assert "is not removed yet" in caplog.text


async def test_a_job_waits_for_its_engine_and_keeps_its_attempts(proxy: Proxy, home: Path) -> None:
    settings = {"AIMASS_TRAINER_RUNNER": "docker", "AIMASS_TRAINER_IMAGE": built(), "AIMASS_TRAINER_WORKERS": "1"}
    async with house(home, "data", "trainer", **settings) as running:
        proxy.hang_up()
        job = await submit(running)
        await waits_for(running, job, "the container engine")
        proxy.open = True

        await succeeds_at_once(running, job)
