"""kill -9 at chosen points of a run: after a restart it goes on, and everything of it happens once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.v1 import data_events_pb2
from aimass.v1 import datasets_pb2 as data
from aimass.v1 import recipes_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.recipes_pb2_grpc import RecipesStub
from tests.data.killed import POINTS
from tests.support.house import House, house, until


def kill(home: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.data.cleaning.killed", str(home), point]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).parents[3]
    ended = subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


async def ended(home: House) -> pb.RecipeRun:
    stub = home.stub(RecipesStub, "data")

    async def last() -> pb.RecipeRun | None:
        (run,) = (await stub.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="tidy"))).runs
        return run if run.HasField("end_time") else None

    found: pb.RecipeRun = await until(last, 30)
    return found


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_that_was_killed_ends_once(home: Path, point: str) -> None:
    kill(home, point)
    async with house(home, "data") as running:
        done = await ended(running)
        assert (done.state, done.output_version, done.rows_out) == (pb.RECIPE_RUN_STATE_SUCCEEDED, 1, 4)
        recipe = await running.stub(RecipesStub, "data").GetRecipe(pb.GetRecipeRequest(recipe="tidy"))
        assert (recipe.learned_from, recipe.learned[4].values[0].value) == (1, "2.0")
        tables = running.stub(DataSetsStub, "data")
        assert len((await tables.ReadRows(data.ReadRowsRequest(data_set="clean"))).rows) == 4
        assert len((await tables.ListQuarantine(data.ListQuarantineRequest(data_set="clean"))).rows) == 2
        told = await running.heard(data_events_pb2.DataSetVersionAdded, 2)
        assert [(event.version.data_set, event.version.version) for event in told] == [("raw", 1), ("clean", 1)]
        folder = running.runtime.home / "tables" / "acme" / "default" / "clean"
        assert not list(folder.glob("*/_stage*"))
