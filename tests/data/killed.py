"""A data service that kills itself while a pipeline runs: `python -m tests.data.killed HOME POINT`."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aimass.v1 import pipelines_pb2 as pb
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from services.data.datasets.service import DataSets
from services.data.datasets.tables import FolderTables
from services.kit import process
from tests.data.tables import add
from tests.support.house import house

FIRST = pb.PipelineStep(data_set="first", sql="SELECT * FROM raw", inputs=["raw"], cursor="id")
SECOND = pb.PipelineStep(data_set="second", sql="SELECT count(*) AS n FROM first", inputs=["first"])


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(kind: type, name: str) -> None:
    """Kills this process instead of calling a method."""
    setattr(kind, name, die)


def after(kind: type, name: str) -> None:
    """Kills this process as soon as a method has returned."""
    method: Callable[..., Any] = getattr(kind, name)

    async def called(*args: Any, **options: Any) -> None:
        await method(*args, **options)
        die()

    setattr(kind, name, called)


async def while_computing(*_: Any) -> None:
    """Kills this process when its child has begun."""
    child = asyncio.ensure_future(RUN(*_))
    await asyncio.sleep(0.05)  # it imports for several times as long
    assert not child.done()
    die()


RUN = process.run
POINTS: dict[str, Callable[[], None]] = {
    "child": lambda: setattr(process, "run", while_computing),
    "parquet": lambda: before(FolderTables, "write"),
    "delta": lambda: after(FolderTables, "write"),
    "row": lambda: after(DataSets, "commit"),
}


async def main(home: Path, point: str) -> None:
    async with house(home, "data") as running:
        await add(running, "raw", {"id": [1, 2, 3]}, append=True)
        stub = running.stub(PipelinesStub, "data")
        await stub.CreatePipeline(pb.CreatePipelineRequest(pipeline="derive", steps=[FIRST, SECOND]))
        POINTS[point]()
        await stub.RunPipeline(pb.RunPipelineRequest(pipeline="derive"))
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
