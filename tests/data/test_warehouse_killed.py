"""Kills at chosen moments of a run that lands: what landed is there once, and so are its rows."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from aimass.v1 import operations_pb2
from tests.data import places
from tests.data.dying_landing import POINTS
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.landing import LANDED, counts, replay, second_rule, succeeded
from tests.data.test_extractions_crash import ROOT
from tests.support.house import house, until
from tests.support.storages import ALL, settings

ROWS = 60_000  # enough for the child to be still reading when its first file is there


def children(home: Path) -> list[psutil.Process]:
    """Of a run that was killed: they end with it."""
    return [child for child in psutil.process_iter(["cmdline"]) if str(home) in " ".join(child.info["cmdline"] or ())]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_run_lands_and_extracts_everything_once(home: Path, point: str, kind: str) -> None:
    env, before = settings(kind), ROWS if point == "reading" else 5
    places.flights(home, rows=before)
    command = sys.executable, "-m", "tests.data.dying_landing", str(home), point, json.dumps(env)
    died = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    said, _ = await asyncio.wait_for(died.communicate(), 120)
    assert died.returncode == -signal.SIGKILL
    await until(lambda: not children(home))
    places.flights(home, rows=2, first=before + 1)

    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        first = await succeeded(acme, said.decode().strip())
        second = await acme.extract("flights")
        assert first.rows_accepted + second.rows_accepted == before + 2
        assert first.records_landed + second.records_landed == before + 2
        # What came in between belongs to the next run as soon as the landing was written down.
        assert first.records_landed == (before + 2 if point in ("reading", "read") else before)
        for name in ("landed_flights", "flights"):
            assert (await acme.version(name)).rows == before + 2
        if point != "reading":
            assert [row["number"] for row in await acme.rows("landed_flights")] == list(range(1, 8))
            assert [row["id"] for row in await acme.rows("flights")] == list(range(1, 8))
        again = await replay(acme, "flights")
        assert (counts(again), (await acme.version("flights")).rows) == ((0, before + 2, before + 2), before + 2)


async def test_two_rules_that_run_at_once_land_their_source_once(home: Path) -> None:
    places.flights(home, rows=500)
    async with house(home, "data") as running:
        acme = Tenant(running)
        await acme.rule("flights", {**FLIGHTS_SOURCE, **LANDED}, FLIGHTS)
        await second_rule(acme, "more", "flights", FLIGHTS)
        begun = [await acme.begin(rule) for rule in ("flights", "more")]
        runs = [await succeeded(acme, each.operation) for each in begun]
        assert sorted(run.records_landed for run in runs) == [0, 500]
        assert [run.rows_accepted for run in runs] == [500, 500]
        assert (await acme.version("landed_flights")).rows == 500


async def test_on_a_full_disk_nothing_lands_and_the_next_run_lands_all(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.flights(home, rows=9_000)
    async with house(home, "data") as running:
        acme = Tenant(running)
        await acme.rule("flights", {**FLIGHTS_SOURCE, **LANDED}, FLIGHTS)
        extractions: Any = running.runtime.apps["data"].rpc["aimass.v1.Extractions"]
        data_sets = extractions._extractions._data_sets
        prepare = data_sets.prepare

        async def full(*asked: Any) -> Path:
            folder: Path = await prepare(*asked)
            (folder / "part-00000.parquet").symlink_to("/dev/full")
            return folder

        with monkeypatch.context() as patch:
            patch.setattr(data_sets, "prepare", full)
            done = await acme.ended((await acme.begin("flights")).operation)
        assert (done.state, done.error.code) == (operations_pb2.OPERATION_STATE_FAILED, "storage_full")
        await until(lambda: not list((home / "tables").rglob("part-*")))
        assert counts(await acme.extract("flights")) == (9_000, 9_000, 9_000)
