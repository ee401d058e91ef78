"""Children that stay: they keep what they hold from one request to the next, within the limits of each."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from services.kit.child import Child, Json
from services.kit.errors import Code, Failure
from services.kit.process import Killed, Limits
from services.kit.resident import Resident
from services.kit.spent import Spent

ME = "tests.kit.test_resident"
held = list[bytes]()


def main(request: Json, child: Child) -> Json:
    """The entry of the children of this module's tests."""
    child.progress({"held": len(held)})
    match request["do"]:
        case "hold":
            held.append(b"x" * (request["mib"] * 2**20))
        case "refuse":
            raise Failure(Code.CONFLICT, "no")
        case "spin":
            sum(range(request["count"]))
        case "wait":
            signal.pause()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid(), "held": len(held)}


@pytest.fixture
async def child() -> AsyncIterator[Resident]:
    found = Resident()
    yield found
    await found.end()


async def run(child: Resident, do: str, limits: Limits | None = None, spent: Spent | None = None, **said: Any) -> Json:
    return await child.run(ME, {"do": do, **said}, limits, None, spent)


async def test_it_keeps_what_it_holds(child: Resident) -> None:
    first, second = await run(child, "hold", mib=1), await run(child, "hold", mib=1)
    with pytest.raises(Failure, match="no"):
        await run(child, "refuse")

    assert (first["held"], second["held"]) == (1, 2)
    assert await run(child, "nothing") == second
    assert second["pid"] == child.pid


async def test_each_request_tells_its_progress(child: Resident) -> None:
    told = list[Json]()

    async def progress(message: Json) -> None:
        told.append(message)

    for _ in range(2):
        await child.run(ME, {"do": "hold", "mib": 1}, None, progress)

    assert told == [{"held": 0}, {"held": 1}]


async def test_each_request_is_charged_what_it_used(child: Resident) -> None:
    busy, idle = Spent(), Spent()
    await run(child, "spin", spent=busy, count=20_000_000)
    with pytest.raises(Failure):
        await run(child, "refuse")
    await run(child, "nothing", spent=idle)

    assert busy.cpu_milliseconds > 150
    assert idle.cpu_milliseconds < 100
    with pytest.raises(Failure, match="processor time"):
        await run(child, "spin", Limits(cpu_milliseconds=300), count=2_000_000_000)


@pytest.mark.parametrize(
    ("do", "limits", "says"),
    [("wait", Limits(seconds=0.3), "took longer"), ("hold", Limits(memory_mib=200), "needs more than 200 MiB")],
)
async def test_a_limit_ends_it_and_the_next_request_starts_another(
    child: Resident, do: str, limits: Limits, says: str
) -> None:
    before = await run(child, "hold", mib=1)
    with pytest.raises(Failure, match=says):
        await run(child, do, limits, mib=400) if do == "wait" else await held_for_long(child, limits)

    assert not psutil.pid_exists(before["pid"])
    assert (await run(child, "nothing"))["held"] == 0


async def held_for_long(child: Resident, limits: Limits) -> None:
    await run(child, "hold", mib=400)
    await run(child, "wait", limits)


async def test_a_kill_is_told_and_the_next_request_starts_another(child: Resident) -> None:
    await run(child, "nothing")
    with pytest.raises(Killed):
        await run(child, "die")

    assert (await run(child, "nothing"))["pid"] == child.pid


async def test_a_caller_who_leaves_ends_it(child: Resident) -> None:
    pid = (await run(child, "nothing"))["pid"]
    waiting = asyncio.ensure_future(run(child, "wait"))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert child.pid == 0
    assert not psutil.pid_exists(pid)


async def test_it_ends_in_the_middle_of_a_request(child: Resident) -> None:
    await run(child, "nothing")
    waiting = asyncio.ensure_future(run(child, "wait"))
    await asyncio.sleep(0.1)
    await child.end()

    with pytest.raises(Failure):
        await waiting
    assert child.pid == 0
