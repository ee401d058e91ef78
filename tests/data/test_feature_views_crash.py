"""kill -9 at chosen points of a materialisation or a join: after a restart it goes on, and reads tell no difference."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.v1 import feature_views_pb2 as pb
from tests.data import killed
from tests.data.killed_views import POINTS, ROWS, SENSORS
from tests.data.test_feature_joins import rows
from tests.data.test_pipelines_crash import finished
from tests.data.views import reads, values
from tests.support.house import house


def kill(home: Path, point: str, module: str = "tests.data.killed_views", redis: str = "") -> None:
    command = [sys.executable, "-m", module, str(home), point, *([redis] if redis else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.parametrize("store", ["database", pytest.param("redis", marks=pytest.mark.far)])
@pytest.mark.parametrize("point", POINTS)
async def test_a_materialisation_goes_on_where_it_was_killed(
    home: Path, point: str, store: str, request: pytest.FixtureRequest
) -> None:
    redis = request.getfixturevalue("redis_server").address if store == "redis" else ""
    kill(home, point, redis=redis)
    async with house(home, "data", **({"AIMASS_DATA_FEATURES_URL": redis} if redis else {})) as running:
        operation, done = await finished(running), pb.Materialisation()
        assert operation.response.Unpack(done), operation.error
        assert (done.rows, done.future_rows, done.rows_out_of_range, done.rows_without_key) == (ROWS, 0, 0, 0)
        newest = {number % SENSORS: float(number) for number in range(ROWS)}
        found = await values(running, *(f"s{sensor}" for sensor in range(100)))
        wanted = [[newest[sensor], "on"] for sensor in range(100)]
        assert found == wanted
        if redis:
            before = reads("redis")
            async with asyncio.timeout(30):  # until it has what it missed
                while reads("redis") == before:
                    assert await values(running, *(f"s{sensor}" for sensor in range(100))) == wanted
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize("point", killed.POINTS)
async def test_a_join_goes_on_where_it_was_killed_and_adds_one_version(home: Path, point: str) -> None:
    kill(home, point, "tests.data.killed_joins")
    async with house(home, "data") as running:
        operation, done = await finished(running), pb.FeatureJoin()
        assert operation.response.Unpack(done), operation.error
        assert (done.version, done.rows, list(done.found)) == (1, 2, [2])
        assert [row["last_temp"] for row in await rows(running)] == [1, 2]
