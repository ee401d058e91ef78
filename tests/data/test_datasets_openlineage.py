"""Lineage as OpenLineage has it, through the RPC."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.json_format import MessageToDict

from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.data.datasets.domain import LineageNode
from services.kit.errors import Code
from services.kit.timestamps import to_wire, uuid7
from tests.data.tables import add
from tests.support.house import House, house
from tests.support.refused import refused

RUN = uuid7()


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        raw = (LineageNode("source", "db"), LineageNode("rule", "raw", 3))
        await add(running, "raw", {"id": [1, 2], "t": ["a", "b"]}, RUN, parents=raw)
        await add(running, "clean", {"id": [1]}, "r-1", parents=(LineageNode("data_set", "raw", 1),))
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(DataSetsStub, "data")


async def events(stub: Any, data_set: str = "clean", **more: Any) -> tuple[list[dict[str, Any]], str]:
    found = await stub.ExportLineage(pb.ExportLineageRequest(data_set=data_set, **more))
    return [MessageToDict(event) for event in found.events], found.next_page_token


async def test_each_version_is_the_end_of_a_run_with_its_inputs_and_outputs(stub: Any) -> None:
    (clean, raw), _ = await events(stub)
    version = await stub.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="raw"))

    for event in (clean, raw):
        assert (event["eventType"], event["schemaURL"]) == (
            "COMPLETE", "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        )  # fmt: skip
        assert UUID(event["run"]["runId"])
        assert event["job"]["namespace"] == "aimass://acme/default"
        facets = [*event["job"]["facets"].values(), *event["outputs"][0]["facets"].values()]
        assert all({"_producer", "_schemaURL"} <= set(facet) for facet in facets)
    assert to_wire(version.create_time.ToDatetime()) == version.create_time
    assert raw["eventTime"] == version.create_time.ToJsonString()
    assert (raw["run"]["runId"], raw["job"]["name"]) == (RUN, "rules/raw")
    assert [(i["name"], "version" in i["facets"]) for i in raw["inputs"]] == [("sources/db", False)]
    (output,) = raw["outputs"]
    assert (output["name"], output["facets"]["version"]["datasetVersion"]) == ("data-sets/raw", "1")
    assert output["facets"]["schema"]["fields"] == [{"name": "id", "type": "int64"}, {"name": "t", "type": "string"}]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert (clean["job"]["name"], clean["inputs"][0]["name"]) == ("data-sets/clean", "data-sets/raw")
    assert clean["inputs"][0]["facets"]["schema"] == output["facets"]["schema"]


async def test_the_same_version_has_the_same_run_each_time(stub: Any) -> None:
    assert await events(stub) == await events(stub) == await events(stub, version=1)


async def test_kinds_of_work_are_told_apart(home: House, stub: Any) -> None:
    await add(home, "clean", {"id": [2]}, parents=(LineageNode("data_set", "raw", 1),))
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="clean"))).etag
    await stub.RollBackDataSet(pb.RollBackDataSetRequest(data_set="clean", version=1), metadata=[("if-match", etag)])
    found, _ = await events(stub, version=3)

    kinds = {e["outputs"][0]["facets"]["version"]["datasetVersion"] + e["outputs"][0]["name"]: e for e in found}
    assert {name: e["job"]["facets"]["jobType"]["jobType"] for name, e in kinds.items()} == {
        "3data-sets/clean": "ROLL_BACK",
        "1data-sets/clean": "PIPELINE",
        "1data-sets/raw": "EXTRACTION",
    }


async def test_an_export_has_pages(stub: Any) -> None:
    (first,), token = await events(stub, page_size=1)
    (second,), end = await events(stub, page_size=1, page_token=token)

    assert ([first, second], end) == ((await events(stub))[0], "")
    assert (await refused(events(stub, page_token="x"))).code is Code.INVALID_VALUE
    assert (await refused(events(stub, version=9))).code is Code.UNKNOWN_VERSION


async def test_what_is_deleted_is_named_without_its_columns(home: House, stub: Any) -> None:
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="raw"))).etag
    await stub.DeleteDataSet(pb.DeleteDataSetRequest(data_set="raw"), metadata=[("if-match", etag)])
    (clean, raw), _ = await events(stub)

    assert set(clean["inputs"][0]["facets"]) == set(raw["outputs"][0]["facets"]) == {"version"}
    assert "outputFacets" not in raw["outputs"][0]
