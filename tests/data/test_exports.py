"""Rows for other systems as Arrow streams, made by real children."""

import asyncio
import contextlib
import io
import tarfile
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aimass.v1 import datasets_pb2 as data_sets
from aimass.v1 import exports_pb2 as pb
from aimass.v1.data_events_pb2 import WorkEnded
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.exports_pb2_grpc import ExportsStub
from services.data.exports import pouring
from services.data.exports.pouring import Pour, poured
from services.kit.errors import Code, Failure
from tests.data.tables import add
from tests.support.house import House, house, until

ROWS = 200_000
KINDS = pa.table(
    {
        "text": ["hidden", None],
        "number": [1.5, None],
        "whole": [2**60, None],
        "truth": [True, None],
        "day": [date(2026, 3, 1), None],
        "at": pa.array([datetime(2026, 3, 1, 12, 0, 0, 1, UTC), None], pa.timestamp("us", "UTC")),
    }
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data", AIMASS_DATA_STREAM_MIB="4", AIMASS_DATA_STREAMS_AT_ONCE="1") as running:
        await add(running, "flights", {"id": [1, 2], "carrier": ["UA", "DL"]}, append=True)
        await add(running, "flights", {"id": [3, 4], "carrier": ["UA", "AA"], "gate": ["A", "B"]}, append=True)
        await add(running, "numbers", {"n": list(range(ROWS))})
        yield running


def stub(home: House, *permissions: str, **said: str) -> Any:
    return home.stub(ExportsStub, "data", *permissions, **said)


def of_query(sql: str, *names: str, **said: Any) -> pb.StreamQueryRequest:
    tables = [data_sets.QueryTable(data_set=name) for name in names or ("flights",)]
    return pb.StreamQueryRequest(sql=sql, tables=tables, **said)


async def table(pieces: Any) -> pa.Table:
    found = [piece async for piece in pieces]
    assert {piece.content_type for piece in found} == {"application/vnd.apache.arrow.stream"}
    content = b"".join(piece.data for piece in found)
    assert content.endswith(b"\xff\xff\xff\xff\0\0\0\0")  # the mark that the stream is complete
    return pa.ipc.open_stream(content).read_all()


async def fails(pieces: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        async for _ in pieces:
            pass
    return caught.value


async def test_a_query_is_streamed_with_the_types_of_its_columns(home: House) -> None:
    sql = "SELECT carrier, count(*) AS n, max(gate) AS gate FROM flights GROUP BY carrier ORDER BY carrier"
    found = await table(stub(home).StreamQuery(of_query(sql)))

    assert found.to_pydict() == {"carrier": ["AA", "DL", "UA"], "n": [1, 1, 2], "gate": ["B", None, "A"]}
    assert found.schema.types == [pa.string(), pa.int64(), pa.string()]


async def test_a_result_without_rows_has_columns(home: House) -> None:
    found = await table(stub(home).StreamQuery(of_query("SELECT id FROM flights WHERE id > 9")))

    assert (found.num_rows, found.column_names) == (0, ["id"])


async def test_a_result_comes_whole_and_in_order_or_as_far_as_it_is_wanted(home: House) -> None:
    sql = "SELECT n FROM numbers ORDER BY n DESC"
    whole = await table(stub(home).StreamQuery(of_query(sql, "numbers")))
    some = await table(stub(home).StreamQuery(of_query(sql, "numbers", max_rows=9_000)))

    assert whole.column("n").to_pylist() == list(range(ROWS - 1, -1, -1))
    assert some.column("n").to_pylist() == list(range(ROWS - 1, ROWS - 9_001, -1))


async def test_a_version_is_streamed_in_stored_order_with_null_for_what_a_file_has_not(home: House) -> None:
    newest = await table(stub(home).StreamVersion(pb.StreamVersionRequest(data_set="flights")))
    first = await table(stub(home).StreamVersion(pb.StreamVersionRequest(data_set="flights", version=1)))
    gates = pb.StreamVersionRequest(data_set="flights", columns=["gate", "id"], max_rows=3)

    assert newest.to_pydict() == {
        "id": [1, 2, 3, 4],
        "carrier": ["UA", "DL", "UA", "AA"],
        "gate": [None, None, "A", "B"],
    }
    assert first.to_pydict() == {"id": [1, 2], "carrier": ["UA", "DL"]}
    assert (await table(stub(home).StreamVersion(gates))).to_pydict() == {"gate": [None, None, "A"], "id": [1, 2, 3]}
    only = pb.StreamVersionRequest(data_set="flights", columns=["gate"])
    assert (await table(stub(home).StreamVersion(only))).to_pydict() == {"gate": [None, None, "A", "B"]}


async def test_masked_columns_are_null_for_who_may_not_unmask_them(home: House) -> None:
    masks = data_sets.MaskColumnsRequest(data_set="flights", columns=["Carrier"])
    etag = (await home.stub(DataSetsStub, "data").GetDataSet(data_sets.GetDataSetRequest(data_set="flights"))).etag
    await home.stub(DataSetsStub, "data", if_match=etag).MaskColumns(masks)
    reader = stub(home, "data_sets.read")
    whole = await table(reader.StreamVersion(pb.StreamVersionRequest(data_set="flights")))
    alone = await table(reader.StreamVersion(pb.StreamVersionRequest(data_set="flights", columns=["carrier"])))
    asked = await table(reader.StreamQuery(of_query("SELECT carrier FROM flights WHERE carrier = 'UA' OR id = 2")))
    seen = await table(stub(home).StreamVersion(pb.StreamVersionRequest(data_set="flights", columns=["carrier"])))

    assert whole.column("carrier").to_pylist() == alone.column("carrier").to_pylist() == [None] * 4
    assert whole.column("id").to_pylist() == [1, 2, 3, 4]
    assert asked.to_pydict() == {"carrier": [None]}
    assert seen.column("carrier").to_pylist() == ["UA", "DL", "UA", "AA"]


WRONG: list[tuple[Any, Code]] = [
    (of_query("DROP TABLE flights"), Code.SQL_NOT_ALLOWED),
    (of_query("SELECT * FROM numbers"), Code.SQL_NOT_ALLOWED),
    (of_query("SELECT nosuch FROM flights"), Code.QUERY_INVALID),
    (of_query("SELECT 1 AS a FROM nosuch", "nosuch"), Code.NOT_FOUND),
    (of_query("SELECT id FROM flights", max_rows=-1), Code.INVALID_VALUE),
    (of_query("SELECT id FROM flights", cpu_seconds=-1), Code.INVALID_VALUE),
    (of_query("SELECT n, n AS a, n AS b, n AS c FROM numbers", "numbers"), Code.LIMIT_EXCEEDED),  # 6 MiB
    (of_query("SELECT count(*) AS n FROM numbers AS a JOIN numbers AS b ON a.n >= b.n", "numbers", cpu_seconds=1),
     Code.LIMIT_EXCEEDED),
    (pb.StreamVersionRequest(data_set="nosuch"), Code.NOT_FOUND),
    (pb.StreamVersionRequest(data_set="flights", version=9), Code.UNKNOWN_VERSION),
    (pb.StreamVersionRequest(data_set="flights", columns=["nosuch"]), Code.INVALID_VALUE),
    (pb.StreamVersionRequest(data_set="flights", max_rows=-1), Code.INVALID_VALUE),
]  # fmt: skip


async def test_what_cannot_be_streamed_is_the_callers_failure(home: House) -> None:
    for request, code in WRONG:
        ask = stub(home).StreamQuery if isinstance(request, pb.StreamQueryRequest) else stub(home).StreamVersion
        failure = await fails(ask(request))
        assert failure.code is code, request
        assert "/" not in failure.detail


async def test_another_tenant_sees_nothing_of_it(home: House) -> None:
    request = pb.StreamVersionRequest(data_set="flights")

    assert (await fails(stub(home, tenant="other").StreamVersion(request))).code is Code.NOT_FOUND
    assert (await fails(stub(home, tenant="other").StreamQuery(of_query("SELECT 1 AS a FROM flights")))).code is (
        Code.NOT_FOUND
    )
    assert (await fails(stub(home, "models.get").StreamVersion(request))).code is Code.FORBIDDEN


def children() -> list[psutil.Process]:
    return psutil.Process().children()


async def test_a_reader_who_leaves_ends_the_work_and_what_it_used_is_said(home: House) -> None:
    others = set(children())  # those that keep tables in memory
    leaving = stub(home, reservation="r-1").StreamVersion(pb.StreamVersionRequest(data_set="numbers"))
    async with contextlib.aclosing(leaving) as pieces:
        await anext(pieces)
        assert set(children()) - others
    await until(lambda: not set(children()) - others)
    said = (await home.heard(WorkEnded))[0].work
    # There is one turn, which is free again.
    found = await table(stub(home).StreamVersion(pb.StreamVersionRequest(data_set="numbers")))

    assert (said.reservation, said.kind, said.principal) == ("r-1", "query", "key:test")
    assert said.cpu_milliseconds > 0
    assert found.num_rows == ROWS


async def test_for_a_reader_who_leaves_before_his_turn_nothing_stays_reserved(home: House) -> None:
    exports: Any = home.runtime.apps["data"].rpc["aimass.v1.Exports"]
    turns = exports._exports._free
    async with turns.turn("other"):
        pieces = stub(home, reservation="r-2").StreamVersion(pb.StreamVersionRequest(data_set="numbers"))
        waiting = asyncio.ensure_future(anext(aiter(pieces)))
        await until(lambda: turns._waiting)
        waiting.cancel()
        (said,) = await home.heard(WorkEnded)

    assert (said.work.reservation, said.work.cpu_milliseconds) == ("r-2", 0)


async def test_a_slow_reader_slows_the_work_down() -> None:
    count, most = 0, 0

    async def work(pour: Pour) -> None:
        nonlocal count
        for _ in range(20):
            await pour(b"x")
            count += 1

    async with contextlib.aclosing(poured(work)) as pieces:
        taken = 0
        async for _ in pieces:
            taken += 1
            for _ in range(5):
                await asyncio.sleep(0)
            most = max(most, count - taken)

    assert (taken, most) == (20, 2)


async def test_a_stream_that_nobody_reads_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pouring, "_PATIENCE", 0.01)
    ended = asyncio.Event()

    async def work(pour: Pour) -> None:
        try:
            for _ in range(9):
                await pour(b"x")
        finally:
            ended.set()

    async with contextlib.aclosing(poured(work)) as pieces:
        await anext(pieces)
        await ended.wait()
        with pytest.raises(Failure, match="nobody has read the stream") as caught:
            async for _ in pieces:
                pass
    assert caught.value.code is Code.DEADLINE_EXCEEDED


def unpacked(content: bytes, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter="data")
    return folder


async def archive(home: House, request: pb.StreamVersionRequest, *permissions: str) -> bytes:
    found = [piece async for piece in stub(home, *permissions).StreamDeltaTable(request)]
    assert {piece.content_type for piece in found} == {"application/x-tar"}
    return b"".join(piece.data for piece in found)


async def test_a_version_is_a_delta_table_for_deltalake(home: House, tmp_path: Path) -> None:
    content = await archive(home, pb.StreamVersionRequest(data_set="flights"))
    table = DeltaTable(str(unpacked(content, tmp_path / "flights")))

    assert table.version() == 0
    assert table.to_pyarrow_table().to_pydict() == {
        "id": [1, 2, 3, 4],
        "carrier": ["UA", "DL", "UA", "AA"],
        "gate": [None, None, "A", "B"],
    }
    assert content == await archive(home, pb.StreamVersionRequest(data_set="flights", version=2))


async def test_a_delta_table_has_types_masks_and_all_files(home: House, tmp_path: Path) -> None:
    await add(home, "kinds", KINDS)
    masks = data_sets.MaskColumnsRequest(data_set="kinds", columns=["text"])
    etag = (await home.stub(DataSetsStub, "data").GetDataSet(data_sets.GetDataSetRequest(data_set="kinds"))).etag
    await home.stub(DataSetsStub, "data", if_match=etag).MaskColumns(masks)
    content = await archive(home, pb.StreamVersionRequest(data_set="kinds"), "data_sets.read")
    found = DeltaTable(str(unpacked(content, tmp_path / "kinds"))).to_pyarrow_table()
    numbers = await archive(home, pb.StreamVersionRequest(data_set="numbers"))
    whole = DeltaTable(str(unpacked(numbers, tmp_path / "numbers"))).to_pyarrow_table()

    assert found.schema.types == KINDS.schema.types
    assert found.drop_columns(["text"]) == KINDS.drop_columns(["text"])
    assert found.column("text").to_pylist() == [None, None]
    assert b"hidden" not in content
    assert whole.column("n").to_pylist() == list(range(ROWS))


async def test_duckdb_reads_what_the_log_of_a_delta_table_names(home: House, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    folder = unpacked(await archive(home, pb.StreamVersionRequest(data_set="numbers")), tmp_path / "numbers")
    log = folder / "_delta_log" / "00000000000000000000.json"
    connection = duckdb.connect()
    named = connection.execute(f"SELECT add.path FROM read_json('{log}') WHERE add IS NOT NULL").fetchall()
    paths = [str(folder / path) for (path,) in named]
    through = DeltaTable(str(folder)).to_pyarrow_dataset()

    assert connection.execute("SELECT sum(n), count(*) FROM read_parquet($1)", [paths]).fetchall() == [
        (ROWS * (ROWS - 1) // 2, ROWS)
    ]
    assert connection.execute("SELECT count(*) FROM through WHERE n < 10").fetchall() == [(10,)]
    assert through.count_rows() == ROWS


async def test_an_empty_version_is_a_table_without_rows(home: House, tmp_path: Path) -> None:
    await add(home, "empty", {"id": pa.array([], pa.int64())})
    content = await archive(home, pb.StreamVersionRequest(data_set="empty"))

    assert DeltaTable(str(unpacked(content, tmp_path / "empty"))).to_pyarrow_table().num_rows == 0
