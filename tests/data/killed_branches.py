"""A data service that kills itself while a branch is made or merged: HOME WORK POINT SETTINGS (as JSON)."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aimass.v1 import datasets_pb2 as pb
from aimass.v1 import extractions_pb2
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from services.data.datasets import delta
from services.data.datasets.store import Store
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.killed import after, before, die
from tests.data.landing import succeeded
from tests.data.tables import data_sets
from tests.support.house import House, house

MAKE = pb.BranchDataSetRequest(data_set="flights", branch="trial")
MERGE = pb.MergeDataSetBranchRequest(data_set="flights", branch="trial")
# Each takes the class of the tables.
POINTS: dict[str, Callable[[type], None]] = {
    "begun": lambda tables: before(tables, "keep"),
    "kept": lambda tables: after(tables, "keep"),
    "shared": lambda tables: setattr(delta, "write", die),
    "logged": lambda tables: before(Store, "add"),
    "row": lambda tables: after(Store, "add"),
}


async def do(home: House, work: str) -> pb.DataSetVersion:
    """Makes or merges the branch: always the same request."""
    stub = home.stub(DataSetsStub, "data", idempotency_key="once")
    made: pb.DataSetVersion = await (stub.BranchDataSet(MAKE) if work == "make" else stub.MergeDataSetBranch(MERGE))
    return made


async def tried(home: House) -> extractions_pb2.Extraction:
    """An extraction into the branch, to its end."""
    request = extractions_pb2.RunExtractionRequest(rule="flights", branch="trial")
    begun = await home.stub(ExtractionsStub, "data").RunExtraction(request)
    return await succeeded(Tenant(home), begun.operation)


async def main(home: Path, work: str, point: str, env: dict[str, str]) -> None:
    places.flights(home, rows=3)
    async with house(home, "data", **env) as running:
        await Tenant(running).rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        await Tenant(running).extract("flights")
        if work == "merge":
            await running.stub(DataSetsStub, "data").BranchDataSet(MAKE)
            places.flights(home, rows=2, first=4)
            await tried(running)
        tables: Any = data_sets(running)._tables
        POINTS[point](type(tables))
        await do(running, work)
        await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
