"""Children: results, failures, limits, and that none is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.kit import process
from services.kit.child import Child, Json
from services.kit.errors import Code, Failure
from services.kit.process import Limits

ME = "tests.kit.test_process"


def main(request: Json, child: Child) -> Json:
    """The entry of the children of this module's tests."""
    match request["do"]:
        case "echo":
            for step in range(3):
                child.progress({"step": step})
            return {"echo": request["say"], "environment": sorted(os.environ)}
        case "pour":
            child.pour(b"\0{}" * 100_000)
            child.progress({"step": 1})
            child.pour(b"")
            return {"poured": 2}
        case "refuse":
            raise Failure(Code.SQL_NOT_ALLOWED, "no")
        case "die":
            print("dying", file=sys.stderr, flush=True)
            os._exit(3)
        case "signal":
            print("hit", file=sys.stderr, flush=True)
            os.kill(os.getpid(), request["number"])
        case "grow":
            held = b"x" * (300 * 2**20)
            time.sleep(5)
            return {"held": len(held)}
        case "make an array":
            import pyarrow

            return {"array": pyarrow.array([1, None]).to_pylist(), "pandas": "pandas" in sys.modules}
        case "fill the disk":
            with open("/dev/full", "wb") as file:
                file.write(b"x")
        case "open files":
            return {"files": len([open("/dev/null") for _ in range(10_000)])}
        case "start another":
            other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            Path(request["file"]).write_text(str(other.pid))
            time.sleep(60)
        case _:
            Path(request["file"]).write_text(str(os.getpid()))
            time.sleep(60)
    return {}


async def run(do: str, limits: Limits | None = None, **request: Any) -> Json:
    return await process.run(ME, {"do": do, **request}, limits)


async def test_bytes_and_progress_come_in_order_as_they_were_sent() -> None:
    got: list[Any] = []

    async def take(message: Any) -> None:
        got.append(message)

    assert await process.run(ME, {"do": "pour"}, None, take) == {"poured": 2}
    assert got == [b"\0{}" * 100_000, {"step": 1}, b""]


async def test_a_child_answers_and_tells_progress() -> None:
    steps: list[Json] = []

    async def progress(message: Json) -> None:
        steps.append(message)

    result = await process.run(ME, {"do": "echo", "say": "é"}, None, progress)

    assert result["echo"] == "é"
    assert "OMP_WAIT_POLICY" in result["environment"]  # threads that wait do not spin
    assert steps == [{"step": 0}, {"step": 1}, {"step": 2}]


async def test_a_child_with_an_array_does_not_wait_for_pandas() -> None:
    assert await run("make an array") == {"array": [1, None], "pandas": False}


async def test_a_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_SECRET", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")

    seen = (await run("echo", say=""))["environment"]
    assert not {"AIMASS_SECRET", "AWS_SECRET_ACCESS_KEY"} & set(seen)


async def test_a_failure_comes_out_as_it_was_raised() -> None:
    with pytest.raises(Failure, match="no") as caught:
        await run("refuse")
    assert caught.value.code is Code.SQL_NOT_ALLOWED


async def test_a_child_for_which_the_disk_is_full_says_so() -> None:
    with pytest.raises(Failure, match="the disk is full") as caught:
        await run("fill the disk")
    assert caught.value.code is Code.STORAGE_FULL


async def test_a_child_that_dies_is_an_internal_error() -> None:
    with pytest.raises(Failure) as caught:
        await run("die")
    assert caught.value.code is Code.INTERNAL
    assert not isinstance(caught.value, process.Killed)
    assert "dying" in caught.value.violations[0].rule


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_child_that_a_signal_ends_is_told_apart_from_one_that_gives_up(number: int) -> None:
    with pytest.raises(process.Killed, match=f"{ME} was killed by signal {number}") as caught:
        await run("signal", number=int(number))
    assert caught.value.code is Code.INTERNAL
    assert "hit" in caught.value.violations[0].rule


async def test_memory_is_limited() -> None:
    with pytest.raises(Failure, match="more than 200 MiB") as caught:
        await run("grow", Limits(memory_mib=200))
    assert caught.value.code is Code.LIMIT_EXCEEDED


async def test_time_is_limited(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"longer than 0\.6 s"):
        await run("wait", Limits(seconds=0.6), file=str(tmp_path / "pid"))


async def test_files_are_limited() -> None:
    with pytest.raises(Failure):
        await run("open files", Limits(files=64))


@pytest.mark.parametrize("what", ["wait", "start another"], ids=["the child", "what the child started"])
async def test_cancelling_ends(what: str, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    work = asyncio.create_task(run(what, file=str(file)))
    pid = int(await appeared(file))
    work.cancel()
    done, _ = await asyncio.wait({work}, timeout=20)

    assert done
    assert work.cancelled()
    assert await gone(pid)


async def test_a_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    request = {"do": "wait", "file": str(file)}
    code = f"import asyncio; from services.kit import process; asyncio.run(process.run({ME!r}, {request!r}))"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    pid = int(await appeared(file))
    parent.kill()
    await parent.wait()

    assert await gone(pid)


async def appeared(file: Path) -> str:
    async with asyncio.timeout(10):
        while not (file.exists() and file.read_text()):
            await asyncio.sleep(0.02)
    return file.read_text()


async def gone(pid: int) -> bool:
    async with asyncio.timeout(5):
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.02)
    return True


@pytest.mark.parametrize("turns", range(0, 12, 2))
async def test_a_child_that_is_cancelled_while_it_starts_leaves_nothing_open(turns: int, tmp_path: Path) -> None:
    """Cancelled after some turns of the loop: before, within and after the start of the process."""
    others = set(psutil.Process().children())
    starting = asyncio.ensure_future(run("wait", file=str(tmp_path / "pid")))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)

    async with asyncio.timeout(5):
        while [p for p in set(psutil.Process().children()) - others if p.status() != psutil.STATUS_ZOMBIE]:
            await asyncio.sleep(0.02)
