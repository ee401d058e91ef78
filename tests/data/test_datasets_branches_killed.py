"""kill -9 at chosen points of a branch that is made or merged: who asks again gets it once, and no row is lost."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from aimass.v1 import data_events_pb2
from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from tests.data import places
from tests.data.extracting import Tenant
from tests.data.killed_branches import POINTS, do, tried
from tests.data.test_extractions_crash import ROOT
from tests.support.house import House, house
from tests.support.storages import ALL, settings


async def kill(home: Path, work: str, point: str, env: dict[str, str]) -> None:
    command = sys.executable, "-m", "tests.data.killed_branches", str(home), work, point, json.dumps(env)
    died = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, cwd=ROOT)
    _, said = await asyncio.wait_for(died.communicate(), 120)
    assert died.returncode == -signal.SIGKILL, said.decode()


async def found(home: House, name: str) -> pb.DataSet:
    answer: pb.DataSet = await home.stub(DataSetsStub, "data").GetDataSet(pb.GetDataSetRequest(data_set=name))
    return answer


async def ids(home: House, name: str) -> list[int]:
    return [int(row["id"]) for row in await Tenant(home).rows(name)]


def logged(home: Path, name: str) -> list[int]:
    """What another engine reads."""
    table: Any = deltalake.DeltaTable(str(home / "tables" / "acme" / "default" / name)).to_pyarrow_table()
    assert isinstance(table, pa.Table)
    return sorted(table["id"].to_pylist())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("point", POINTS)
async def test_a_branch_whose_making_was_killed_is_made_once(home: Path, point: str, kind: str) -> None:
    env = settings(kind)
    await kill(home, "make", point, env)
    async with house(home, "data", **env) as running:
        made = await do(running, "make")
        trial = await found(running, "trial")
        assert (made.version, made.rows, trial.latest_version, trial.branch_version) == (1, 3, 1, 1)
        assert await ids(running, "trial") == [1, 2, 3]
        assert kind != "near" or logged(home, "trial") == [1, 2, 3]

        places.flights(home, rows=2, first=4)
        assert (await tried(running)).records_read == 2
        assert (await ids(running, "flights"), await ids(running, "trial")) == ([1, 2, 3], [1, 2, 3, 4, 5])
        told = await running.heard(data_events_pb2.DataSetVersionAdded, 3)
        names = [(event.version.data_set, event.version.version) for event in told]
        assert names == [("flights", 1), ("trial", 1), ("trial", 2)]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("point", POINTS)
async def test_a_merge_that_was_killed_happens_once_with_its_rows_and_cursors(
    home: Path, point: str, kind: str
) -> None:
    env = settings(kind)
    await kill(home, "merge", point, env)
    async with house(home, "data", **env) as running:
        before = [1, 2, 3, 4, 5] if point == "row" else [1, 2, 3]
        assert await ids(running, "flights") == before
        made = await do(running, "merge")
        assert (made.version, made.rows, (await found(running, "flights")).latest_version) == (2, 5, 2)
        assert await ids(running, "flights") == [1, 2, 3, 4, 5]
        assert kind != "near" or logged(home, "flights") == [1, 2, 3, 4, 5]
        assert (await found(running, "trial")).branch_version == 2

        assert (await Tenant(running).extract("flights")).records_read == 0
        assert (await tried(running)).records_read == 0
        told = await running.heard(data_events_pb2.DataSetVersionAdded, 4)
        names = [(event.version.data_set, event.version.version) for event in told]
        assert names == [("flights", 1), ("trial", 1), ("trial", 2), ("flights", 2)]
