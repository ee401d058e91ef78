"""A data service that kills itself while a data set is divided: `python -m tests.data.killed_rewrite HOME POINT`."""

import asyncio
import sys
from pathlib import Path

from aimass.v1 import datasets_pb2
from aimass.v1 import partitions_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.partitions_pb2_grpc import PartitionsStub
from tests.data.killed import POINTS
from tests.data.tables import add
from tests.support.house import house

LAYOUT = pb.Partitioning(strategy=pb.PARTITION_STRATEGY_HASH, fields=["carrier"], count=4)
ROWS = {"id": [1, 2, 3, 4, 5], "carrier": ["UA", "DL", None, "UA", "B6"]}


async def main(home: Path, point: str) -> None:
    async with house(home, "data") as running:
        await add(running, "flights", ROWS)
        found = await running.stub(DataSetsStub, "data").GetDataSet(datasets_pb2.GetDataSetRequest(data_set="flights"))
        POINTS[point]()
        request = pb.RepartitionDataSetRequest(data_set="flights", partitioning=LAYOUT)
        await running.stub(PartitionsStub, "data").RepartitionDataSet(request, metadata=[("if-match", found.etag)])
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
