"""What children use of processors: seen while they run, however they end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.kit import process
from services.kit.child import Child, Json
from services.kit.errors import Code, Failure
from services.kit.process import Limits
from services.kit.spent import Spent

ME = "tests.kit.test_spent"


def main(request: Json, child: Child) -> Json:
    """The entry of the children of this module's tests: works for so long, then ends as asked."""
    if request.get("elsewhere"):
        code = f"import time\nwhile time.process_time() < {request['seconds']}: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
    while not request.get("elsewhere") and time.process_time() < request["seconds"]:
        pass
    child.progress({})
    match request["end"]:
        case "refuse":
            raise Failure(Code.SQL_NOT_ALLOWED, "no")
        case "killed":
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            time.sleep(60)
    return {"used": time.process_time()}


async def test_one_that_answers_says_what_it_used() -> None:
    spent = Spent()
    result = await process.run(ME, {"seconds": 0.5, "end": "answer"}, spent=spent)

    assert 500 <= result["used"] * 1000 <= spent.cpu_milliseconds + 10


@pytest.mark.parametrize("end", ["refuse", "killed"])
async def test_one_that_fails_used_what_was_seen_of_it(end: str) -> None:
    spent = Spent()
    with pytest.raises(Failure):
        await process.run(ME, {"seconds": 1.0, "end": end}, spent=spent)

    assert spent.cpu_milliseconds >= 500


async def test_one_that_is_stopped_used_what_it_had_used_by_then() -> None:
    spent, begun = Spent(), asyncio.Event()

    async def progress(message: Json) -> None:
        begun.set()

    work = asyncio.ensure_future(process.run(ME, {"seconds": 0.5, "end": "wait"}, None, progress, spent))
    async with asyncio.timeout(60):
        await begun.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

    assert spent.cpu_milliseconds >= 490


async def test_what_its_own_children_use_counts() -> None:
    spent = Spent()
    await process.run(ME, {"seconds": 0.5, "end": "answer", "elsewhere": True}, spent=spent)

    assert spent.cpu_milliseconds >= 500


async def test_one_that_has_used_up_its_time_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="has used up the processor time") as caught:
        await process.run(ME, {"seconds": 600, "end": "answer"}, Limits(cpu_milliseconds=300))

    assert caught.value.code is Code.LIMIT_EXCEEDED


def test_what_is_gone_uses_no_memory() -> None:
    spent = Spent()
    spent.see(7)

    assert (spent.look(2**22 + 1), spent.cpu_milliseconds) == (0, 7)
    assert spent.look(os.getpid()) > 2**20
