"""Branches of data sets through their RPCs: made, written, compared, merged, dropped, and what holds on them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from aimass.v1 import data_events_pb2, expectations_pb2, exports_pb2, partitions_pb2, recipes_pb2
from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.expectations_pb2_grpc import ExpectationsStub
from aimass.v1.exports_pb2_grpc import ExportsStub
from aimass.v1.partitions_pb2_grpc import PartitionsStub
from aimass.v1.recipes_pb2_grpc import RecipesStub
from services.data.datasets.store.branches import MOST
from services.kit.errors import Code, Failure
from tests.data.extracting import Tenant
from tests.data.tables import SCOPE, add, data_sets
from tests.support.house import House, house
from tests.support.refused import refused
from tests.support.storages import ALL, settings

ROWS = {"id": [1, 2, 3], "name": ["a", "b", "c"]}
SECRET = "hush-47110"


@pytest.fixture(params=ALL)
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path / "home", "data", **settings(request.param)) as running:
        yield running


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path / "home", "data") as running:
        yield running


def stub(home: House, *permissions: str, **metadata: str) -> Any:
    return home.stub(DataSetsStub, "data", *permissions, **metadata)


async def branch(home: House, name: str = "trial", **said: Any) -> pb.DataSetVersion:
    made: pb.DataSetVersion = await stub(home).BranchDataSet(
        pb.BranchDataSetRequest(data_set="flights", branch=name, **said)
    )
    return made


async def merge(home: House, name: str = "trial", etag: str = "", **said: Any) -> pb.DataSetVersion:
    more = {"if_match": f'"{etag}"'} if etag else {}
    request = pb.MergeDataSetBranchRequest(data_set="flights", branch=name, **said)
    made: pb.DataSetVersion = await stub(home, **more).MergeDataSetBranch(request)
    return made


async def found(home: House, name: str = "trial") -> pb.DataSet:
    answer: pb.DataSet = await stub(home).GetDataSet(pb.GetDataSetRequest(data_set=name))
    return answer


async def ids(home: House, name: str, version: int = 0) -> list[int]:
    return [int(row["id"]) for row in await Tenant(home).rows(name, version)]


async def more(home: House, name: str, *numbers: int) -> None:
    await add(home, name, {"id": numbers, "name": ["x"] * len(numbers)}, append=True)


async def mask(home: House, name: str, *columns: str) -> pb.DataSet:
    etag = (await found(home, name)).etag
    asked = pb.MaskColumnsRequest(data_set=name, columns=columns)
    made: pb.DataSet = await stub(home, if_match=f'"{etag}"').MaskColumns(asked)
    return made


async def asked(home: House, sql: str, *names: str) -> list[dict[str, Any]]:
    tables = [pb.QueryTable(data_set=name) for name in names]
    answer = await stub(home).QueryDataSets(pb.QueryDataSetsRequest(sql=sql, tables=tables))
    return [dict(row) for row in answer.rows]


async def test_what_is_written_to_a_branch_is_not_in_the_data_set_until_it_is_merged(home: House) -> None:
    await add(home, "flights", ROWS)
    first = await branch(home, description="what if")
    await more(home, "trial", 4)
    await more(home, "trial", 5)

    trial = await found(home)
    assert (first.version, first.rows, first.digest) == (1, 3, (await Tenant(home).version("flights")).digest)
    assert (trial.branch_of, trial.branch_version, trial.description) == ("flights", 1, "what if")
    assert (await ids(home, "flights"), await ids(home, "trial")) == ([1, 2, 3], [1, 2, 3, 4, 5])
    assert await ids(home, "trial", 2) == [1, 2, 3, 4]
    sql = "SELECT count(*) AS n FROM trial LEFT JOIN flights ON trial.id = flights.id WHERE flights.id IS NULL"
    assert await asked(home, sql, "trial", "flights") == [{"n": 2}]
    compared = await stub(home).DiffDataSet(pb.DiffDataSetRequest(data_set="trial", key=["id"], with_parent=True))
    assert (compared.rows_added, compared.rows_unchanged, compared.base_version) == (2, 3, 1)

    made = await merge(home)
    assert (made.version, made.rows, await ids(home, "flights")) == (2, 5, [1, 2, 3, 4, 5])
    assert made.digest == (await Tenant(home).version("trial")).digest
    assert [(p.kind, p.name, p.version) for p in made.parents] == [("data_set", "trial", 3)]
    assert [(p.kind, p.name, p.version) for p in first.parents] == [("data_set", "flights", 1)]
    assert await ids(home, "flights", 1) == [1, 2, 3]
    again = await found(home)
    await more(home, "trial", 6)
    assert (again.branch_version, (await merge(home)).version, await ids(home, "flights")) == (2, 3, [*range(1, 7)])
    lineage = await stub(home).GetLineage(pb.GetLineageRequest(data_set="flights", version=3))
    assert {("trial", 1), ("trial", 4), ("flights", 1)} <= {(node.name, node.version) for node in lineage.nodes}


async def test_files_are_shared_and_counted_once(home: House) -> None:
    await add(home, "flights", {"id": range(50_000)})
    before = await data_sets(home).kept()
    await branch(home)
    await branch(home, "other")
    assert await data_sets(home).kept() == before

    await add(home, "trial", {"id": [50_000]}, append=True)
    own = (await Tenant(home).version("trial")).bytes - (await Tenant(home).version("flights")).bytes
    assert 0 < own == (await data_sets(home).kept())[SCOPE] - before[SCOPE]
    after = await data_sets(home).kept()
    await merge(home)
    assert await data_sets(home).kept() == after


async def test_a_branch_that_is_dropped_takes_nothing_with_it(home: House) -> None:
    await add(home, "flights", ROWS)
    await branch(home)
    await more(home, "trial", 4)
    await merge(home)
    etag = (await found(home)).etag
    await stub(home, if_match=f'"{etag}"').DeleteDataSet(pb.DeleteDataSetRequest(data_set="trial"))

    assert (await ids(home, "flights"), (await refused(found(home))).code) == ([1, 2, 3, 4], Code.NOT_FOUND)
    assert (await refused(merge(home))).code is Code.NOT_FOUND
    assert not (await stub(home).ListDataSetBranches(pb.ListDataSetBranchesRequest(data_set="flights"))).data_sets
    await more(home, "flights", 5)
    assert await ids(home, "flights") == [1, 2, 3, 4, 5]


async def test_either_table_can_be_removed_and_the_other_is_whole(near: House) -> None:
    await add(near, "flights", ROWS)
    await branch(near)
    await more(near, "trial", 4)
    await merge(near)
    tables = near.runtime.home / "tables" / "acme" / "default"
    first, second = tables / "flights", tables / "trial"
    inodes = {path.stat().st_ino for path in first.rglob("*.parquet")}
    assert inodes == {path.stat().st_ino for path in second.rglob("*.parquet")}
    delta = deltalake.DeltaTable(str(second)).to_pyarrow_table()  # what another engine reads
    assert sorted(delta["id"].to_pylist()) == [1, 2, 3, 4]

    shutil.move(second, near.runtime.home / "gone")
    assert await ids(near, "flights") == [1, 2, 3, 4]
    assert await asked(near, "SELECT count(*) AS n FROM flights", "flights") == [{"n": 4}]
    shutil.move(near.runtime.home / "gone", second)
    shutil.rmtree(first)
    assert await asked(near, "SELECT count(*) AS n FROM trial", "trial") == [{"n": 4}]


async def test_a_merge_is_refused_when_the_data_set_has_moved_and_says_by_what(home: House) -> None:
    await add(home, "flights", ROWS)
    await branch(home)
    await more(home, "trial", 4)
    for number in range(10, 17):
        await more(home, "flights", number)

    failure = await refused(merge(home))
    assert failure.code is Code.FAILED_PRECONDITION
    assert "flights has moved since trial had the rows of its version 1: version 2 of 2" in failure.detail
    assert "by source:db; version 3" in failure.detail
    assert "; and 2 more. Branch again" in failure.detail
    assert (await refused(merge(home, replace=True))).code is Code.ETAG_REQUIRED
    assert (await refused(merge(home, etag="1", replace=True))).code is Code.ETAG_MISMATCH
    made = await merge(home, etag=(await found(home, "flights")).etag, replace=True)
    assert (made.version, await ids(home, "flights"), len(await ids(home, "flights", 8))) == (9, [1, 2, 3, 4], 10)


async def test_a_branch_of_an_older_version_is_not_merged_by_chance(near: House) -> None:
    await add(near, "flights", ROWS)
    await more(near, "flights", 4)
    await stub(near).SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="good", version=1))
    made = await branch(near, tag="good")
    await more(near, "trial", 9)

    assert (made.rows, (await found(near)).branch_version) == (3, 1)
    assert "version 2 of" in (await refused(merge(near))).detail
    whole = pb.DiffDataSetRequest(data_set="trial", key=["id"], with_parent=True, base_version=2)
    compared = await stub(near).DiffDataSet(whole)
    assert (compared.rows_added, compared.rows_removed, compared.rows_unchanged) == (1, 1, 3)
    plain = pb.DiffDataSetRequest(data_set="flights", key=["id"], with_parent=True)
    assert (await refused(stub(near).DiffDataSet(plain))).detail == "flights is no branch"


REFUSED = {
    "of nothing": (pb.BranchDataSetRequest(data_set="none", branch="b"), Code.NOT_FOUND, "no data set none"),
    "no version": (pb.BranchDataSetRequest(data_set="flights", branch="b", version=9), Code.UNKNOWN_VERSION, "9"),
    "no tag": (pb.BranchDataSetRequest(data_set="flights", branch="b", tag="x"), Code.NOT_FOUND, "no tag x"),
    "two ways": (
        pb.BranchDataSetRequest(data_set="flights", branch="b", tag="x", version=1),
        Code.INVALID_VALUE,
        "tag",
    ),
    "no name": (pb.BranchDataSetRequest(data_set="flights", branch="B b"), Code.INVALID_NAME, "branch"),
    "none said": (pb.BranchDataSetRequest(data_set="flights"), Code.INVALID_NAME, "branch"),
    "itself": (pb.BranchDataSetRequest(data_set="flights", branch="flights"), Code.ALREADY_EXISTS, "flights"),
    "taken": (pb.BranchDataSetRequest(data_set="flights", branch="trial"), Code.ALREADY_EXISTS, "trial"),
    "of a branch": (pb.BranchDataSetRequest(data_set="trial", branch="b"), Code.FAILED_PRECONDITION, "of flights"),
    "other's": (
        pb.MergeDataSetBranchRequest(data_set="flights", branch="apart"),
        Code.FAILED_PRECONDITION,
        "not a branch",
    ),
    "other way": (pb.MergeDataSetBranchRequest(data_set="trial", branch="flights"), Code.FAILED_PRECONDITION, "not a"),
    "not there": (pb.MergeDataSetBranchRequest(data_set="flights", branch="none"), Code.NOT_FOUND, "none"),
    "no news": (
        pb.MergeDataSetBranchRequest(data_set="flights", branch="trial"),
        Code.FAILED_PRECONDITION,
        "nothing to",
    ),
    "list": (pb.ListDataSetBranchesRequest(data_set="none"), Code.NOT_FOUND, "none"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_branched_or_merged_is_refused(near: House, name: str) -> None:
    await add(near, "flights", ROWS)
    await add(near, "apart", ROWS)
    await branch(near)
    request, code, text = REFUSED[name]
    method = type(request).__name__.removesuffix("Request")

    failure = await refused(getattr(stub(near), method)(request))
    assert (failure.code, text in failure.detail) == (code, True), failure.detail


async def test_another_tenant_has_no_part_in_it(near: House) -> None:
    await add(near, "flights", ROWS)
    await branch(near)
    other = near.stub(DataSetsStub, "data", tenant="other")

    make = pb.BranchDataSetRequest(data_set="flights", branch="mine")
    assert (await refused(other.BranchDataSet(make))).code is Code.NOT_FOUND
    join = pb.MergeDataSetBranchRequest(data_set="flights", branch="trial")
    assert (await refused(other.MergeDataSetBranch(join))).code is Code.NOT_FOUND
    assert (await refused(other.GetDataSet(pb.GetDataSetRequest(data_set="trial")))).code is Code.NOT_FOUND


async def test_a_data_set_has_so_many_branches_and_no_more(near: House) -> None:
    await add(near, "flights", {"id": [1]})
    for number in range(MOST):
        await branch(near, f"b{number:02d}")
    assert (await refused(branch(near, "b99"))).code is Code.LIMIT_EXCEEDED

    one = pb.DeleteDataSetRequest(data_set="b00")
    await stub(near, if_match=f'"{(await found(near, "b00")).etag}"').DeleteDataSet(one)
    await branch(near, "b99")
    back = stub(near).UndeleteDataSet(pb.UndeleteDataSetRequest(data_set="b00"))
    assert (await refused(back)).code is Code.LIMIT_EXCEEDED
    names, token = list[str](), ""
    while True:
        page = pb.ListDataSetBranchesRequest(data_set="flights", page_size=9, page_token=token)
        answer = await stub(near).ListDataSetBranches(page)
        names, token = [*names, *(one.data_set for one in answer.data_sets)], answer.next_page_token
        if not token:
            break
    assert names == [f"b{number:02d}" for number in (*range(1, MOST), 99)]


async def test_a_mask_of_the_data_set_holds_on_its_branches_whenever_it_is_set(near: House) -> None:
    await add(near, "flights", {"id": [1], "name": [SECRET]})
    await branch(near)
    some = ("data_sets.get", "data_sets.list", "data_sets.read", "data_sets.merge", "data_sets.branch")
    seeing, blind = stub(near), stub(near, *some)
    rows, version = pb.ReadRowsRequest(data_set="trial"), pb.GetDataSetVersionRequest(data_set="trial")
    assert SECRET in str(await blind.ReadRows(rows))

    await mask(near, "flights", "NAME")
    asked = pb.QueryDataSetsRequest(sql="SELECT max(name) AS m FROM trial", tables=[pb.QueryTable(data_set="trial")])
    compare = pb.DiffDataSetRequest(data_set="trial", key=["id"], with_parent=True)
    await add(near, "trial", {"id": [1], "name": ["other-47110"]})
    for answer in (
        await blind.ReadRows(rows),
        await blind.GetDataSetVersion(version),
        await blind.QueryDataSets(asked),
        await blind.DiffDataSet(compare),
        await blind.BranchDataSet(pb.BranchDataSetRequest(data_set="flights", branch="third")),
    ):
        assert "47110" not in str(answer), answer
    heard = await near.heard(data_events_pb2.DataSetVersionAdded, 4)
    assert [(one.version.data_set, one.branch_of, "47110" in str(one)) for one in heard] == [
        ("flights", "", True),
        ("trial", "flights", True),
        ("trial", "flights", False),
        ("third", "flights", False),
    ]
    listed = await seeing.ListDataSets(pb.ListDataSetsRequest())
    assert {one.data_set: list(one.masked_columns) for one in listed.data_sets}["trial"] == ["NAME"]
    assert list((await mask(near, "trial", "id")).masked_columns) == ["id"], "its own, as it was said"
    assert list((await found(near)).masked_columns) == ["id", "NAME"], "and those of the data set"

    await blind.MergeDataSetBranch(pb.MergeDataSetBranchRequest(data_set="flights", branch="trial"))
    assert list((await found(near, "flights")).masked_columns) == ["NAME", "id"], "what the branch hides stays hidden"
    await mask(near, "flights")
    assert list((await found(near)).masked_columns) == []


async def test_the_event_of_a_merge_tells_no_value_that_the_branch_hides(near: House) -> None:
    await add(near, "flights", ROWS)
    await branch(near)
    await mask(near, "trial", "name")
    await add(near, "trial", {"id": [1], "name": [SECRET]})
    await merge(near)

    heard = await near.heard(data_events_pb2.DataSetVersionAdded, 4)
    assert [(one.version.data_set, one.version.version) for one in heard[2:]] == [("trial", 2), ("flights", 2)]
    assert "47110" not in str(heard)


async def test_a_right_on_a_branch_is_worth_nothing_without_that_on_the_data_set(near: House) -> None:
    await add(near, "flights", {"id": [1], "name": [SECRET]})
    await branch(near)
    rows = pb.ReadRowsRequest(data_set="trial")

    assert (await refused(stub(near, "data_sets.read@data-sets/tri*").ReadRows(rows))).code is Code.FORBIDDEN
    assert await stub(near, "data_sets.read@data-sets/tri*,data-sets/flights").ReadRows(rows)
    stream = exports_pb2.StreamVersionRequest(data_set="trial")
    assert [part async for part in near.stub(ExportsStub, "data", "data_sets.read").StreamVersion(stream)]
    bound = near.stub(ExportsStub, "data", "data_sets.read@data-sets/tri*").StreamVersion(stream)
    assert (await refused(anext(aiter(bound)))).code is Code.FORBIDDEN
    one = "data_sets.branch@data-sets/flights,data-sets/mine"
    make = pb.BranchDataSetRequest(data_set="flights", branch="mine")
    assert (await refused(stub(near, one).BranchDataSet(make))).code is Code.FORBIDDEN
    etag = (await found(near)).etag
    unmask = stub(near, "data_sets.unmask@data-sets/trial", if_match=f'"{etag}"')
    assert (await refused(unmask.MaskColumns(pb.MaskColumnsRequest(data_set="trial")))).code is Code.FORBIDDEN


async def test_what_the_data_set_expects_and_refuses_holds_on_its_branches(near: House) -> None:
    await add(near, "flights", ROWS)
    await branch(near)
    item = expectations_pb2.Expectation(
        column="id",
        kind=expectations_pb2.EXPECTATION_KIND_UNIQUE,
        action=expectations_pb2.EXPECTATION_ACTION_BLOCK,
    )
    expect = expectations_pb2.SetExpectationsRequest(data_set="flights", expectations=[item])
    await near.stub(ExpectationsStub, "data").SetExpectations(expect)
    assert "id is unique" in (await refused(more(near, "trial", 2))).detail

    refuse = pb.UpdateDataSetRequest(data_set="flights", refused_changes=[pb.SCHEMA_CHANGE_ADD_COLUMN])
    await stub(near, if_match=f'"{(await found(near, "flights")).etag}"').UpdateDataSet(refuse)
    assert list((await found(near)).refused_changes) == [pb.SCHEMA_CHANGE_ADD_COLUMN]
    wide = {"id": [9], "name": ["x"], "new": [1]}
    assert "refuses add_column" in (await refused(add(near, "trial", wide, append=True))).detail
    await more(near, "trial", 4)
    assert await ids(near, "trial") == [1, 2, 3, 4]


async def test_a_repeated_request_makes_one_branch_and_one_version(near: House) -> None:
    await add(near, "flights", ROWS)
    keyed = stub(near, idempotency_key="once")
    make = pb.BranchDataSetRequest(data_set="flights", branch="trial")
    first, second = await keyed.BranchDataSet(make), await keyed.BranchDataSet(make)
    await more(near, "trial", 4)
    join = pb.MergeDataSetBranchRequest(data_set="flights", branch="trial")
    merged, again = await keyed.MergeDataSetBranch(join), await keyed.MergeDataSetBranch(join)

    assert (first, merged, merged.version) == (second, again, 2)
    assert (await found(near, "flights")).latest_version == 2


async def test_a_branch_whose_making_was_cut_off_is_made_by_who_tries_again(near: House) -> None:
    await add(near, "flights", ROWS)
    folder = near.runtime.home / "tables" / "acme" / "default"
    (folder / "trial").write_text("in the way")  # so that the files cannot be shared
    with pytest.raises(Failure):
        await branch(near)
    assert (await found(near)).latest_version == 0
    (folder / "trial").unlink()
    await more(near, "flights", 4)
    written = await refused(more(near, "trial", 9))
    assert (written.code, "is still being made" in written.detail) == (Code.FAILED_PRECONDITION, True)

    assert ((await branch(near)).version, await ids(near, "trial")) == (1, [1, 2, 3, 4])
    assert (await found(near)).branch_version == 2


async def test_of_two_who_make_a_branch_at_once_one_does(near: House) -> None:
    await add(near, "flights", ROWS)
    await more(near, "flights", 4)
    ended = await asyncio.gather(*(branch(near, version=number) for number in (1, 2)), return_exceptions=True)

    (made,) = [each for each in ended if isinstance(each, pb.DataSetVersion)]
    (other,) = [each for each in ended if isinstance(each, Failure)]
    assert other.code is Code.ALREADY_EXISTS
    trial = await found(near)
    assert (trial.latest_version, trial.branch_version) == (1, {3: 1, 4: 2}[made.rows])
    assert len(await ids(near, "trial")) == made.rows


async def test_a_branch_is_divided_and_cleaned_as_any_data_set(home: House) -> None:
    tenant = Tenant(home)
    await add(home, "flights", pa.table({"id": [1, 2, 2, 3], "name": ["a", "b", "b", "c"]}))
    await branch(home)
    layout = partitions_pb2.Partitioning(strategy=partitions_pb2.PARTITION_STRATEGY_HASH, fields=["id"], count=2)
    divide = partitions_pb2.RepartitionDataSetRequest(data_set="trial", partitioning=layout)
    begun = await home.stub(PartitionsStub, "data", if_match=f'"{(await found(home)).etag}"').RepartitionDataSet(divide)
    assert not (await tenant.ended(begun.operation)).HasField("error")
    steps = [recipes_pb2.CleaningStep(step="once", duplicates=recipes_pb2.RemoveDuplicates())]
    recipes = home.stub(RecipesStub, "data")
    await recipes.CreateRecipe(
        recipes_pb2.CreateRecipeRequest(recipe="r", data_set="flights", output_data_set="trial", steps=steps)
    )
    begun = await recipes.RunRecipe(recipes_pb2.RunRecipeRequest(recipe="r"))
    assert not (await tenant.ended(begun.operation)).HasField("error")

    assert (await found(home)).partitioning.count == 2
    assert not (await found(home, "flights")).HasField("partitioning")
    made = await merge(home)
    assert (made.partitioning.count, sorted(await ids(home, "flights"))) == (2, [1, 2, 3])
    answer = await stub(home).QueryDataSets(
        pb.QueryDataSetsRequest(sql="SELECT name FROM flights WHERE id = 3", tables=[pb.QueryTable(data_set="flights")])
    )
    assert ([dict(row) for row in answer.rows], answer.reads[0].partitions_read) == ([{"name": "c"}], 1)
