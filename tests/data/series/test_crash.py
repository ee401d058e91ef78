"""kill -9 at chosen points of a run: after a restart it goes on, no row is lost or doubled, the state is right."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.v1 import data_events_pb2, datasets_pb2, operations_pb2
from aimass.v1 import series_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.series_pb2_grpc import SeriesSetsStub
from tests.data.series.killed import POINTS
from tests.support.house import House, house, until


def kill(home: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.data.series.killed", str(home), point]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run(
        command, cwd=Path(__file__).parents[3], env=env, capture_output=True, timeout=90, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


async def ended(home: House) -> bool:
    found = await home.stub(OperationsStub, "data").ListOperations(operations_pb2.ListOperationsRequest(service="data"))
    return all(operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED for operation in found.operations)


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_goes_on_where_it_was_killed(tmp_path: Path, point: str) -> None:
    kill(tmp_path, point)
    async with house(tmp_path, "data") as home:
        await until(lambda: ended(home), 60)
        stub = home.stub(SeriesSetsStub, "data")
        version = await stub.GetSeriesSetVersion(pb.GetSeriesSetVersionRequest(series_set="lags"))
        rows = (await home.stub(DataSetsStub, "data").ReadRows(datasets_pb2.ReadRowsRequest(data_set="out"))).rows

        assert (version.version, version.follows, version.rows, version.late, version.output_version) == (2, 1, 1, 1, 2)
        assert [(row["x"], row["before"]) for row in rows] == [(1, None), (2, 1), (3, 2)]
        told = await home.heard(data_events_pb2.DataSetVersionAdded, 4)
        assert [(event.version.data_set, event.version.version) for event in told] == [
            ("raw", 1), ("out", 1), ("raw", 2), ("out", 2)
        ]  # fmt: skip
