"""Where trainings run: one suite for a child process and for a container, and what only a container keeps apart."""

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import jobs_pb2 as pb
from services.kit.config import ConfigError, load
from services.kit.errors import Code, Failure
from services.kit.process import Killed, Limits
from services.trainer.config import Config
from services.trainer.runner import ProcessRunner, Runner, owner_of, runner
from tests.support.house import house, until
from tests.support.images import built
from tests.trainer.steps import trained

ENTRY = "tests.trainer.entry"
DIGEST = f"sha256:{'0' * 64}"
LIMITS = Limits(60, 512, threads=1)


def containers(owner: str = "tests") -> list[str]:
    listed = ["docker", "ps", "-aq", "--filter", f"label=aimass.trainer={owner}"]
    return subprocess.run(listed, capture_output=True, text=True, check=True, timeout=30).stdout.split()


def docker_runner(owner: str = "tests", module: str = ENTRY) -> Runner:
    from services.trainer.runner_docker import DockerRunner

    return DockerRunner(built(), lambda: owner, module)


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Runner]:
    found = ProcessRunner(ENTRY) if request.param == "near" else docker_runner()
    await found.start()
    yield found
    await found.close()
    if request.param == "far":
        assert containers() == []


@pytest.fixture
async def contained() -> AsyncIterator[Runner]:
    found = docker_runner()
    await found.start()
    yield found
    await found.close()
    assert containers() == []


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    for name in ("graph", "a", "b"):
        (tmp_path / name).write_text(f"of {name}\n" * 1000)
    (tmp_path / "out").mkdir()

    def asked(do: str, **more: Any) -> dict[str, Any]:
        files = {"files": [str(tmp_path / "a"), str(tmp_path / "b")], "graph": str(tmp_path / "graph")}
        return {"do": do, "folder": str(tmp_path / "out"), **files, **more}

    return asked


async def nothing(_: Any) -> None: ...


def chosen(name: str, image: str = "") -> Config:
    return load(Config, {"AIMASS_TRAINER_RUNNER": name, "AIMASS_TRAINER_IMAGE": image})


async def test_files_go_in_and_come_out_and_progress_is_told(running: Runner, ask: Any, tmp_path: Path) -> None:
    messages: list[Any] = []

    async def tell(message: Any) -> None:
        messages.append(message)

    result = await running.run(ask("copy"), LIMITS, tell)

    assert result == {"files": {"copy.txt": "text/plain"}}
    assert messages == [{"read": "of graph\n" * 1000}]
    assert (tmp_path / "out/copy.txt").read_text() == "of a\n" * 1000 + "of b\n" * 1000


async def test_a_failure_comes_out_as_it_was_raised(running: Runner, ask: Any) -> None:
    with pytest.raises(Failure, match="no row to train on") as caught:
        await running.run(ask("refuse"), LIMITS, nothing)
    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_work_that_dies_is_an_internal_error_with_its_last_words(running: Runner, ask: Any) -> None:
    with pytest.raises(Failure) as caught:
        await running.run(ask("die"), LIMITS, nothing)
    assert caught.value.code is Code.INTERNAL
    assert not isinstance(caught.value, Killed)
    assert "dying" in caught.value.violations[0].rule


async def test_work_that_a_signal_ends_may_be_done_again(running: Runner, ask: Any) -> None:
    with pytest.raises(Killed, match=f"{ENTRY} was killed by signal 11"):
        await running.run(ask("signal", number=11), LIMITS, nothing)


async def test_an_eater_of_memory_dies_alone(running: Runner, ask: Any, tmp_path: Path) -> None:
    other = asyncio.create_task(running.run(ask("copy"), LIMITS, nothing))
    with pytest.raises(Failure, match="more than 128 MiB") as caught:
        await running.run(ask("grow", mib=400), Limits(60, 128), nothing)

    assert caught.value.code is Code.LIMIT_EXCEEDED
    assert "copy.txt" in (await other)["files"]


async def test_time_is_limited(running: Runner, ask: Any) -> None:
    with pytest.raises(Failure, match="longer than 4 s") as caught:
        await running.run(ask("wait"), Limits(4, 512), nothing)
    assert caught.value.code is Code.LIMIT_EXCEEDED


async def test_what_is_cancelled_leaves_nothing(running: Runner, ask: Any) -> None:
    begun = asyncio.Event()

    async def tell(_: Any) -> None:
        begun.set()

    work = asyncio.create_task(running.run(ask("wait"), LIMITS, tell))
    async with asyncio.timeout(30):
        await begun.wait()
    work.cancel()

    with pytest.raises(asyncio.CancelledError):
        await work


async def test_secrets_stay_outside(running: Runner, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_SECRET", "s3cret")
    found = await running.run(ask("describe"), LIMITS, nothing)
    assert "AIMASS_SECRET" not in found["environment"]


@pytest.mark.far
async def test_a_container_has_no_network_no_rights_and_nothing_to_write_on(contained: Runner, ask: Any) -> None:
    found = await contained.run(ask("describe"), LIMITS, nothing)

    assert found["interfaces"] == ["lo"]
    assert found["capabilities"].split() == ["CapEff:", "0" * 16]
    assert found["privileges"]
    assert found["user"] == 10001
    assert not found["root"]


@pytest.mark.far
async def test_names_that_a_container_claims_never_become_paths(contained: Runner, ask: Any, tmp_path: Path) -> None:
    with pytest.raises(Failure):
        await contained.run(ask("claim"), LIMITS, nothing)
    assert not list(tmp_path.rglob("escaped"))
    assert not (tmp_path / "out/link").exists()


@pytest.mark.far
async def test_what_a_container_prints_is_in_our_log(
    contained: Runner, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "services.trainer"):
        await contained.run(ask("copy"), LIMITS, nothing)
    assert "printed where a library would" in caplog.text


@pytest.mark.far
async def test_a_container_ends_with_its_worker_and_the_next_start_removes_it(ask: Any) -> None:
    command = [sys.executable, "-m", "tests.trainer.test_runner", built(), json.dumps(ask("wait"))]
    worker = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert worker.stdout
    assert await worker.stdout.readline() == b"begun\n"
    worker.kill()
    await worker.wait()

    (left,) = containers("killed")
    inspect = ["docker", "inspect", "-f", "{{.State.Status}}", left]
    await until(lambda: subprocess.run(inspect, capture_output=True, check=True, timeout=30).stdout == b"exited\n", 20)
    again = docker_runner("killed")
    await again.start()
    assert containers("killed") == []
    await again.close()


@pytest.mark.far
async def test_a_job_is_trained_in_a_container(home: Path) -> None:
    settings = {"AIMASS_TRAINER_RUNNER": "docker", "AIMASS_TRAINER_IMAGE": built()}
    async with house(home, "data", "trainer", **settings) as found:
        job = await trained(found)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job
    assert containers(owner_of(home.resolve(), True, "")) == []


@pytest.mark.parametrize("image", ["", "aimass:local", f"aimass@{DIGEST[:-1]}", f"--privileged@{DIGEST}"])
def test_an_image_that_is_not_pinned_is_refused(image: str) -> None:
    with pytest.raises(ConfigError, match="AIMASS_TRAINER_IMAGE: must be name@sha256"):
        runner(chosen("docker", image), lambda: "tests")


async def test_an_engine_that_is_away_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    found = runner(chosen("docker", DIGEST), lambda: "tests")
    with pytest.raises(ConfigError, match=r"AIMASS_TRAINER_RUNNER: .* cannot be run"):
        await found.start()
    await found.close()


def test_whoever_holds_a_database_file_owns_what_ran_for_it(tmp_path: Path) -> None:
    assert owner_of(tmp_path, True, "one") == owner_of(tmp_path, True, "two")
    assert owner_of(tmp_path, False, "one") != owner_of(tmp_path, False, "two")


def test_homes_of_one_path_on_two_machines_do_not_own_what_the_other_started(tmp_path: Path) -> None:
    here, elsewhere, home = tmp_path / "here", tmp_path / "elsewhere", tmp_path / "home"
    here.mkdir()
    elsewhere.mkdir()
    owners = set()
    for machine in (here, elsewhere):
        home.symlink_to(machine)
        owners.add(owner_of(home, True, "one"))
        home.unlink()
    assert len(owners) == 2


def test_a_copy_of_a_home_does_not_own_what_the_first_one_started(tmp_path: Path) -> None:
    owner = owner_of(tmp_path, True, "one")
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert owner_of(tmp_path / "copy", True, "one") != owner


async def work_until_killed(image: str, request: str) -> None:
    """What the worker does that a test kills."""
    from services.trainer.runner_docker import DockerRunner

    async def tell(_: Any) -> None:
        print("begun", flush=True)

    await DockerRunner(image, lambda: "killed", ENTRY).run(json.loads(request), LIMITS, tell)


if __name__ == "__main__":
    asyncio.run(work_until_killed(*sys.argv[1:]))
