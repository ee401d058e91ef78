"""Data sets through their RPCs at the edges: pages, names, tenants, commits that meet."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.data.datasets.domain import LineageNode
from services.data.datasets.store import lineage
from services.kit import pages
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from tests.data.tables import SCOPE, add, data_sets, written
from tests.support.house import House, house
from tests.support.refused import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("datasets"), "data") as running:
        await add(
            running, "flights", {"id": [1, 2, 3], "carrier": ["UA", None, "DL"]}, broken=[("{}", "bad", "db:1")] * 3
        )
        await add(running, "many", {"id": list(range(1200))})
        yield running


def stub(home: House, **how: Any) -> Any:
    return home.stub(DataSetsStub, "data", **how)


FORGED = [
    pages.token(1, -5),
    pages.token(0, 0),
    pages.token(-1, 2),
    pages.token(1, "a"),
    pages.token(1),
    "x",
    "====",
    "ü",
]


@pytest.mark.parametrize("token", FORGED)
async def test_a_token_that_was_never_given_out_is_refused(home: House, token: str) -> None:
    for call in (
        stub(home).ReadRows(pb.ReadRowsRequest(data_set="flights", page_token=token)),
        stub(home).ListQuarantine(pb.ListQuarantineRequest(data_set="flights", page_token=token)),
    ):
        failure = await refused(call)
        assert (failure.code, failure.violations[0].pointer) == (Code.INVALID_VALUE, "/page_token")


async def test_a_token_keeps_to_its_version(home: House) -> None:
    token = pages.token(1, 2)
    requests: list[tuple[str, Any]] = [
        ("ReadRows", pb.ReadRowsRequest(data_set="flights", version=2, page_token=token)),
        ("ListQuarantine", pb.ListQuarantineRequest(data_set="flights", version=2, page_token=token)),
    ]
    for name, request in requests:
        assert (await refused(getattr(stub(home), name)(request))).detail == "page_token is of another version"
        request.version = 1
        assert len((await getattr(stub(home), name)(request)).rows) == 1


@pytest.mark.parametrize("start", [3, 4, 2**31, 2**63 - 1])
async def test_behind_the_last_row_there_is_an_empty_page(home: House, start: int) -> None:
    found = await stub(home).ReadRows(pb.ReadRowsRequest(data_set="flights", page_token=pages.token(1, start)))

    assert (list(found.rows), found.next_page_token) == ([], "")


@pytest.mark.parametrize(("size", "rows"), [(0, 100), (1, 1), (999, 999), (1000, 1000), (5000, 1000)])
async def test_a_page_has_as_many_rows_as_it_may(home: House, size: int, rows: int) -> None:
    found = await stub(home).ReadRows(pb.ReadRowsRequest(data_set="many", page_size=size))

    assert len(found.rows) == rows
    assert found.next_page_token


async def test_a_negative_page_is_refused_everywhere(home: House) -> None:
    for call in (
        stub(home).ListDataSets(pb.ListDataSetsRequest(page_size=-1)),
        stub(home).ListDataSetVersions(pb.ListDataSetVersionsRequest(data_set="flights", page_size=-1)),
        stub(home).ReadRows(pb.ReadRowsRequest(data_set="flights", page_size=-1)),
        stub(home).ListQuarantine(pb.ListQuarantineRequest(data_set="flights", page_size=-1)),
    ):
        assert (await refused(call)).violations[0].pointer == "/page_size"


@pytest.mark.parametrize("name", ["", "Flights", "../etc", "a b", "1st", "x" * 64, "é", "a\0"])
async def test_a_name_that_cannot_be_one_is_refused_before_anything_is_read(home: House, name: str) -> None:
    for call in (
        stub(home).GetDataSet(pb.GetDataSetRequest(data_set=name)),
        stub(home).ReadRows(pb.ReadRowsRequest(data_set=name)),
        stub(home).GetLineage(pb.GetLineageRequest(data_set=name)),
        stub(home).UndeleteDataSet(pb.UndeleteDataSetRequest(data_set=name)),
        stub(home).QueryDataSets(pb.QueryDataSetsRequest(sql="SELECT 1", tables=[pb.QueryTable(data_set=name)])),
    ):
        assert (await refused(call)).code is Code.INVALID_NAME


async def test_columns_are_asked_for_once_and_in_any_order(home: House) -> None:
    request = pb.ReadRowsRequest(data_set="flights", columns=["carrier", "id", "carrier"], page_size=1)
    (row,) = (await stub(home).ReadRows(request)).rows

    assert dict(row) == {"carrier": "UA", "id": 1}
    wrong = pb.ReadRowsRequest(data_set="flights", columns=["id", "ID"])
    assert (await refused(stub(home).ReadRows(wrong))).violations[0].pointer == "/columns/1"


@pytest.mark.parametrize("version", [2, -1, 2**31 - 1, -(2**31)])
async def test_a_version_that_is_not_there_is_said_by_every_call(home: House, version: int) -> None:
    tables = [pb.QueryTable(data_set="flights", version=version)]
    for call in (
        stub(home).GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights", version=version)),
        stub(home).ReadRows(pb.ReadRowsRequest(data_set="flights", version=version)),
        stub(home).ListQuarantine(pb.ListQuarantineRequest(data_set="flights", version=version)),
        stub(home).GetLineage(pb.GetLineageRequest(data_set="flights", version=version)),
        stub(home).LocateDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights", version=version)),
        stub(home).QueryDataSets(pb.QueryDataSetsRequest(sql="SELECT 1 FROM flights", tables=tables)),
    ):
        failure = await refused(call)
        assert (failure.code, failure.detail) == (Code.UNKNOWN_VERSION, f"flights has no version {version}")


async def test_a_data_set_that_was_only_prepared_has_no_version(home: House) -> None:
    await data_sets(home).prepare(SCOPE, "begun", "r1")
    found = await stub(home).GetDataSet(pb.GetDataSetRequest(data_set="begun"))

    assert (found.latest_version, found.etag) == (0, "1")
    assert (
        await refused(stub(home).ReadRows(pb.ReadRowsRequest(data_set="begun")))
    ).detail == "begun has no version yet"
    assert not (await stub(home).ListDataSetVersions(pb.ListDataSetVersionsRequest(data_set="begun"))).versions


async def test_a_version_of_no_rows_is_a_version(home: House) -> None:
    import pyarrow as pa

    made = await add(home, "empty", pa.table({"id": pa.array([], pa.int64())}), append=True)
    more = await add(home, "empty", {"id": [7]}, append=True)
    request = pb.QueryDataSetsRequest(sql="SELECT count(*) AS n FROM empty", tables=[pb.QueryTable(data_set="empty")])

    assert (made.rows, more.rows, more.rows_added) == (0, 1, 1)
    assert dict((await stub(home).QueryDataSets(request)).rows[0]) == {"n": 1}
    assert not (await stub(home).ReadRows(pb.ReadRowsRequest(data_set="empty", version=1))).rows


async def test_a_column_that_differs_by_its_case_only_is_refused(home: House) -> None:
    await add(home, "cased", {"Id": [1]}, append=True)
    failure = await refused(add(home, "cased", {"id": [2]}, append=True))

    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.detail == "the column id of the new rows is called Id in cased"
    assert (await add(home, "cased", {"id": [2]})).version == 2


@pytest.mark.parametrize("name", ["", "__x", "x" * 129])
async def test_a_column_that_cannot_be_called_so_is_refused(home: House, name: str) -> None:
    assert (await refused(add(home, "named", {name: [1]}))).code is Code.INVALID_VALUE


async def test_a_commit_goes_to_its_end_when_its_caller_goes_away(home: House) -> None:
    new = await written(home, "left", {"id": [1]})
    commit = asyncio.ensure_future(data_sets(home).commit(SCOPE, new))
    await asyncio.sleep(0)
    commit.cancel()
    await asyncio.wait([commit])
    again = await data_sets(home).commit(SCOPE, new)

    assert (again.version, again.run) == (1, new.run)


async def test_one_run_that_is_committed_by_many_adds_one_version(home: House) -> None:
    new = await written(home, "raced", {"id": [1]}, append=True)
    found = await asyncio.gather(*(data_sets(home).commit(SCOPE, new) for _ in range(6)))

    assert {version.version for version in found} == {1}
    assert (await stub(home).GetDataSet(pb.GetDataSetRequest(data_set="raced"))).latest_version == 1


async def test_what_a_commit_was_to_do_can_be_recalled_until_it_is_discarded(home: House) -> None:
    def fail(connection: Any, version: Any) -> None:
        raise Failure(Code.CONFLICT, "no")

    new = await written(home, "kept", {"x": [1e308, float("nan"), None]}, notes={"cursor": [1, None]})
    await refused(data_sets(home).commit(SCOPE, new, fail))
    assert await data_sets(home).recover(SCOPE, "kept", new.run) == new
    assert await data_sets(home).recover(Scope("other"), "kept", new.run) is None
    await data_sets(home).discard(SCOPE, "kept", new.run)
    assert await data_sets(home).recover(SCOPE, "kept", new.run) is None


async def test_versions_of_several_data_sets_are_added_together_or_not_at_all(home: House) -> None:
    service, run = data_sets(home), "together"
    news = [await written(home, name, {"id": [1, 2]}, run) for name in ("both-b", "both-a")]

    def refuse(*_: Any) -> None:
        raise Failure(Code.FAILED_PRECONDITION, "not now")

    with pytest.raises(Failure, match="not now"):
        await service.commit_all(SCOPE, news, refuse)
    for name in ("both-a", "both-b"):
        assert (await refused(stub(home).ReadRows(pb.ReadRowsRequest(data_set=name)))).code is Code.UNKNOWN_VERSION

    told: list[Any] = []
    made = await service.commit_all(SCOPE, news, lambda _, versions: told.append(versions))
    assert [(version.data_set, version.version, version.rows) for version in made] == [
        ("both-b", 1, 2),
        ("both-a", 1, 2),
    ]
    assert told == [made]
    again = await service.commit_all(SCOPE, news, refuse)
    assert [version.digest for version in again] == [version.digest for version in made]
    assert [await service.recover(SCOPE, new.data_set, run) for new in news] == news


async def test_where_one_of_several_data_sets_cannot_be_written_none_is(home: House) -> None:
    await add(home, "typed", {"id": ["a"]})
    news = [await written(home, "untyped", {"id": [1]}, "half")]
    news.append(await written(home, "typed", {"id": [1]}, "half", append=True))

    with pytest.raises(Failure, match="the column id of typed holds string"):
        await data_sets(home).commit_all(SCOPE, news)
    assert (await refused(stub(home).ReadRows(pb.ReadRowsRequest(data_set="untyped")))).code is Code.UNKNOWN_VERSION
    assert [await data_sets(home).recover(SCOPE, new.data_set, "half") for new in news] == [None, None]


async def test_commits_of_the_same_data_sets_in_another_order_wait_for_no_other(home: House) -> None:
    service = data_sets(home)
    runs = [
        [await written(home, name, {"id": [n]}, f"cross-{n}", append=True) for name in (("x", "y"), ("y", "x"))[n % 2]]
        for n in range(6)
    ]
    async with asyncio.timeout(20):
        made = await asyncio.gather(*(service.commit_all(SCOPE, news) for news in runs))

    assert sorted(version.version for versions in made for version in versions) == sorted([*range(1, 7)] * 2)


async def test_two_projects_of_a_tenant_do_not_see_each_other(home: House) -> None:
    other = stub(home, project="other", if_match='"2"')

    assert (await refused(other.GetDataSet(pb.GetDataSetRequest(data_set="flights")))).code is Code.NOT_FOUND
    assert (await refused(other.DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights")))).code is Code.NOT_FOUND
    assert not (await other.ListDataSets(pb.ListDataSetsRequest(show_deleted=True))).data_sets


async def test_a_key_may_do_no_more_than_it_was_given(home: House) -> None:
    reader = home.stub(DataSetsStub, "data", "data_sets.get")
    await reader.GetDataSet(pb.GetDataSetRequest(data_set="flights"))

    for call in (
        reader.ReadRows(pb.ReadRowsRequest(data_set="flights")),
        reader.LocateDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights")),
        reader.UndeleteDataSet(pb.UndeleteDataSetRequest(data_set="flights")),
    ):
        assert (await refused(call)).code is Code.FORBIDDEN


async def test_deleting_needs_the_etag_that_was_seen_last(home: House) -> None:
    await add(home, "guarded", {"id": [1]})
    delete = pb.DeleteDataSetRequest(data_set="guarded")
    assert (await refused(stub(home).DeleteDataSet(delete))).code is Code.ETAG_REQUIRED
    assert (await refused(stub(home, if_match='"1"').DeleteDataSet(delete))).code is Code.ETAG_MISMATCH
    gone = await stub(home, if_match='"2"').DeleteDataSet(delete)

    assert gone.etag == "3"
    undelete = pb.UndeleteDataSetRequest(data_set="guarded")
    back = [await stub(home).UndeleteDataSet(undelete) for _ in range(2)]
    assert [(found.etag, found.latest_version) for found in back] == [("4", 1), ("4", 1)]


async def test_lineage_is_cut_at_a_thousand_nodes_and_every_edge_has_its_ends(home: House) -> None:
    await add(home, "hub", {"id": [1]}, parents=())
    database, hub = home.runtime.apps["data"].database, LineageNode("data_set", "hub", 1)
    assert database

    def grow(connection: Any) -> None:
        for number in range(0, 1200, 2):
            lineage.add(
                connection, SCOPE, [LineageNode("source", f"s{number}"), LineageNode("rule", f"r{number}", 1)], hub
            )
        lineage.add(connection, Scope("other"), [LineageNode("source", "foreign")], hub)

    await database.run(grow)
    found = await stub(home).GetLineage(pb.GetLineageRequest(data_set="hub"))
    names = {(node.kind, node.name, node.version) for node in found.nodes}

    assert len(found.nodes) == len(names) == lineage.MOST
    for edge in found.edges:
        for end in (getattr(edge, "from"), edge.to):
            assert (end.kind, end.name, end.version) in names
    assert ("source", "foreign", 0) not in names


async def test_what_is_reached_by_two_ways_is_one_node(home: House) -> None:
    top = LineageNode("source", "top")
    await add(home, "left-side", {"id": [1]}, parents=(top,))
    await add(home, "right-side", {"id": [1]}, parents=(top, top))
    both = (LineageNode("data_set", "left-side", 1), LineageNode("data_set", "right-side", 1))
    await add(home, "bottom", {"id": [1]}, parents=both)
    found = await stub(home).GetLineage(pb.GetLineageRequest(data_set="bottom"))

    assert sorted(node.name for node in found.nodes) == ["bottom", "left-side", "right-side", "top"]
    assert len(found.edges) == 4
