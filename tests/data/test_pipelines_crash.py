"""kill -9 at chosen points of a pipeline: after a restart it goes on, nothing is lost, nothing happens twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.v1 import data_events_pb2, datasets_pb2, operations_pb2
from aimass.v1 import pipelines_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from tests.data.killed import POINTS
from tests.data.tables import add
from tests.support.house import House, house, until


def kill(home: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.data.killed", str(home), point]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def files(home: Path) -> dict[str, int]:
    """The files of the first step's table and when they were written."""
    return {path.name: path.stat().st_ino for path in home.glob("tables/acme/default/first/*/part-*.parquet")}


async def finished(home: House) -> operations_pb2.Operation:
    operations = home.stub(OperationsStub, "data")

    async def last() -> operations_pb2.Operation | None:
        found = await operations.ListOperations(operations_pb2.ListOperationsRequest(service="data"))
        operation: operations_pb2.Operation = found.operations[0]
        return operation if operation.HasField("end_time") else None

    operation: operations_pb2.Operation = await until(last, 30)
    return operation


async def outputs(home: House) -> list[tuple[str, int, int]]:
    operation, run = await finished(home), pb.PipelineRun()
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    operation.response.Unpack(run)
    return [(output.data_set, output.version, output.rows) for output in run.outputs]


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_goes_on_where_it_was_killed(tmp_path: Path, point: str) -> None:
    kill(tmp_path, point)
    written = files(tmp_path)
    async with house(tmp_path, "data") as home:
        assert await outputs(home) == [("first", 1, 3), ("second", 1, 1)]
        stub = home.stub(DataSetsStub, "data")
        rows = (await stub.ReadRows(datasets_pb2.ReadRowsRequest(data_set="first"))).rows
        assert [row["id"] for row in rows] == [1, 2, 3]
        if point in ("parquet", "delta", "row"):
            assert files(tmp_path) == written, "a step whose files were kept is not computed again"
        told = await home.heard(data_events_pb2.DataSetVersionAdded, 3)
        assert [(event.version.data_set, event.version.version) for event in told] == [
            ("raw", 1), ("first", 1), ("second", 1)
        ]  # fmt: skip


async def test_what_a_killed_run_left_in_the_log_does_not_disturb_the_next(tmp_path: Path) -> None:
    kill(tmp_path, "delta")
    async with house(tmp_path, "data") as home:
        assert len(await outputs(home)) == 2
        await add(home, "raw", {"id": [4]}, append=True)
        await home.stub(PipelinesStub, "data").RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
        assert await outputs(home) == [("first", 2, 1), ("second", 2, 1)]
        request = datasets_pb2.GetDataSetVersionRequest(data_set="first")
        location = await home.stub(DataSetsStub, "data").LocateDataSetVersion(request)
        assert (location.delta_version, [file.rows for file in location.files]) == (1, [3, 1])
