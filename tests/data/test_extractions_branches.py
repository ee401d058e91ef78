"""Extractions into branches: what they read, where the rule goes on, and what a merge brings."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import datasets_pb2, repairs_pb2
from aimass.v1 import extractions_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.repairs_pb2_grpc import RepairsStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import FLIGHTS, FLIGHTS_SOURCE, Tenant
from tests.data.landing import LANDED, is_refused, replay, second_rule, succeeded
from tests.data.tables import add
from tests.support.house import House, house


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        yield running


@pytest.fixture
async def tenant(running: House, home: Path) -> Tenant:
    """With a rule that has read three rows."""
    tenant = Tenant(running)
    places.flights(home, rows=3)
    await tenant.rule("flights", FLIGHTS_SOURCE, FLIGHTS)
    await tenant.extract("flights")
    return tenant


async def branch(tenant: Tenant, name: str = "trial", data_set: str = "flights") -> None:
    await tenant.stub(DataSetsStub).BranchDataSet(datasets_pb2.BranchDataSetRequest(data_set=data_set, branch=name))


async def merge(tenant: Tenant, name: str = "trial", data_set: str = "flights", **metadata: str) -> Any:
    request = datasets_pb2.MergeDataSetBranchRequest(data_set=data_set, branch=name, replace=bool(metadata))
    return await tenant.stub(DataSetsStub, **metadata).MergeDataSetBranch(request)


async def tried(tenant: Tenant, name: str = "trial", rule: str = "flights") -> pb.Extraction:
    """An extraction into a branch, to its end."""
    begun = await tenant.stub(ExtractionsStub).RunExtraction(pb.RunExtractionRequest(rule=rule, branch=name))
    return await succeeded(tenant, begun.operation)


async def ids(tenant: Tenant, data_set: str = "flights") -> list[int]:
    return [int(row["id"]) for row in await tenant.rows(data_set)]


async def test_a_trial_reads_what_is_new_and_the_rule_reads_it_again(tenant: Tenant, home: Path) -> None:
    await branch(tenant)
    places.flights(home, rows=2, first=4)
    first, nothing = await tried(tenant), await tried(tenant)
    assert (first.data_set, first.records_read, nothing.records_read) == ("trial", 2, 0)
    assert (await ids(tenant), await ids(tenant, "trial")) == ([1, 2, 3], [1, 2, 3, 4, 5])

    assert (await tenant.extract("flights")).records_read == 2
    assert await ids(tenant) == [1, 2, 3, 4, 5]
    await is_refused(merge(tenant), Code.FAILED_PRECONDITION, "rule:flights")


async def test_a_merge_brings_how_far_the_branch_was_read_so_no_row_is_lost_or_doubled(
    tenant: Tenant, home: Path
) -> None:
    await branch(tenant)
    places.flights(home, rows=2, first=4)
    await tried(tenant)
    await merge(tenant)
    assert (await tenant.extract("flights")).records_read == 0
    places.flights(home, rows=1, first=6)
    assert (await tried(tenant)).records_read == 1, "the branch goes on from the merge"
    await merge(tenant)
    places.flights(home, rows=1, first=7)
    await tenant.extract("flights")
    assert await ids(tenant) == [1, 2, 3, 4, 5, 6, 7]


async def test_a_rule_that_was_only_tried_goes_on_behind_what_was_merged(tenant: Tenant, home: Path) -> None:
    await add(tenant.house, "more", {"id": [0], "carrier": ["UA"], "dep_delay": [0.5]})  # not by the rule
    await second_rule(tenant, "more", "flights", FLIGHTS)
    await branch(tenant, data_set="more")

    assert (await tried(tenant, rule="more")).records_read == 3
    await merge(tenant, data_set="more")
    assert (await tried(tenant, rule="more")).records_read == 0, "what was merged is not read again"
    await branch(tenant, "second", "more")
    places.flights(home, rows=1, first=4)
    assert (await tried(tenant, "second", rule="more")).records_read == 1
    assert (await tenant.extract("more")).records_read == 1
    assert await ids(tenant, "more") == [0, 1, 2, 3, 4]


async def test_what_a_forced_merge_leaves_out_is_read_again(tenant: Tenant, home: Path) -> None:
    await branch(tenant)
    await branch(tenant, "second")
    places.flights(home, rows=1, first=4)
    await tried(tenant)
    places.flights(home, rows=1, first=5)
    await tenant.extract("flights")
    etag = (await tenant.stub(DataSetsStub).GetDataSet(datasets_pb2.GetDataSetRequest(data_set="flights"))).etag
    await merge(tenant, if_match=f'"{etag}"')
    assert await ids(tenant) == [1, 2, 3, 4]

    assert (await tenant.extract("flights")).records_read == 1
    assert await ids(tenant) == [1, 2, 3, 4, 5]
    assert (await tried(tenant, "second")).records_read == 2, "a branch goes on from where it was made"
    assert await ids(tenant, "second") == [1, 2, 3, 4, 5]


async def test_a_trial_says_nothing_of_how_healthy_the_rule_is(tenant: Tenant, home: Path) -> None:
    request = repairs_pb2.GetRuleHealthRequest(rule="flights")
    before = await tenant.stub(RepairsStub).GetRuleHealth(request)
    await branch(tenant)
    places.flights(home, rows=2, first=4)
    await tried(tenant)

    assert await tenant.stub(RepairsStub).GetRuleHealth(request) == before


async def test_an_extraction_goes_to_no_branch_of_another_data_set(tenant: Tenant) -> None:
    extractions = tenant.stub(ExtractionsStub)
    await is_refused(
        extractions.RunExtraction(pb.RunExtractionRequest(rule="flights", branch="none")), Code.NOT_FOUND, "none"
    )
    await is_refused(
        extractions.RunExtraction(pb.RunExtractionRequest(rule="flights", branch="flights")),
        Code.INVALID_VALUE,
        "must be a branch of flights",
    )
    await branch(tenant)
    both = pb.RunExtractionRequest(rule="flights", branch="trial", aside=True, origin=pb.EXTRACTION_ORIGIN_WAREHOUSE)
    await is_refused(extractions.RunExtraction(both), Code.INVALID_VALUE, "together with aside")


async def test_what_landed_is_read_again_into_a_branch(running: House, home: Path) -> None:
    tenant = Tenant(running)
    places.flights(home, rows=3)
    await tenant.rule("flights", {**FLIGHTS_SOURCE, **LANDED}, FLIGHTS)
    await tenant.extract("flights")
    await is_refused(branch(tenant, data_set="landed_flights"), Code.FAILED_PRECONDITION, "raw records of flights")
    await branch(tenant)
    places.flights(home, rows=2, first=4)
    assert (await tried(tenant)).records_landed == 2
    done = await replay(tenant, "flights", branch="trial", landed={"first_version": 2})
    assert (done.data_set, done.records_read, await ids(tenant, "trial")) == ("trial", 2, [4, 5])
    assert await ids(tenant) == [1, 2, 3]
    await merge(tenant)
    assert (await tenant.extract("flights")).records_read == 0
    places.flights(home, rows=1, first=6)
    await tenant.extract("flights")
    assert await ids(tenant) == [4, 5, 6]
