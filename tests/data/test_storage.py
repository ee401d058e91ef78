"""How much projects keep: said once in an hour by a running service, of all tenants and of what is deleted as well."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from aimass.v1 import datasets_pb2 as data_sets
from aimass.v1 import features_pb2 as pb
from aimass.v1 import operations_pb2 as opb
from aimass.v1 import uploads_pb2 as up
from aimass.v1.data_events_pb2 import DataStored
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit import tasks
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.tables import add
from tests.data.test_sources_uploads import DATA, DIGEST, uploaded
from tests.support.house import House, house


async def commit(running: House, times: int = 1, **where: Any) -> None:
    sources = running.stub(SourcesStub, "data", **where)
    for _ in range(times):
        upload = await uploaded(sources)
        await sources.CommitSourceUpload(up.CommitUploadRequest(upload=upload, digest=DIGEST))


async def told(home: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> dict[tuple[str, str, str], int]:
    """What a service says that looks at once: tenant, project, what, and bytes."""
    monkeypatch.setattr(tasks, "_LOOK", 0.05)
    async with house(home, "data") as running:
        await running.heard(DataStored, count)
        reader = await running.runtime.bus.reader(["aimass.data.v1"], "test-stored")
        found: dict[tuple[str, str, str], int] = {}
        while len(found) < count:
            for event in await reader.poll(100):
                if event.type == DataStored.DESCRIPTOR.full_name:
                    kept = DataStored.FromString(event.body).kept
                    assert kept.hour.seconds % 3600 == 0
                    found[*event.scope, kept.what] = kept.bytes
    return found


async def test_tables_count_with_what_was_put_aside_and_what_is_hidden(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.flights(home)
    async with house(home, "data") as running:
        acme = Tenant(running)
        await acme.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
        await acme.extract("flights")
        places.flights(home, rows=2, first=6)
        await acme.extract("flights")
        whole = (await acme.version("flights")).bytes
        etag = (await acme.stub(DataSetsStub).GetDataSet(data_sets.GetDataSetRequest(data_set="flights"))).etag
        stub = acme.stub(DataSetsStub, if_match=f'"{etag}"')
        await stub.DeleteDataSet(data_sets.DeleteDataSetRequest(data_set="flights"))

    assert await told(home, monkeypatch, 1) == {("acme", "default", "tables"): whole}


async def test_the_size_of_an_upload_is_known_when_it_is_committed(home: Path) -> None:
    async with house(home, "data") as running:
        await commit(running)
        database = running.runtime.apps["data"].database
        assert database
        sizes = await database.read(lambda c: c.execute(text("SELECT size FROM upload")).scalars().all())

    assert sizes == [len(DATA)]


async def test_uploads_from_before_there_were_sizes_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(home, "data") as running:
        await commit(running)
        await uploaded(running.stub(SourcesStub, "data", tenant="open"))
        database = running.runtime.apps["data"].database
        assert database
        await database.run(lambda c: c.execute(text("UPDATE upload SET size = NULL")) and None)

    assert await told(home, monkeypatch, 1) == {("acme", "default", "uploads"): len(DATA)}


async def test_uploads_count_once_in_each_project_that_committed_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(home, "data") as running:
        await commit(running, times=2)
        await commit(running, project="other")
        await commit(running, tenant="umbra")
        await uploaded(running.stub(SourcesStub, "data", tenant="open"))  # never committed

    assert await told(home, monkeypatch, 3) == {
        ("acme", "default", "uploads"): len(DATA),
        ("acme", "other", "uploads"): len(DATA),
        ("umbra", "default", "uploads"): len(DATA),
    }


async def fitted(running: House, name: str, times: int = 1) -> str:
    """The digest of the newest graph of a feature set."""
    sets, operations = running.stub(FeatureSetsStub, "data"), running.stub(OperationsStub, "data")
    for _ in range(times):
        started = await sets.FitFeatureSet(pb.FitFeatureSetRequest(feature_set=name))
        ended = await operations.WaitOperation(opb.WaitOperationRequest(operation=started.operation))
        assert ended.state == opb.OPERATION_STATE_SUCCEEDED
    return str((await sets.GetFeatureSetVersion(pb.GetFeatureSetVersionRequest(feature_set=name))).digest)


async def graph(running: House, name: str, transform: pb.Transform.ValueType, times: int) -> int:
    """Bytes of the graph of a feature set that is fitted some times and deleted then."""
    step = pb.FeatureStep(column="x", transform=transform)
    wanted = pb.CreateFeatureSetRequest(feature_set=name, data_set="raw", label="late", key="id", steps=[step])
    await running.stub(FeatureSetsStub, "data").CreateFeatureSet(wanted)
    digest = await fitted(running, name, times)
    found = await running.stub(FeatureSetsStub, "data").GetFeatureSet(pb.GetFeatureSetRequest(feature_set=name))
    gone = running.stub(FeatureSetsStub, "data", if_match=f'"{found.etag}"')
    await gone.DeleteFeatureSet(pb.DeleteFeatureSetRequest(feature_set=name))
    return await running.runtime.blobs.size("acme", digest)


@pytest.mark.parametrize("known", [True, False], ids=["with their sizes", "from before there were sizes"])
async def test_graphs_of_feature_sets_count_once_each(home: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    async with house(home, "data") as running:
        await add(running, "raw", {"id": [1, 2, 3], "x": [1.0, 2.0, 4.0], "late": [0, 1, 0]})
        same = await graph(running, "plain", pb.TRANSFORM_IDENTITY, 2)
        other = await graph(running, "scaled", pb.TRANSFORM_MIN_MAX, 1)
        if not known:
            database = running.runtime.apps["data"].database
            assert database
            await database.run(lambda c: c.execute(text("UPDATE feature_set_version SET size = NULL")) and None)

    assert (await told(home, monkeypatch, 2))["acme", "default", "feature-sets"] == same + other > 0
