"""A data service that kills itself while a series set runs: `python -m tests.data.series.killed HOME POINT`."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from aimass.v1 import series_pb2 as pb
from aimass.v1.series_pb2_grpc import SeriesSetsStub
from services.data.datasets.service import DataSets
from services.data.datasets.tables import FolderTables
from services.data.series.runner import SeriesRunner
from services.kit import process
from tests.data.killed import after, before, while_computing
from tests.data.tables import add
from tests.support.house import house

LAG = pb.SeriesFeature(name="before", statistic=pb.SERIES_STATISTIC_LAG, column="x", rows=1)
HOUR = 3_600_000_000
POINTS: dict[str, Callable[[], None]] = {
    "child": lambda: setattr(process, "run", while_computing),
    "state": lambda: after(SeriesRunner, "_work"),
    "parquet": lambda: before(FolderTables, "write"),
    "delta": lambda: after(FolderTables, "write"),
    "row": lambda: after(DataSets, "commit"),
}


async def main(home: Path, point: str) -> None:
    """The second run dies, which goes on from the first one's state."""
    async with house(home, "data") as running:
        import pyarrow as pa

        def rows(*hours: int) -> pa.Table:
            return pa.table({"at": pa.array([hour * HOUR for hour in hours], pa.timestamp("us", "UTC")), "x": hours})

        await add(running, "raw", rows(2, 1), append=True)
        stub = running.stub(SeriesSetsStub, "data")
        made = pb.CreateSeriesSetRequest(
            series_set="lags", data_set="raw", output_data_set="out", time="at", features=[LAG]
        )
        await stub.CreateSeriesSet(made)
        await stub.RunSeriesSet(pb.RunSeriesSetRequest(series_set="lags"))
        while not (await stub.GetSeriesSet(pb.GetSeriesSetRequest(series_set="lags"))).latest_version:
            await asyncio.sleep(0.02)
        await add(running, "raw", rows(1, 3), append=True)
        POINTS[point]()
        await stub.RunSeriesSet(pb.RunSeriesSetRequest(series_set="lags"))
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
