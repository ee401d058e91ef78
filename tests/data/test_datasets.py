"""Data sets through their RPCs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from aimass.v1 import data_events_pb2
from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.data.datasets.domain import LineageNode
from services.kit.errors import Code, Failure
from tests.data.tables import SCOPE, add, data_sets, written
from tests.support.house import House, house
from tests.support.refused import code_of

FLIGHTS = {"id": [1, 2, 3], "carrier": ["UA", None, "DL"], "delay": [1.5, float("nan"), None]}
MORE = {"id": [4], "carrier": ["AA"], "delay": [4.5]}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(DataSetsStub, "data")


def ids(answer: Any) -> list[int]:
    return [int(row["id"]) for row in answer.rows]


async def test_a_version_says_what_it_holds(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS, broken=[("{}", "no id", "db:9")])
    found = await stub.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights"))

    assert (found.version, found.rows, found.rows_added) == (1, 3, 3)
    assert [(c.name, c.type) for c in found.schema.columns] == [("id", 2), ("carrier", 4), ("delay", 3)]
    assert [(c.nulls, c.distinct, c.minimum, c.maximum, c.mean) for c in found.quality.columns] == [
        (0, 3, "1", "3", 2.0), (1, 2, "DL", "UA", 0.0), (1, 2, "1.5", "1.5", 1.5)
    ]  # fmt: skip
    assert (dict(found.quality.quarantined), found.quality.rows) == ({"no id": 1}, 3)
    assert found.digest.startswith("sha256:")


async def test_an_appended_version_has_old_and_new_rows_and_the_old_one_stays(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS, append=True)
    before = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", version=1))
    second = await add(home, "flights", MORE, append=True)
    both = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights"))

    assert (second.rows, second.rows_added, second.quality.columns[0].maximum) == (4, 1, "4")
    assert ids(both) == [1, 2, 3, 4]
    assert await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", version=1)) == before


async def test_a_version_that_replaces_has_only_its_own_rows(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS)
    second = await add(home, "flights", {"id": ["a"]})

    assert (second.rows, second.parents) == (1, (LineageNode("source", "db"),))
    assert (await stub.ReadRows(pb.ReadRowsRequest(data_set="flights"))).rows[0]["id"] == "a"
    assert ids(await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", version=1))) == [1, 2, 3]


async def test_equal_rows_have_equal_digests(home: House) -> None:
    one, other, more = [await add(home, name, FLIGHTS) for name in ("one", "other")] + [await add(home, "one", MORE)]

    assert one.digest == other.digest != more.digest


async def test_pages_go_through_all_rows_of_one_version(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": list(range(1, 8))}, append=True)
    first = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", page_size=3))
    await add(home, "flights", {"id": [8]}, append=True)
    found, token = ids(first), first.next_page_token
    while token:
        page = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", page_size=3, page_token=token))
        found, token = found + ids(page), page.next_page_token

    assert found == [1, 2, 3, 4, 5, 6, 7]


async def test_columns_come_as_asked_for(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS)
    page = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", columns=["delay", "id"]))

    assert [dict(row) for row in page.rows][:2] == [{"delay": 1.5, "id": 1}, {"delay": "NaN", "id": 2}]
    call = stub.ReadRows(pb.ReadRowsRequest(data_set="flights", columns=["nosuch"]))
    assert await code_of(call) is Code.INVALID_VALUE


async def test_rows_put_aside_are_listed_with_their_reason(home: House, stub: Any) -> None:
    broken = [(f"record {i}", "no id", f"db:{i}") for i in range(3)]
    await add(home, "flights", FLIGHTS, broken=broken)
    await add(home, "flights", MORE, append=True)
    first = await stub.ListQuarantine(pb.ListQuarantineRequest(data_set="flights", version=1, page_size=2))
    request = pb.ListQuarantineRequest(data_set="flights", version=1, page_size=2, page_token=first.next_page_token)
    second = await stub.ListQuarantine(request)

    assert [(row.record, row.reason, row.origin) for row in (*first.rows, *second.rows)] == broken
    assert not second.next_page_token
    assert not (await stub.ListQuarantine(pb.ListQuarantineRequest(data_set="flights", version=2))).rows


async def test_a_column_may_be_added_and_its_type_may_not_change(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1]}, append=True)
    second = await add(home, "flights", {"id": [2], "gate": ["A1"]}, append=True)

    assert [(q.nulls, q.distinct) for q in second.quality.columns] == [(0, 2), (1, 1)]
    assert [dict(row) for row in (await stub.ReadRows(pb.ReadRowsRequest(data_set="flights"))).rows] == [
        {"id": 1, "gate": None}, {"id": 2, "gate": "A1"}
    ]  # fmt: skip
    with pytest.raises(Failure, match="the column id of flights holds int64, the new rows have string"):
        await add(home, "flights", {"id": ["x"]}, append=True)


async def test_a_run_adds_its_version_once(home: House) -> None:
    new = await written(home, "flights", FLIGHTS, "r1")
    effects: list[int] = []
    versions = [
        await data_sets(home).commit(SCOPE, new, lambda connection, version: effects.append(version.version))
        for _ in range(3)
    ]

    assert [version.version for version in versions] == [1, 1, 1]
    assert effects == [1]
    with pytest.raises(Failure, match="the run r1 has added its version"):
        await data_sets(home).prepare(SCOPE, "flights", "r1")


async def test_effects_that_fail_leave_no_version_and_the_run_can_come_again(home: House, stub: Any) -> None:
    tried: list[int] = []

    def fail(connection: Any, version: Any) -> None:
        tried.append(version.version)
        raise Failure(Code.CONFLICT, "no")

    new = await written(home, "flights", FLIGHTS)
    with pytest.raises(Failure, match="no"):
        await data_sets(home).commit(SCOPE, new, fail)
    assert tried == [1]
    await add(home, "flights", MORE)
    assert (await data_sets(home).commit(SCOPE, new)).version == 2
    assert ids(await stub.ReadRows(pb.ReadRowsRequest(data_set="flights"))) == [1, 2, 3]
    assert ids(await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", version=1))) == [4]


async def test_commits_at_the_same_time_take_their_turns(home: House) -> None:
    import asyncio

    news = [await written(home, "flights", {"id": [i]}, append=True) for i in range(4)]
    versions = await asyncio.gather(*(data_sets(home).commit(SCOPE, new) for new in news))

    assert sorted((version.version, version.rows) for version in versions) == [(1, 1), (2, 2), (3, 3), (4, 4)]


async def test_what_failed_leaves_no_files(home: House) -> None:
    new = await written(home, "flights", FLIGHTS, "r1")
    folder = home.runtime.home / "tables" / "acme" / "default" / "flights" / "r1"
    await data_sets(home).discard(SCOPE, "flights", "r1")
    assert not folder.exists()

    new = await written(home, "flights", FLIGHTS, "r1")
    await data_sets(home).commit(SCOPE, new)
    await data_sets(home).discard(SCOPE, "flights", "r1")
    assert folder.exists()


async def test_every_version_is_told_of(home: House) -> None:
    await add(home, "flights", FLIGHTS)
    await add(home, "flights", MORE)
    first, second = await home.heard(data_events_pb2.DataSetVersionAdded, 2)

    assert [(e.version.version, e.generation) for e in (first, second)] == [(1, 2), (2, 3)]


async def test_a_worker_is_told_where_the_files_lie(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS, append=True)
    await add(home, "flights", MORE, append=True)
    found = await stub.LocateDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights"))

    tables = [pa.parquet.read_table(f"{found.uri}/{file.path}") for file in found.files]
    assert pa.concat_tables(tables)["id"].to_pylist() == [1, 2, 3, 4]
    assert (found.delta_version, found.version.version, [file.rows for file in found.files]) == (1, 2, [3, 1])


async def test_lineage_goes_both_ways(home: House, stub: Any) -> None:
    raw = (LineageNode("source", "db"), LineageNode("rule", "flights_raw", 1))
    await add(home, "raw", FLIGHTS, parents=raw)
    await add(home, "weather", MORE, parents=())
    await add(
        home, "flights", FLIGHTS, parents=(LineageNode("data_set", "raw", 1), LineageNode("data_set", "weather", 1))
    )
    await add(home, "late", FLIGHTS, parents=(LineageNode("data_set", "flights", 1),))
    service, feature = data_sets(home), LineageNode("feature_set", "late", 1)
    database = home.runtime.apps["data"].database
    assert database
    await database.run(lambda c: service.link(c, SCOPE, [LineageNode("data_set", "late", 1)], feature))
    found = await stub.GetLineage(pb.GetLineageRequest(data_set="flights"))
    of_raw = await stub.GetLineage(pb.GetLineageRequest(data_set="raw"))

    names = {f"{node.kind}:{node.name}" for node in found.nodes}
    assert names == {"source:db", "rule:flights_raw", "data_set:raw", "data_set:weather", "data_set:flights",
                     "data_set:late", "feature_set:late"}  # fmt: skip
    assert len(found.edges) == 6
    assert "data_set:weather" not in {f"{node.kind}:{node.name}" for node in of_raw.nodes}


async def test_data_sets_are_listed_by_name(home: House, stub: Any) -> None:
    for name in ("b", "c", "a"):
        await add(home, name, MORE)
    first = await stub.ListDataSets(pb.ListDataSetsRequest(page_size=2))
    second = await stub.ListDataSets(pb.ListDataSetsRequest(page_size=2, page_token=first.next_page_token))

    assert [found.data_set for found in (*first.data_sets, *second.data_sets)] == ["a", "b", "c"]
    assert (first.data_sets[0].latest_version, first.data_sets[0].etag) == (1, "2")


async def test_versions_are_listed_newest_first(home: House, stub: Any) -> None:
    for _ in range(3):
        await add(home, "flights", MORE)
    first = await stub.ListDataSetVersions(pb.ListDataSetVersionsRequest(data_set="flights", page_size=2))
    request = pb.ListDataSetVersionsRequest(data_set="flights", page_size=2, page_token=first.next_page_token)
    second = await stub.ListDataSetVersions(request)

    assert [found.version for found in (*first.versions, *second.versions)] == [3, 2, 1]


async def test_a_deleted_data_set_is_gone_until_it_is_brought_back(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS)
    wrong = home.stub(DataSetsStub, "data", if_match='"7"').DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights"))
    assert await code_of(wrong) is Code.ETAG_MISMATCH
    right = home.stub(DataSetsStub, "data", if_match='"2"')
    gone = await right.DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights"))
    assert gone.HasField("delete_time")
    assert await right.DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights")) == gone

    assert await code_of(stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))) is Code.NOT_FOUND
    assert await code_of(stub.ReadRows(pb.ReadRowsRequest(data_set="flights"))) is Code.NOT_FOUND
    assert await code_of(add(home, "flights", MORE)) is Code.FAILED_PRECONDITION
    assert not (await stub.ListDataSets(pb.ListDataSetsRequest())).data_sets
    assert len((await stub.ListDataSets(pb.ListDataSetsRequest(show_deleted=True))).data_sets) == 1
    back = await stub.UndeleteDataSet(pb.UndeleteDataSetRequest(data_set="flights"))
    assert (back.etag, back.HasField("delete_time")) == ("4", False)
    assert ids(await stub.ReadRows(pb.ReadRowsRequest(data_set="flights"))) == [1, 2, 3]


async def test_what_is_not_there_is_said_by_name(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS)
    with pytest.raises(Failure, match="flights has no version 9") as caught:
        await stub.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights", version=9))
    assert caught.value.code is Code.UNKNOWN_VERSION
    with pytest.raises(Failure, match="there is no data set nosuch"):
        await stub.GetLineage(pb.GetLineageRequest(data_set="nosuch"))
    assert await code_of(stub.ReadRows(pb.ReadRowsRequest(data_set="flights", page_token="x"))) is Code.INVALID_VALUE
    assert await code_of(stub.ReadRows(pb.ReadRowsRequest(data_set="flights", version=-1))) is Code.UNKNOWN_VERSION
    with pytest.raises(Failure, match="cannot be part of a table's name"):
        await add(home, "../etc", MORE)


async def test_another_tenant_finds_nothing(home: House) -> None:
    await add(home, "flights", FLIGHTS)
    foreign = home.stub(DataSetsStub, "data", tenant="other", if_match='"2"')
    tables = [pb.QueryTable(data_set="flights")]

    for call in (
        foreign.GetDataSet(pb.GetDataSetRequest(data_set="flights")),
        foreign.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights")),
        foreign.ListDataSetVersions(pb.ListDataSetVersionsRequest(data_set="flights")),
        foreign.ReadRows(pb.ReadRowsRequest(data_set="flights")),
        foreign.ListQuarantine(pb.ListQuarantineRequest(data_set="flights")),
        foreign.GetLineage(pb.GetLineageRequest(data_set="flights")),
        foreign.LocateDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights")),
        foreign.DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights")),
        foreign.UndeleteDataSet(pb.UndeleteDataSetRequest(data_set="flights")),
        foreign.QueryDataSets(pb.QueryDataSetsRequest(sql="SELECT 1 FROM flights", tables=tables)),
    ):
        assert await code_of(call) is Code.NOT_FOUND
    assert not (await foreign.ListDataSets(pb.ListDataSetsRequest())).data_sets


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as home:
        await add(home, "flights", FLIGHTS, append=True)
    async with house(tmp_path, "data") as home:
        await add(home, "flights", MORE, append=True)
        assert ids(await home.stub(DataSetsStub, "data").ReadRows(pb.ReadRowsRequest(data_set="flights"))) == [
            1,
            2,
            3,
            4,
        ]
