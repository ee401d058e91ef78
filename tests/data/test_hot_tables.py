"""Tables that queries read again and again: answered from memory with the same rows, bounded, and of one tenant."""

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimass.v1 import datasets_pb2 as pb
from aimass.v1 import operations_pb2, partitions_pb2
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.partitions_pb2_grpc import PartitionsStub
from services.kit.errors import Code, Failure
from services.kit.telemetry.metrics import exposition
from tests.data.tables import add
from tests.support.house import House, house, until
from tests.support.refused import refused

COUNT = 30_000
ROWS = pa.table(
    {
        "id": list(range(COUNT)),
        "late": [None if n % 11 == 0 else math.nan if n % 13 == 0 else (n * 7919 % 1009) / 7 for n in range(COUNT)],
        "carrier": [None if n % 17 == 0 else f"c{n * 31 % 23}" for n in range(COUNT)],
    }
)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data", AIMASS_DATA_HOT_TABLES_MIB="8") as running:
        await fill(running)
        yield running


async def fill(home: House) -> None:
    for start in (0, COUNT // 2):
        await add(home, "flights", ROWS.slice(start, COUNT // 2), append=True)
    await add(home, "carriers", {"carrier": [f"c{n}" for n in range(20)], "name": ["x"] * 20})


async def ask(home: House, sql: str, *names: str, tenant: str = "acme", **said: Any) -> Any:
    stub, said = home.stub(DataSetsStub, "data", *said.pop("permissions", ()), tenant=tenant), said
    tables = [pb.QueryTable(data_set=name) for name in names or ("flights",)]
    return await stub.QueryDataSets(pb.QueryDataSetsRequest(sql=sql, tables=tables, **said))


def in_memory(found: Any) -> list[bool]:
    return [read.in_memory for read in found.reads]


def keepers() -> list[psutil.Process]:
    """The processes that keep tables for this one."""
    found = list[psutil.Process]()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if any("hot_work" in word for word in child.cmdline()):
                found.append(child)
    return found


def measured(name: str) -> float:
    return sum(float(line.split()[-1]) for line in exposition().decode().splitlines() if line.startswith(name))


SQL = [
    ("SELECT * FROM flights", ("flights",)),
    ("SELECT count(*) AS n FROM flights", ("flights",)),
    ("SELECT carrier, count(*) AS n, avg(late) AS a, sum(late) AS s FROM flights GROUP BY carrier", ("flights",)),
    ("SELECT sum(late) AS s FROM flights WHERE late < 100", ("flights",)),
    ("SELECT id % 7 AS k FROM flights WHERE carrier IS NULL GROUP BY id % 7", ("flights",)),
    ("SELECT f.id, c.name FROM flights AS f LEFT JOIN carriers AS c USING (carrier)", ("flights", "carriers")),
    ("SELECT a.id FROM flights AS a JOIN flights AS b ON a.id = b.id + 1 WHERE b.late > 140", ("flights",)),
    ("WITH f AS (SELECT carrier, late FROM flights) SELECT max(late) AS m FROM f", ("flights",)),
    ("SELECT carrier FROM flights EXCEPT SELECT carrier FROM carriers", ("flights", "carriers")),
    ("SELECT id, row_number() OVER (PARTITION BY carrier ORDER BY id) AS n FROM flights", ("flights",)),
]


async def test_memory_answers_what_files_do_in_the_same_order(home: House, tmp_path: Path) -> None:
    async with house(tmp_path / "files", "data", AIMASS_DATA_HOT_TABLES_MIB="0") as other:
        await fill(other)
        for sql, names in SQL:
            files = await ask(other, sql, *names, max_rows=1000)
            memory = [await ask(home, sql, *names, max_rows=1000) for _ in range(3)][-1]
            assert in_memory(memory) == [True] * len(names), sql

            assert str(files.rows) == str(memory.rows), sql
            assert files.schema == memory.schema
            assert (files.truncated, bool(files.next_page_token)) == (memory.truncated, bool(memory.next_page_token))
            assert in_memory(files) == [False] * len(names)


async def test_other_columns_join_those_that_are_there(home: House) -> None:
    for _ in range(2):
        await ask(home, "SELECT max(id) AS m FROM flights")
    first = await ask(home, "SELECT max(late) AS m FROM flights WHERE late < 1000")
    both = await ask(home, "SELECT max(late) AS m, max(id) AS i FROM flights")

    assert (in_memory(first), in_memory(both)) == ([False], [True])
    assert len(keepers()) == 1


async def test_a_new_version_is_not_answered_with_the_old_one(home: House) -> None:
    sql = "SELECT count(*) AS n FROM flights"
    for _ in range(3):
        await ask(home, sql)
    await add(home, "flights", ROWS.slice(0, 1), append=True)

    found = [await ask(home, sql) for _ in range(3)]
    assert [answer.rows[0]["n"] for answer in found] == [COUNT + 1] * 3
    assert [in_memory(answer)[0] for answer in found] == [False, False, True]


async def test_pages_stay_where_the_first_was(home: House) -> None:
    sql = "SELECT id FROM flights WHERE late > 100"
    cold = await ask(home, sql, max_rows=10)
    await ask(home, sql)
    hot = await ask(home, sql, max_rows=10)
    after_cold = await ask(home, sql, max_rows=10, page_token=cold.next_page_token)
    os.kill(keepers()[0].pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    after_hot = await ask(home, sql, max_rows=10, page_token=hot.next_page_token)

    assert (in_memory(cold), in_memory(hot), in_memory(after_cold)) == ([False], [True], [False])
    assert [row["id"] for row in after_cold.rows] == [row["id"] for row in after_hot.rows]
    assert in_memory(await ask(home, sql, max_rows=10, page_token=hot.next_page_token)) == [True]


async def test_masked_columns_stay_masked(home: House) -> None:
    sql = "SELECT id, late, carrier FROM flights WHERE late > 100 OR late IS NULL"
    for _ in range(3):
        await ask(home, sql)
    stub = home.stub(DataSetsStub, "data")
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).etag
    request = pb.MaskColumnsRequest(data_set="flights", columns=["late"])
    await stub.MaskColumns(request, metadata=[("if-match", etag)])

    everything = await ask(home, sql, max_rows=1000)
    masked = await ask(home, sql, max_rows=1000, permissions=("data_sets.read",))
    assert in_memory(everything) == in_memory(masked) == [True]
    assert any(row["late"] for row in everything.rows)
    assert [dict(row)["late"] for row in masked.rows] == [None] * 1000  # NULL is what they see, and every row has it
    assert await values(home, "SELECT count(*) AS n FROM flights WHERE late > 0", ("data_sets.read",)) == [0]


async def values(home: House, sql: str, permissions: tuple[str, ...]) -> list[Any]:
    return [next(iter(dict(row).values())) for row in (await ask(home, sql, permissions=permissions)).rows]


async def test_partitions_are_pruned_as_in_files(home: House) -> None:
    await add(home, "regions", {"region": ["n", "s", "e", "w"] * 50, "id": list(range(200))})
    stub = home.stub(DataSetsStub, "data")
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="regions"))).etag
    layout = partitions_pb2.Partitioning(fields=["region"], strategy=partitions_pb2.PARTITION_STRATEGY_HASH, count=4)
    divide = home.stub(PartitionsStub, "data", idempotency_key="k", if_match=f'"{etag}"').RepartitionDataSet
    request = partitions_pb2.RepartitionDataSetRequest(data_set="regions", partitioning=layout)
    operation = (await divide(request)).operation

    async def done() -> bool:
        wanted = operations_pb2.GetOperationRequest(operation=operation)
        return bool((await home.stub(OperationsStub, "data").GetOperation(wanted)).HasField("end_time"))

    await until(done, 30)

    sql = "SELECT id FROM regions WHERE region = 'n' AND id > 20"
    found = [await ask(home, sql, "regions", max_rows=1000) for _ in range(3)]
    assert [read.in_memory for answer in found for read in answer.reads] == [False, False, True]
    assert len({str(answer.rows) for answer in found}) == 1
    assert len({(read.partitions_read, read.partitions) for answer in found for read in answer.reads}) == 1
    assert found[0].reads[0].partitions_read == 1


async def test_a_tenant_sees_only_its_own(home: House) -> None:
    for _ in range(3):
        await ask(home, "SELECT max(id) AS m FROM flights")

    assert (await refused(ask(home, "SELECT max(id) AS m FROM flights", tenant="other"))).code is Code.NOT_FOUND


async def test_the_bound_holds_and_the_oldest_goes(home: House) -> None:
    wide = {f"c{n}": list(range(50_000)) for n in range(8)}  # 3.3 MiB
    sums = "SELECT " + ", ".join(f"max(c{n}) AS m{n}" for n in range(8)) + " FROM {0}"
    for name in ("one", "two", "three"):
        await add(home, name, wide)
        for _ in range(2):
            await ask(home, sums.format(name), name)

    assert [in_memory(await ask(home, sums.format(name), name)) for name in ("three", "two")] == [[True], [True]]
    assert 2 * 8 * 8 * 50_000 <= measured("aimass_hot_table_bytes") <= 8 * 2**20
    before = measured('aimass_hot_table_reads_total{found="loaded"}')
    assert in_memory(await ask(home, sums.format("one"), "one")) == [False]
    assert measured('aimass_hot_table_reads_total{found="loaded"}') == before + 1
    assert in_memory(await ask(home, sums.format("three"), "three")) == [False]


async def test_what_is_larger_than_the_bound_is_read_from_files(home: House) -> None:
    await add(home, "texts", {"t": [f"{n}" * 100 for n in range(20_000)]})
    found = [await ask(home, "SELECT max(t) AS t FROM texts", "texts") for _ in range(4)]

    assert len({str(answer.rows) for answer in found}) == 1
    assert [in_memory(answer) for answer in found] == [[False]] * 4
    assert measured("aimass_hot_table_bytes") <= 8 * 2**20


async def test_what_is_too_large_to_be_loaded_is_not_even_tried(tmp_path: Path) -> None:
    env = {"AIMASS_DATA_HOT_TABLES_MIB": "8", "AIMASS_DATA_QUERY_MEMORY_MIB": "300"}
    async with house(tmp_path, "data", **env) as home:
        for start in range(0, 100_000, 10_000):
            texts = [f"{n:08d}" * 500 for n in range(start, start + 10_000)]  # 400 MB of all; little in files
            await add(home, "texts", {"t": texts}, append=True)
        found = [await ask(home, "SELECT count(*) AS n FROM texts WHERE t LIKE '%99%'", "texts") for _ in range(3)]

    assert len({answer.rows[0]["n"] for answer in found}) == 1
    assert [in_memory(answer) for answer in found] == [[False]] * 3


async def test_what_cannot_be_loaded_is_read_from_files(home: House, tmp_path: Path) -> None:
    await add(home, "ordered", {"id": list(range(20_000)), "t": [f"text {n}" for n in range(20_000)]})
    (path,) = tmp_path.glob("tables/**/ordered/*/part-00000.parquet")
    content, last = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(2).column(1)
    content[last.data_page_offset : last.data_page_offset + 70] = b"damaged" * 10
    path.write_bytes(content)
    sql = "SELECT t FROM ordered WHERE id = 3"  # of another group of rows
    found = [await ask(home, sql, "ordered") for _ in range(3)]

    assert [answer.rows[0]["t"] for answer in found] == ["text 3"] * 3
    assert [in_memory(answer) for answer in found] == [[False]] * 3


async def test_a_wrong_query_leaves_what_is_there(home: House) -> None:
    sql = "SELECT max(id) AS m FROM flights"
    for _ in range(2):
        await ask(home, sql)
    for wrong in ("SELECT CAST(carrier AS BIGINT) AS x FROM flights", "SELECT 1 / (id - id) AS x FROM flights"):
        for _ in range(3):
            assert (await refused(ask(home, wrong))).code is Code.QUERY_INVALID
    assert in_memory(await ask(home, sql)) == [True]


async def test_a_slow_query_ends_the_process_and_the_next_starts_another(tmp_path: Path) -> None:
    sql = "SELECT max(id) AS m FROM flights"
    slow = "SELECT count(*) AS n FROM flights AS a JOIN flights AS b ON b.id >= 0 JOIN flights AS c ON c.id >= 0"
    async with house(tmp_path, "data", AIMASS_DATA_QUERY_SECONDS="8") as home:
        await fill(home)
        for _ in range(2):
            await ask(home, sql)
        with pytest.raises(Failure, match="took longer than 8 s"):
            await ask(home, slow)
        assert [in_memory(await ask(home, sql)) for _ in range(2)] == [[False], [True]]


async def test_two_at_once_do_not_wait_for_each_other(home: House) -> None:
    sql = "SELECT count(*) AS n FROM flights AS a JOIN flights AS b ON a.id % 500 = b.id % 500 WHERE a.late > b.late"
    for _ in range(2):
        await ask(home, sql)
    found = await asyncio.gather(*(ask(home, sql) for _ in range(2)))

    assert len({answer.rows[0]["n"] for answer in found}) == 1
    assert sorted(in_memory(answer)[0] for answer in found) == [False, True]
    assert len(keepers()) == 1


async def test_a_deleted_data_set_and_a_forgotten_tenant_leave_nothing(home: House) -> None:
    for sql, name in (
        ("SELECT max(id) AS m FROM flights", "flights"),
        ("SELECT max(name) AS m FROM carriers", "carriers"),
    ):
        for _ in range(2):
            await ask(home, sql, name)
    stub, held = home.stub(DataSetsStub, "data"), measured("aimass_hot_table_bytes")
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).etag
    await stub.DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights"), metadata=[("if-match", etag)])
    assert 0 < measured("aimass_hot_table_bytes") < held

    for forget in home.runtime.apps["data"].forget:
        await forget(["acme"])
    assert keepers() == []
    assert measured("aimass_hot_table_bytes") == 0


async def test_nothing_is_left_when_the_service_ends(tmp_path: Path) -> None:
    async with house(tmp_path, "data") as running:
        await add(running, "flights", ROWS)
        for _ in range(2):
            await ask(running, "SELECT max(id) AS m FROM flights")
        assert len(keepers()) == 1

    assert keepers() == []


async def test_without_a_bound_every_query_reads_files(tmp_path: Path) -> None:
    async with house(tmp_path, "data", AIMASS_DATA_HOT_TABLES_MIB="0") as running:
        await add(running, "flights", ROWS)
        found = [in_memory(await ask(running, "SELECT max(id) AS m FROM flights")) for _ in range(3)]

    assert (found, keepers()) == ([[False]] * 3, [])
