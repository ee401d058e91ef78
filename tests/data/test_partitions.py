"""Partitions through their RPCs: divided, appended to, rewritten, shown, and read by others."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from aimass.v1 import data_events_pb2, datasets_pb2, operations_pb2
from aimass.v1 import partitions_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.partitions_pb2_grpc import PartitionsStub
from services.data.datasets.domain import NewVersion
from services.data.datasets.layouts import Layout, Placing, Strategy
from services.data.schema import ColumnType
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from tests.data.killed import POINTS
from tests.data.killed_rewrite import LAYOUT, ROWS
from tests.data.tables import SCOPE, add, data_sets
from tests.support.house import House, house, until
from tests.support.refused import refused

HASH, KEY, RANGE = pb.PARTITION_STRATEGY_HASH, pb.PARTITION_STRATEGY_KEY, pb.PARTITION_STRATEGY_RANGE
PLACING = Placing(Layout(Strategy.HASH, ("carrier",), count=4), {"carrier": ColumnType.STRING})


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


def key(*values: Any) -> pb.PartitionKey:
    return pb.PartitionKey(values=map(str, values))


def keys(*partitions: list[str]) -> pb.Partitioning:
    each = [pb.PartitionKeys(keys=map(key, names)) for names in partitions]
    return pb.Partitioning(strategy=KEY, fields=["carrier"], keys=each)


async def data_set(home: House) -> datasets_pb2.DataSet:
    stub = home.stub(DataSetsStub, "data")
    found: datasets_pb2.DataSet = await stub.GetDataSet(datasets_pb2.GetDataSetRequest(data_set="flights"))
    return found


async def ended(home: House, name: str) -> operations_pb2.Operation:
    stub = home.stub(OperationsStub, "data")

    async def done() -> operations_pb2.Operation | None:
        found: operations_pb2.Operation = await stub.GetOperation(operations_pb2.GetOperationRequest(operation=name))
        return found if found.HasField("end_time") else None

    found: operations_pb2.Operation = await until(done, 30)
    return found


async def begin(home: House, layout: pb.Partitioning, etag: str = "*", create: bool = True) -> str:
    request = pb.RepartitionDataSetRequest(data_set="flights", partitioning=layout, create=create)
    metadata = [("if-match", etag)] if etag else []
    operation = await home.stub(PartitionsStub, "data").RepartitionDataSet(request, metadata=metadata)
    return str(operation.operation)


async def divide(home: House, layout: pb.Partitioning, etag: str = "*") -> datasets_pb2.DataSet:
    operation, found = await ended(home, await begin(home, layout, etag)), datasets_pb2.DataSet()
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    assert operation.response.Unpack(found)
    return found


def kill(home: Path, point: str) -> None:
    command = [sys.executable, "-m", "tests.data.killed_rewrite", str(home), point]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


async def rows(home: House, version: int = 0) -> list[int]:
    request = datasets_pb2.ReadRowsRequest(data_set="flights", version=version)
    found = await home.stub(DataSetsStub, "data").ReadRows(request)
    return [int(row["id"]) for row in found.rows]


async def listed(home: House, version: int = 0, **page: Any) -> pb.ListPartitionsResponse:
    request = pb.ListPartitionsRequest(data_set="flights", version=version, **page)
    found: pb.ListPartitionsResponse = await home.stub(PartitionsStub, "data").ListPartitions(request)
    return found


async def asked(home: House, sql: str) -> list[dict[str, Any]]:
    request = datasets_pb2.QueryDataSetsRequest(sql=sql, tables=[datasets_pb2.QueryTable(data_set="flights")])
    return [dict(row) for row in (await home.stub(DataSetsStub, "data").QueryDataSets(request)).rows]


async def test_a_data_set_is_divided_and_its_older_version_stays(home: House) -> None:
    await add(home, "flights", ROWS)
    found = await divide(home, keys(["UA"], ["B6", "DL"]))
    old, version = [await data_sets(home).version(SCOPE, "flights", number) for number in (1, 2)]
    shown = await listed(home)

    assert (found.latest_version, found.partitioning) == (2, keys(["UA"], ["B6", "DL"]))
    assert (await rows(home), await rows(home, 1)) == ([1, 4, 2, 5, 3], [1, 2, 3, 4, 5])
    assert (version.rows, version.rows_added, version.quality) == (5, 0, old.quality)
    assert [(p.number, p.rows, p.files, p.share, p.description) for p in shown.partitions] == [
        (0, 2, 1, 0.4, "carrier: UA"), (1, 2, 1, 0.4, "carrier: B6; DL"), (2, 1, 1, 0.2, "all other values of carrier"),
    ]  # fmt: skip
    assert (shown.partitioning, shown.count, round(shown.skew, 9)) == (found.partitioning, 3, 1.2)
    assert [part.bytes > 0 for part in shown.partitions] == [True] * 3
    assert await listed(home, 1) == pb.ListPartitionsResponse()
    assert await asked(home, "SELECT * FROM flights ORDER BY id DESC LIMIT 1") == [{"id": 5, "carrier": "B6"}]


async def test_partitions_are_listed_a_page_at_a_time(home: House) -> None:
    await add(home, "flights", {"id": range(100), "carrier": ["UA"] * 100})
    await divide(home, pb.Partitioning(strategy=RANGE, fields=["id"], bounds=[key(10), key(20), key(90)]))
    first = await listed(home, page_size=3)
    rest = await listed(home, page_size=3, page_token=first.next_page_token)

    found = [(part.number, part.rows, part.description) for page in (first, rest) for part in page.partitions]
    assert found == [(0, 10, "id below 10"), (1, 10, "id from 10 below 20"), (2, 70, "id from 20 below 90"),
                     (3, 10, "id from 90")]  # fmt: skip
    assert (first.count, rest.next_page_token, first.skew) == (5, "", 3.5)


async def test_new_rows_are_divided_as_the_data_set_is(home: House) -> None:
    await add(home, "flights", ROWS)
    await divide(home, LAYOUT)
    await add(home, "flights", {"id": [6, 7, 8], "carrier": ["UA", "B6", None]}, append=True)
    appended = await data_sets(home).locate(SCOPE, "flights")
    replaced = await add(home, "flights", {"id": [9, 10], "carrier": ["UA", "DL"]})
    now = await data_sets(home).locate(SCOPE, "flights")

    for location in (appended, now):
        for file in location.files:
            found = pq.read_table(Path(location.uri) / file.path)["carrier"].to_pylist()
            assert {PLACING.of((value,)) for value in found} == {file.partition}
    assert appended.version.rows == sum(file.rows for file in appended.files) == 8
    assert (replaced.rows, replaced.layout, replaced.quality.columns[0].maximum) == (2, appended.version.layout, "10")
    folders = {(Path(now.uri) / file.path).parent for file in now.files}
    assert {path.name for folder in folders for path in folder.glob("*.parquet")} == {
        Path(file.path).name for file in now.files
    }, "the files that were divided are gone"


async def test_other_engines_read_the_partitions_from_the_delta_log(home: House) -> None:
    await add(home, "flights", ROWS)
    await divide(home, LAYOUT)
    location = await data_sets(home).locate(SCOPE, "flights")
    table, wanted = DeltaTable(location.uri, version=location.delta_version), PLACING.of(("UA",))
    kept = table.to_pyarrow_table(filters=[("__partition", "=", wanted)])

    assert table.metadata().partition_columns == ["__partition"]
    assert sorted(table.to_pyarrow_table()["id"].to_pylist()) == [1, 2, 3, 4, 5]
    assert {1, 4} <= set(kept["id"].to_pylist())
    assert {PLACING.of((name,)) for name in kept["carrier"].to_pylist()} == {wanted}
    assert DeltaTable(location.uri, version=0).to_pyarrow_table().column_names == ["id", "carrier"]


async def test_a_data_set_is_undivided_by_a_rewrite_and_by_going_back(home: House) -> None:
    await add(home, "flights", ROWS)
    first = await divide(home, LAYOUT)
    plain = await divide(home, pb.Partitioning())
    order = await rows(home, 2)
    request = datasets_pb2.RollBackDataSetRequest(data_set="flights", version=2)
    back = await home.stub(DataSetsStub, "data").RollBackDataSet(request, metadata=[("if-match", plain.etag)])

    assert (first.HasField("partitioning"), plain.HasField("partitioning")) == (True, False)
    assert (await rows(home, 3), back.partitioning, (await data_set(home)).partitioning) == (order, LAYOUT, LAYOUT)
    assert [await asked(home, "SELECT count(*) AS n FROM flights WHERE carrier = 'UA'")] == [[{"n": 2}]]
    await add(home, "flights", {"id": [6], "carrier": ["UA"]}, append=True)
    assert sorted(await rows(home)) == [1, 2, 3, 4, 5, 6]


async def test_a_data_set_that_is_new_says_how_its_first_version_is_divided(home: House) -> None:
    made = await divide(home, keys(["UA"]))
    version = await add(home, "flights", ROWS)

    assert (made.latest_version, made.partitioning, version.version) == (0, keys(["UA"]), 1)
    assert [part.rows for part in (await listed(home)).partitions] == [2, 3]


async def test_a_data_set_that_is_not_there_is_created_only_by_who_says_so(home: House) -> None:
    assert (await refused(begin(home, keys(["UA"]), create=False))).code is Code.NOT_FOUND


async def test_rows_that_do_not_fit_the_partitions_are_refused(home: House) -> None:
    await divide(home, pb.Partitioning(strategy=RANGE, fields=["carrier"], bounds=[key("M")]))
    await add(home, "flights", ROWS)

    with pytest.raises(
        Failure, match="the rows do not fit the partitions of flights: bounds must have values of int64"
    ):
        await add(home, "flights", {"carrier": [1, 2]})
    assert (await add(home, "flights", {"id": [1]})).version == 2
    assert [part.description for part in (await listed(home)).partitions] == ["no value in carrier"]


async def test_a_bad_layout_is_refused_with_what_is_wrong(home: House) -> None:
    await add(home, "flights", ROWS)
    etag = (await data_set(home)).etag

    async def failure(layout: pb.Partitioning, etag: str = etag) -> Failure:
        return await refused(begin(home, layout, etag))

    assert (await failure(LAYOUT, "")).code is Code.ETAG_REQUIRED
    assert (await failure(LAYOUT, "9")).code is Code.ETAG_MISMATCH
    missing = await failure(pb.Partitioning(strategy=HASH, fields=["carrier", "to"], count=4))
    assert (missing.detail, missing.violations[0].pointer) == ("flights has no column to", "/partitioning/fields/1")
    text = await failure(pb.Partitioning(strategy=RANGE, fields=["id"], bounds=[key("a")]))
    assert (text.code, text.violations[0].pointer) == (Code.INVALID_VALUE, "/partitioning/bounds")
    assert (await failure(pb.Partitioning(fields=["id"]))).violations[0].pointer == "/partitioning/strategy"
    many = pb.Partitioning(strategy=HASH, fields=["id"], count=257)
    assert (await failure(many)).violations[0].rule == "must lie between 2 and 256"
    assert (await data_set(home)).latest_version == 1
    gone = await refused(home.stub(PartitionsStub, "data").ListPartitions(pb.ListPartitionsRequest(data_set="none")))
    assert gone.code is Code.NOT_FOUND


async def test_a_data_set_that_changes_while_it_is_looked_at_is_not_divided(home: House) -> None:
    await add(home, "flights", ROWS)
    service: Any = data_sets(home)
    seen, etag = service.check_seen, (await data_set(home)).etag

    async def slowly(*said: Any) -> None:
        await seen(*said)
        await add(home, "flights", {"id": [6], "carrier": ["UA"]}, append=True)

    service.check_seen = slowly
    assert (await refused(begin(home, LAYOUT, etag))).code is Code.ETAG_MISMATCH


async def test_rows_whose_data_set_is_always_divided_otherwise_are_refused(home: House) -> None:
    await add(home, "flights", ROWS)
    await divide(home, LAYOUT)

    class Late:
        async def divided(self, scope: Scope, new: NewVersion, layout: Layout | None) -> NewVersion:
            return new

    data_sets(home).divider = Late()  # type: ignore[assignment]
    with pytest.raises(Failure, match="flights is divided otherwise each time") as found:
        await add(home, "flights", {"id": [6], "carrier": ["UA"]}, append=True)
    assert found.value.code is Code.CONFLICT


async def test_versions_that_come_in_between_are_divided_as_well(home: House) -> None:
    await add(home, "flights", ROWS)
    operation = await begin(home, LAYOUT)
    for number in range(6, 12):
        await add(home, "flights", {"id": [number], "carrier": ["DL"]}, append=True)
    assert (await ended(home, operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED

    location = await data_sets(home).locate(SCOPE, "flights")
    assert sorted(await rows(home)) == list(range(1, 12))
    assert all(file.partition is not None for file in location.files)
    assert location.version.version == 8
    assert DeltaTable(location.uri, version=location.delta_version).to_pyarrow_table().num_rows == 11


async def test_many_keys_are_told_of_one_data_set_but_not_in_lists_and_events(home: House) -> None:
    await add(home, "flights", ROWS)
    layout, bare = keys([f"c{n}" for n in range(257)]), pb.Partitioning(strategy=KEY, fields=["carrier"])
    found, stub = await divide(home, layout), home.stub(DataSetsStub, "data")
    version = await stub.GetDataSetVersion(datasets_pb2.GetDataSetVersionRequest(data_set="flights", version=2))

    assert (found.partitioning, version.partitioning) == (layout, layout)
    versions = (await stub.ListDataSetVersions(datasets_pb2.ListDataSetVersionsRequest(data_set="flights"))).versions
    sets = (await stub.ListDataSets(datasets_pb2.ListDataSetsRequest())).data_sets
    assert [versions[0].partitioning, sets[0].partitioning] == [bare, bare]
    told = await home.heard(data_events_pb2.DataSetVersionAdded, 2)
    assert told[-1].version.partitioning == bare
    await stub.BranchDataSet(datasets_pb2.BranchDataSetRequest(data_set="flights", branch="trial"))
    (branch,) = (await stub.ListDataSetBranches(datasets_pb2.ListDataSetBranchesRequest(data_set="flights"))).data_sets
    assert branch.partitioning == bare


async def test_two_rewrites_at_once_come_one_after_the_other(home: House) -> None:
    await add(home, "flights", ROWS)
    first, second = await asyncio.gather(begin(home, LAYOUT), begin(home, keys(["UA"])))
    states = [(await ended(home, name)).state for name in (first, second)]

    assert states == [operations_pb2.OPERATION_STATE_SUCCEEDED] * 2
    assert ((await data_set(home)).latest_version, sorted(await rows(home))) == (3, [1, 2, 3, 4, 5])


async def test_a_rewrite_that_is_cancelled_while_it_commits_adds_no_version(home: House) -> None:
    await add(home, "flights", ROWS)
    tables: Any = data_sets(home)._tables
    reached, go_on, write, stub = asyncio.Event(), asyncio.Event(), tables.write, home.stub(OperationsStub, "data")

    async def late(*said: Any) -> int:
        reached.set()
        await go_on.wait()
        return int(await write(*said))

    tables.write = late
    operation = await begin(home, LAYOUT)
    await reached.wait()
    await stub.CancelOperation(operations_pb2.CancelOperationRequest(operation=operation))
    assert (await ended(home, operation)).state == operations_pb2.OPERATION_STATE_CANCELLED
    go_on.set()  # its files are gone by now

    await add(home, "flights", {"id": [6], "carrier": ["UA"]}, append=True)
    found = await data_set(home)
    assert (found.latest_version, found.HasField("partitioning")) == (2, False)
    assert sorted(await rows(home)) == [1, 2, 3, 4, 5, 6]
    assert len(await asked(home, "SELECT id FROM flights")) == 6


@pytest.mark.parametrize("point", POINTS)
async def test_a_rewrite_goes_on_where_it_was_killed(tmp_path: Path, point: str) -> None:
    kill(tmp_path, point)
    async with house(tmp_path, "data") as home:
        stub = home.stub(OperationsStub, "data")
        request = operations_pb2.ListOperationsRequest(service="data")
        (operation,) = (await stub.ListOperations(request)).operations
        assert (await ended(home, operation.operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
        found = await data_set(home)
        assert (found.latest_version, found.partitioning) == (2, LAYOUT)
        assert (sorted(await rows(home)), await rows(home, 1)) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
        await add(home, "flights", {"id": [6], "carrier": ["UA"]}, append=True)
        assert len(await asked(home, "SELECT id FROM flights")) == 6


async def test_values_of_masked_fields_are_not_told(home: House) -> None:
    await add(home, "flights", ROWS)
    await divide(home, keys(["UA"]))
    stub = home.stub(DataSetsStub, "data")
    mask = datasets_pb2.MaskColumnsRequest(data_set="flights", columns=["Carrier"])
    found = await stub.MaskColumns(mask, metadata=[("if-match", (await data_set(home)).etag)])

    bare = pb.Partitioning(strategy=KEY, fields=["carrier"])
    assert (found.partitioning, len((await listed(home)).partitions)) == (bare, 2)
    await add(home, "flights", {"id": [1], "carrier": ["UA"]}, append=True)
    told = await home.heard(data_events_pb2.DataSetVersionAdded, 3)
    assert told[-1].version.partitioning == bare
