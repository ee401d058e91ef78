"""Versions through their RPCs: by tag, at a time, compared, and brought back."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aimass.v1 import data_events_pb2
from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.data.datasets.domain import NewVersion
from services.kit.errors import Code, Failure
from services.kit.timestamps import to_wire
from tests.data.tables import SCOPE, add, data_sets
from tests.support.house import House, house
from tests.support.refused import refused

OLD = {"id": [1, 2, 3, 4], "carrier": ["UA", None, "DL", "AA"], "delay": [1.5, math.nan, None, 4.0]}
NEW = {"id": [2, 3, 4, 5], "carrier": ["UA", "DL", "AA", "B6"], "delay": [math.nan, 3.0, 4.0, 5.0]}
ADDED, REMOVED, CHANGED = pb.DIFF_KIND_ADDED, pb.DIFF_KIND_REMOVED, pb.DIFF_KIND_CHANGED


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(DataSetsStub, "data")


async def ids(stub: Any, **which: Any) -> list[int]:
    rows = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", **which))
    return [int(row["id"]) for row in rows.rows]


def restore(home: House, version: int, etag: str, **more: str) -> Any:
    metadata = (("if-match", etag), *((name.replace("_", "-"), value) for name, value in more.items()))
    request = pb.RollBackDataSetRequest(data_set="flights", version=version)
    return home.stub(DataSetsStub, "data").RollBackDataSet(request, metadata=metadata)


async def etag_of(stub: Any) -> str:
    return str((await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).etag)


async def test_a_tag_names_a_version_until_it_is_moved(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1]})
    made = await stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="good"))
    again = await stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="good", version=1))
    await add(home, "flights", {"id": [2, 3]})

    assert (made.version, made) == (1, again)
    assert (await ids(stub), await ids(stub, tag="good")) == ([2, 3], [1])
    move = pb.SetDataSetTagRequest(data_set="flights", tag="good", version=2)
    assert (await refused(stub.SetDataSetTag(move))).code is Code.ETAG_REQUIRED
    assert (await refused(stub.SetDataSetTag(move, metadata=[("if-match", "9")]))).code is Code.ETAG_MISMATCH
    moved = await stub.SetDataSetTag(move, metadata=[("if-match", made.etag)])
    assert (moved.version, moved.create_time, await ids(stub, tag="good")) == (2, made.create_time, [2, 3])
    found = await stub.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights", tag="good"))
    assert (found.version, await stub.GetDataSetTag(pb.GetDataSetTagRequest(data_set="flights", tag="good"))) == (
        2,
        moved,
    )


async def test_a_tag_that_is_deleted_names_nothing(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1]})
    for tag in ("a", "b", "c"):
        made = await stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag=tag))
    first = await stub.ListDataSetTags(pb.ListDataSetTagsRequest(data_set="flights", page_size=2))
    rest = pb.ListDataSetTagsRequest(data_set="flights", page_size=2, page_token=first.next_page_token)
    gone = pb.DeleteDataSetTagRequest(data_set="flights", tag="c")

    assert [tag.tag for tag in (*first.tags, *(await stub.ListDataSetTags(rest)).tags)] == ["a", "b", "c"]
    assert (await refused(stub.DeleteDataSetTag(gone))).code is Code.ETAG_REQUIRED
    await stub.DeleteDataSetTag(gone, metadata=[("if-match", made.etag)])
    assert (await refused(ids(stub, tag="c"))).detail == "flights has no tag c"
    assert (await refused(stub.DeleteDataSetTag(gone, metadata=[("if-match", made.etag)]))).code is Code.NOT_FOUND
    wrong = await refused(stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="No/Tag")))
    assert (wrong.code, wrong.violations[0].pointer) == (Code.INVALID_NAME, "/tag")
    missing = pb.SetDataSetTagRequest(data_set="flights", tag="2026-03.d", version=2)
    assert (await refused(stub.SetDataSetTag(missing))).code is Code.UNKNOWN_VERSION


async def test_a_time_means_the_version_that_was_the_newest_then(home: House, stub: Any) -> None:
    first = await add(home, "flights", {"id": [1]})
    second = await add(home, "flights", {"id": [2]})
    query = pb.QueryTable(data_set="flights", as_of=to_wire(first.create_time))
    found = await stub.QueryDataSets(pb.QueryDataSetsRequest(sql="SELECT id FROM flights", tables=[query]))

    assert await ids(stub, as_of=to_wire(first.create_time)) == [1]
    assert await ids(stub, as_of=to_wire(second.create_time - timedelta(microseconds=1))) == [1]
    assert await ids(stub, as_of=to_wire(second.create_time)) == await ids(
        stub, as_of=to_wire(datetime(9000, 1, 1, tzinfo=UTC))
    )
    assert dict(found.rows[0]) == {"id": 1}
    early = await refused(ids(stub, as_of=to_wire(datetime(1970, 1, 1, tzinfo=UTC))))
    assert (early.code, early.detail) == (Code.UNKNOWN_VERSION, "flights had no version at 1970-01-01 00:00:00+00:00")
    both = await refused(ids(stub, tag="good", version=1))
    assert (both.violations[0].pointer, both.violations[0].rule) == ("/tag", "must not be given together with version")


async def test_pages_of_a_tag_are_of_the_version_of_the_first(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1, 2, 3]})
    made = await stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="good"))
    first = await stub.ReadRows(pb.ReadRowsRequest(data_set="flights", tag="good", page_size=2))
    await add(home, "flights", {"id": [7, 8, 9]})
    move = pb.SetDataSetTagRequest(data_set="flights", tag="good")
    await stub.SetDataSetTag(move, metadata=[("if-match", made.etag)])

    assert await ids(stub, tag="good", page_size=2, page_token=first.next_page_token) == [3]


async def test_versions_are_compared_by_a_key(home: House, stub: Any) -> None:
    await add(home, "flights", OLD)
    await add(home, "flights", NEW)
    found = await stub.DiffDataSet(pb.DiffDataSetRequest(data_set="flights", key=["id"]))
    rows = [(row.kind, dict(row.before), dict(row.after), list(row.columns)) for row in found.rows]

    assert (found.base_version, found.version, list(found.schema)) == (1, 2, [])
    assert (found.rows_added, found.rows_removed, found.rows_changed, found.rows_unchanged) == (1, 1, 2, 1)
    assert dict(found.changed_columns) == {"carrier": 1, "delay": 1}
    assert rows == [
        (REMOVED, {"id": 1, "carrier": "UA", "delay": 1.5}, {}, []),
        (CHANGED, {"id": 2, "carrier": None, "delay": "NaN"}, {"id": 2, "carrier": "UA", "delay": "NaN"}, ["carrier"]),
        (CHANGED, {"id": 3, "carrier": "DL", "delay": None}, {"id": 3, "carrier": "DL", "delay": 3.0}, ["delay"]),
        (ADDED, {}, {"id": 5, "carrier": "B6", "delay": 5.0}, []),
    ]
    assert found.rows[0].HasField("before")
    assert not found.rows[0].HasField("after")


async def test_pages_of_a_comparison_go_through_all_that_differs(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": list(range(50)), "v": [0] * 50})
    await add(home, "flights", {"id": list(range(1, 52)), "v": [n % 2 for n in range(1, 52)]})
    seen, token = list[tuple[int, int]](), ""
    while True:
        request = pb.DiffDataSetRequest(data_set="flights", key=["id"], page_size=7, page_token=token)
        found = await stub.DiffDataSet(request)
        seen += [(row.kind, int((row.after if row.HasField("after") else row.before)["id"])) for row in found.rows]
        if not (token := found.next_page_token):
            break
        await add(home, "flights", {"id": [1000], "v": [1]}) if len(seen) == 7 else None

    odd = [(CHANGED, n) for n in range(1, 50, 2)]
    assert seen == [(REMOVED, 0), *odd, (ADDED, 50), (ADDED, 51)]


async def test_what_changed_in_the_columns_is_told_and_not_compared(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1], "a": [1], "gone": [1]})
    await add(home, "flights", {"id": [1], "a": ["1"], "fresh": [2.0]})
    found = await stub.DiffDataSet(pb.DiffDataSetRequest(data_set="flights", key=["id"]))

    assert [(c.column, c.kind, c.before.type, c.after.type) for c in found.schema] == [
        ("a", CHANGED, 2, 4),
        ("fresh", ADDED, 0, 3),
        ("gone", REMOVED, 2, 0),
    ]
    assert (found.rows_unchanged, len(found.rows)) == (1, 0)


WRONG_KEYS = [
    (["nosuch"], Code.INVALID_VALUE, "must be a column of both versions, with the same type"),
    (["d"], Code.INVALID_VALUE, "must not be a column of doubles"),
    (["twice"], Code.FAILED_PRECONDITION, "the key twice of flights@1 is not unique"),
    (["maybe"], Code.FAILED_PRECONDITION, "the key maybe of flights@1 is NULL in a row"),
    (['x" IS NULL) OR (1=1'], Code.INVALID_VALUE, "must be a column of both versions, with the same type"),
    ([], Code.INVALID_VALUE, "must not be empty"),
]


@pytest.mark.parametrize(("key", "code", "said"), WRONG_KEYS, ids=[str(key) for key, _, _ in WRONG_KEYS])
async def test_a_key_that_identifies_no_row_is_refused(
    home: House, stub: Any, key: list[str], code: Code, said: str
) -> None:
    rows = {"id": [1, 2], "d": [1.0, 2.0], "twice": [1, 1], "maybe": [None, "a"]}
    await add(home, "flights", rows)
    await add(home, "flights", rows)
    failure = await refused(stub.DiffDataSet(pb.DiffDataSetRequest(data_set="flights", key=key)))

    assert (failure.code, said) == (code, failure.violations[0].rule if failure.violations else failure.detail)


async def test_a_column_may_be_called_anything(home: House, stub: Any) -> None:
    odd = 'a"b.c'
    await add(home, "flights", {odd: [1, 2], "b0": ["x", "y"], "before": [1, 1]})
    await add(home, "flights", {odd: [1, 2], "b0": ["x", "z"], "before": [2, 1]})
    found = await stub.DiffDataSet(pb.DiffDataSetRequest(data_set="flights", key=[odd, "before"]))

    assert [(row.kind, dict(row.before) or dict(row.after)) for row in found.rows] == [
        (REMOVED, {odd: 1, "b0": "x", "before": 1}),
        (ADDED, {odd: 1, "b0": "x", "before": 2}),
        (CHANGED, {odd: 2, "b0": "y", "before": 1}),
    ]


async def test_going_back_adds_a_version_that_is_equal_to_the_old_one(home: House, stub: Any) -> None:
    await add(home, "flights", OLD, append=True)
    second = await add(home, "flights", {"id": [9], "carrier": ["UA"]}, append=True, broken=[("{}", "bad", "db:9")])
    await add(home, "flights", {"id": ["x"]})
    before = await data_sets(home).kept()
    made = await restore(home, 2, await etag_of(stub))
    old = await stub.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights", version=2))
    fourth = await stub.GetDataSetVersion(pb.GetDataSetVersionRequest(data_set="flights"))

    assert (made.version, made.rows, made.rows_added, made.digest) == (4, 5, 0, old.digest)
    assert (fourth.schema, list(fourth.quality.columns)) == (old.schema, list(old.quality.columns))
    assert [(node.kind, node.name, node.version) for node in made.parents] == [("data_set", "flights", 2)]
    assert dict(made.quality.quarantined) == {}
    assert await ids(stub) == await ids(stub, version=2) == [1, 2, 3, 4, 9]
    assert await data_sets(home).kept() == before
    appended = await add(home, "flights", {"id": [10], "carrier": ["DL"]}, append=True)
    assert (appended.rows, appended.quality.columns[0].distinct, await ids(stub)) == (6, 6, [1, 2, 3, 4, 9, 10])
    assert (second.rows, await ids(stub, version=2)) == (5, [1, 2, 3, 4, 9])
    table = DeltaTable((await data_sets(home).locate(SCOPE, "flights")).uri)
    assert sorted(pa.table(table.to_pyarrow_table())["id"].to_pylist()) == [1, 2, 3, 4, 9, 10]


async def test_going_back_twice_under_one_key_happens_once(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1]})
    await add(home, "flights", {"id": [2]})
    etag = await etag_of(stub)
    one, other = [await restore(home, 1, etag, idempotency_key="k") for _ in range(2)]
    heard = await home.heard(data_events_pb2.DataSetVersionAdded, 3)

    assert (one, (await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).latest_version) == (other, 3)
    assert [event.version.version for event in heard] == [1, 2, 3]


async def test_who_goes_back_has_seen_what_is_there_now(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1]})
    await add(home, "flights", {"id": [2]})
    etag = await etag_of(stub)

    assert (
        await refused(stub.RollBackDataSet(pb.RollBackDataSetRequest(data_set="flights", version=1)))
    ).code is Code.ETAG_REQUIRED
    assert (await refused(restore(home, 2, etag))).detail == "2 is the newest version of flights"
    assert (await refused(restore(home, 3, etag))).code is Code.UNKNOWN_VERSION
    several = await asyncio.gather(*(restore(home, 1, etag) for _ in range(4)), return_exceptions=True)
    assert len([one for one in several if not isinstance(one, BaseException)]) == 1
    assert (await refused(restore(home, 1, etag))).code is Code.ETAG_MISMATCH
    assert (await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).latest_version == 3


async def test_what_nobody_committed_of_going_back_is_not_there(home: House, stub: Any) -> None:
    """The log of the table is a version ahead when the process ends between the two."""
    await add(home, "flights", {"id": [1]})
    await add(home, "flights", {"id": [2]})

    def end(connection: Any, version: Any) -> None:
        raise Failure(Code.CANCELLED, "killed")

    old, files = await data_sets(home).whole(SCOPE, "flights", 1)
    await data_sets(home).prepare(SCOPE, "flights", "r9")
    new = NewVersion("flights", "r9", files, old.columns, False, restores=1)
    with pytest.raises(Failure, match="killed"):
        await data_sets(home).commit(SCOPE, new, end)
    assert await ids(stub) == [2]
    await add(home, "flights", {"id": [3]}, append=True)
    assert await ids(stub) == [2, 3]
    table = DeltaTable((await data_sets(home).locate(SCOPE, "flights")).uri)
    assert sorted(pa.table(table.to_pyarrow_table())["id"].to_pylist()) == [2, 3]
