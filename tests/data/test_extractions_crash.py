"""Kills at chosen moments of an extraction: it goes on, nothing is lost, nothing comes twice."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from aimass.v1 import extractions_pb2 as pb
from aimass.v1 import operations_pb2
from services.data.database import schema
from services.kit.auth import Scope
from tests.data import places
from tests.data.dying_extraction import POINTS, SET_POINTS
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant, append
from tests.data.rule_sets import LINES
from tests.support.house import house, until
from tests.support.storages import ALL, settings

ROOT = Path(__file__).parents[2]
ROWS = 150_000  # enough for the child to be still reading when its first file is there


def children(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if "services.data.extractions.work" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return [process for process in found if _holds(process, home)]


def _holds(process: psutil.Process, home: Path) -> bool:
    try:
        return any(str(home) in file.path for file in process.open_files())
    except psutil.Error:
        return False


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_extraction_goes_on(home: Path, point: str, kind: str) -> None:
    env = settings(kind)
    places.flights(home, rows=ROWS if point == "reading" else 5)
    command = sys.executable, "-m", "tests.data.dying_extraction", str(home), point, json.dumps(env)
    died = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    said, _ = await asyncio.wait_for(died.communicate(), 60)
    assert died.returncode == -signal.SIGKILL
    await until(lambda: not children(home))
    # What comes in between belongs to this run when it is done again, to the next when the version was logged.
    before = ROWS if point == "reading" else 5
    places.flights(home, rows=2, first=before + 1)

    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        done = await acme.ended(said.decode().strip())
        assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
        first = pb.Extraction.FromString(done.response.value)
        second = await acme.extract("flights")

        expected = (before, 2) if point == "logged" else (before + 2, 0)
        assert (first.rows_accepted, second.rows_accepted) == expected
        latest = await acme.version("flights")
        assert (latest.rows, latest.version) == (before + 2, 2 if point == "logged" else 1)
        if point != "reading":
            assert [row["id"] for row in await acme.rows("flights")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("point", SET_POINTS)
async def test_a_killed_extraction_of_a_rule_set_goes_on_with_all_its_tables(home: Path, point: str, kind: str) -> None:
    env = settings(kind)
    times = 6_000 if point == "reading" else 1
    log = places.write(home, "office.log", LINES * times)
    command = sys.executable, "-m", "tests.data.dying_extraction", str(home), point, json.dumps(env), "set"
    died = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    said, _ = await asyncio.wait_for(died.communicate(), 60)
    assert died.returncode == -signal.SIGKILL
    await until(lambda: not children(home))
    # Only when all tables had been written down belongs what comes in between to the next run.
    append(log, "cy signed in\n")

    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        done = await acme.ended(said.decode().strip())
        assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
        first = pb.Extraction.FromString(done.response.value)
        second = await acme.extract_set("office")

        kept = point in ("one written", "logged")
        found = [[result.rows for result in run.results] for run in (first, second)]
        assert found == ([[3, 2], [0, 1]] if kept else [[3 * times, 2 * times + 1], [0, 0]])
        assert (first.rows_quarantined, second.rows_quarantined) == (3 * times, 0)
        for name, rows, version in (("weighed", 3 * times, 1), ("logins", 2 * times + 1, 2 if kept else 1)):
            latest = await acme.version(name)
            assert (latest.rows, latest.version) == (rows, version)
        assert [row["who"] for row in await acme.rows("logins")][:3] == ["ada", "bo", "cy" if times == 1 else "ada"]


async def test_a_stopped_process_leaves_an_extraction_to_the_next(home: Path) -> None:
    places.flights(home)
    async with house(home, "data") as running:
        acme = Tenant(running)
        await acme.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        begun = await acme.begin("flights")
    async with house(home, "data") as running:
        acme = Tenant(running)
        assert (await acme.ended(begun.operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
        assert (await acme.version("flights")).rows == 5


async def test_an_extraction_that_was_cancelled_before_a_crash_ends_cancelled(home: Path) -> None:
    places.flights(home)
    async with house(home, "data") as running:
        acme = Tenant(running)
        await acme.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        begun = await acme.begin("flights")
        wish = {"cancel_requested": True}
        operations = schema.operations
        await operations.db.run(lambda connection: operations.set(connection, Scope("acme"), begun.operation, **wish))
    async with house(home, "data") as running:
        done = await Tenant(running).ended(begun.operation)
        assert done.state == operations_pb2.OPERATION_STATE_CANCELLED
