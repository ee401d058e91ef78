"""Topics of a real Kafka as sources: every record once, whatever becomes of brokers and processes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from kafka import KafkaProducer, TopicPartition

from aimass.v1 import extractions_pb2, operations_pb2, rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.data.topics import admin, source, topic, write
from tests.support.house import house, until
from tests.support.refused import refused
from tests.support.servers import address, make

pytestmark = pytest.mark.far
NUMBERS = {
    "json": {
        "columns": [
            {"name": "n", "from": "$.value.n", "type": "COLUMN_TYPE_INT64", "required": True},
            {"name": "partition", "from": "$.partition", "type": "COLUMN_TYPE_INT64"},
            {"name": "offset", "from": "$.offset", "type": "COLUMN_TYPE_INT64"},
        ]
    }
}


def number(n: int) -> bytes:
    return json.dumps({"n": n}).encode()


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
        yield Tenant(running)


async def preview(tenant: Tenant, described: Any, **more: Any) -> Any:
    return await tenant.stub(SourcesStub).PreviewSource(ParseDict({**described, **more}, pb.PreviewSourceRequest()))


async def lag(tenant: Tenant) -> Any:
    return await tenant.stub(ExtractionsStub).GetCursor(extractions_pb2.GetCursorRequest(rule="numbers"))


async def read(tenant: Tenant, data_set: str) -> list[int]:
    """The numbers in all rows."""
    from aimass.v1 import datasets_pb2
    from aimass.v1.datasets_pb2_grpc import DataSetsStub

    found, token = list[int](), ""
    while True:
        request = datasets_pb2.ReadRowsRequest(data_set=data_set, page_size=1000, page_token=token)
        page = await tenant.stub(DataSetsStub).ReadRows(request)
        found += [int(dict(row)["n"]) for row in page.rows]
        token = page.next_page_token
        if not token:
            return found


async def test_a_topic_of_documents_is_previewed_tested_and_read_once(tenant: Tenant) -> None:
    name = topic(2)
    records = [(n % 2, f"k{n}".encode(), number(n)) for n in range(50)]
    write(name, records, headers=[("origin", b"till"), ("raw", b"\xff\x01")])
    write(name, [(0, b"\xff", b"{"), (0, b"gone", None)])
    shown = await preview(tenant, source(name), records=3)
    assert list(shown.parts) == [f"{name}/0", f"{name}/1"]
    first = MessageToDict(shown.records[0])
    assert {**first, "timestamp": ""} == {
        "value": {"n": 0.0}, "key": "k0", "headers": {"origin": "till", "raw": "ff01"}, "partition": 0.0,
        "offset": 0.0, "timestamp": "",
    }  # fmt: skip
    assert first["timestamp"].endswith("Z")

    await tenant.rule("numbers", source(name), NUMBERS)
    trial = await tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule="numbers", records=10))
    assert (len(trial.rows), trial.coverage) == (10, 1.0)
    assert (await lag(tenant)).lag == 52
    done = await tenant.extract("numbers")
    assert (done.rows_accepted, done.rows_quarantined) == (50, 2)
    aside = await tenant.quarantine("numbers", done.data_set_version)
    assert sorted((reason, origin) for _, reason, origin in aside) == [
        ("n is missing", f"{name}/0:26"),
        ("the value is not JSON", f"{name}/0:25"),
    ]
    assert (await tenant.extract("numbers")).records_read == 0
    write(name, [(1, None, number(50))])
    behind = await lag(tenant)
    assert (behind.lag, [(p.part, p.position, p.end, p.lag) for p in behind.parts]) == (
        1, [(f"{name}/1", 25, 26, 1), (f"{name}/0", 27, 27, 0)]
    )  # fmt: skip
    assert (await tenant.extract("numbers")).rows_accepted == 1
    assert (await lag(tenant)).lag == 0
    assert sorted(await read(tenant, "numbers")) == list(range(51))


async def test_rules_are_found_for_text_and_for_documents(tenant: Tenant) -> None:
    texts, documents = topic(), topic()
    lines = [f"user u{n} logged in from 10.0.0.{n} after {n * 3} ms" for n in range(40)]
    write(texts, [(0, None, line.encode()) for line in lines])
    write(documents, [(0, None, number(n)) for n in range(40)])
    stub = tenant.stub(RulesStub)
    for name, described in ("texts", source(texts, "text")), ("documents", source(documents)):
        request = ParseDict({"source": name, **described}, pb.CreateSourceRequest())
        await tenant.stub(SourcesStub).CreateSource(request)
    found = await stub.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="texts"))
    (best, *_), columns = found.proposals, [c.name for c in found.proposals[0].definition.json.columns]
    assert columns == ["partition", "offset", "timestamp"]
    assert len(best.rows) == 3
    await stub.CreateRule(rules_pb2.CreateRuleRequest(rule="texts", source="texts", definition=best.definition))
    await stub.ActivateRule(rules_pb2.ActivateRuleRequest(rule="texts", version=1))
    assert (await tenant.extract("texts")).rows_accepted == 40
    found = await stub.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="documents"))
    named = {column.name: getattr(column, "from") for column in found.proposals[0].definition.json.columns}
    assert named["value_n"] == "$.value.n"
    shown = await preview(tenant, source(documents, "bytes"), records=1)
    assert dict(shown.records[0])["value"] == number(0).hex()


async def test_a_record_that_is_too_large_is_put_aside_and_those_behind_it_are_read(tenant: Tenant) -> None:
    name = topic(1, max_message_bytes=str(30 * 2**20))
    large = b'{"n": 1, "more": "' + b"x" * (20 * 2**20) + b'"}'
    write(name, [(0, None, number(0))])
    write(name, [(0, None, large)], max_request_size=30 * 2**20)
    write(name, [(0, None, number(2))])
    await tenant.rule("numbers", source(name), NUMBERS)
    done = await tenant.extract("numbers")
    assert (done.rows_accepted, done.rows_quarantined) == (2, 1)
    ((record, reason, origin),) = await tenant.quarantine("numbers", done.data_set_version)
    assert (reason, origin, len(record)) == ("the value is longer than 1 MiB", f"{name}/0:1", 8192)
    assert (await tenant.extract("numbers")).records_read == 0


class Crooked(str):
    """The name of a header that is no text."""

    def encode(self, *_: object) -> bytes:
        return b"\xff"


async def test_a_record_that_cannot_be_decoded_is_said_and_no_cursor_passes_it(tenant: Tenant) -> None:
    name = topic(1)
    await tenant.rule("numbers", source(name), NUMBERS)
    write(name, [(0, None, number(0))], headers=[(Crooked("a"), b"x")])
    done = await tenant.ended((await tenant.begin("numbers")).operation)
    assert done.error.code == "failed_precondition"
    assert f"{name} has a damaged record" in done.error.detail


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_are_read_however_the_broker_compresses_them(tenant: Tenant, codec: str) -> None:
    name = topic(1, compression_type=codec)
    write(name, [(0, None, number(n)) for n in range(3000)])
    await tenant.rule("numbers", source(name), NUMBERS)
    assert (await tenant.extract("numbers")).rows_accepted == 3000


async def test_what_a_transaction_aborted_is_no_record(tenant: Tenant) -> None:
    name = topic(1)
    producer = KafkaProducer(bootstrap_servers=address("kafka"), transactional_id=name)
    producer.init_transactions()
    for first, commits in ((0, True), (10, False), (20, True)):
        producer.begin_transaction()
        for n in range(first, first + 10):
            producer.send(name, number(n), partition=0)
        if commits:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()
    await tenant.rule("numbers", source(name), NUMBERS)
    assert (await tenant.extract("numbers")).rows_accepted == 20
    assert sorted(await read(tenant, "numbers")) == [*range(10), *range(20, 30)]
    assert (await tenant.extract("numbers")).records_read == 0


async def test_of_many_partitions_that_grow_and_are_added_to_each_record_is_read_once(tenant: Tenant) -> None:
    chance, name, n, partitions = random.Random(20260301), topic(24), 0, 24
    await tenant.rule("numbers", source(name), NUMBERS)
    for turn in range(4):
        records = []
        for _ in range(chance.randint(0, 2000)):
            records.append((chance.randrange(partitions), None, number(n)))
            n += 1
        write(name, records)
        if turn == 1:
            partitions += 7
            with admin(address("kafka")) as client:
                client.create_partitions({name: partitions})
            await asyncio.sleep(1)
        assert (await tenant.extract("numbers")).rows_accepted == len(records)
    assert sorted(await read(tenant, "numbers")) == list(range(n))


async def test_a_run_that_is_killed_reads_each_record_once(tenant: Tenant) -> None:
    name = topic(4)
    write(name, [(n % 4, None, number(n)) for n in range(60_000)])
    await tenant.rule("numbers", source(name), NUMBERS)
    begun = await tenant.begin("numbers")
    for _ in range(2):
        child = await until(reading)
        child.kill()
        await until(lambda child=child: not child.is_running())  # type: ignore[misc]
    done = await tenant.ended(begun.operation, 60)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
    assert sorted(await read(tenant, "numbers")) == list(range(60_000))
    assert (await tenant.extract("numbers")).records_read == 0


def reading() -> psutil.Process | None:
    """A child that is connected to a broker."""
    for child in psutil.Process().children():
        try:
            connected = any(c.status == psutil.CONN_ESTABLISHED for c in child.net_connections("tcp"))
            if "services.data.extractions.work" in " ".join(child.cmdline()) and connected:
                return child
        except psutil.Error:
            continue
    return None


async def test_a_run_waits_for_a_broker_that_is_away_and_goes_on(tmp_path: Path) -> None:
    broker = make("kafka", tmp_path / "broker").start()
    try:
        name = topic(2, where=broker.address)
        write(name, [(n % 2, None, number(n)) for n in range(20_000)], broker.address)
        async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW="127.0.0.1") as running:
            tenant = Tenant(running)
            await tenant.rule("numbers", source(name, where=broker.address), NUMBERS)
            broker.kill()
            begun = await tenant.begin("numbers")
            get = operations_pb2.GetOperationRequest(operation=begun.operation)

            async def said() -> bool:
                found = await tenant.stub(OperationsStub).GetOperation(get)
                return f"no broker of {broker.address} answers" in found.message

            while not await said():
                await asyncio.sleep(0.5)
            broker.start()
            done = await tenant.ended(begun.operation, 120)
            assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
            assert sorted(await read(tenant, "numbers")) == list(range(20_000))
            broker.kill()
            failure = await refused(preview(tenant, source(name, where=broker.address)))
            assert (failure.code, "answers (with no TLS" in failure.detail) == (Code.UNAVAILABLE, True)
    finally:
        broker.end()


async def test_records_that_were_deleted_before_they_were_read_are_counted(tenant: Tenant) -> None:
    name = topic(2)
    write(name, [(0, None, number(n)) for n in range(10)])
    await tenant.rule("numbers", source(name), NUMBERS)
    assert (await tenant.extract("numbers")).rows_accepted == 10
    write(name, [(0, None, number(n)) for n in range(10, 20)])
    with admin(address("kafka")) as client:
        client.delete_records({TopicPartition(name, 0): 15})
    done = await tenant.ended((await tenant.begin("numbers")).operation)
    assert done.error.code == "failed_precondition"
    assert done.error.detail.startswith(
        f"5 records of {name}/0 were deleted before they were read: offsets 10 to 14; to go on without them"
    )
    change = ParseDict(
        {"source": "numbers", **source(name, lost_records="LOST_RECORDS_SKIP")}, pb.UpdateSourceRequest()
    )
    await tenant.stub(SourcesStub, if_match="*").UpdateSource(change)
    done = await tenant.ended((await tenant.begin("numbers")).operation)
    assert "5 rows of 5 records, 0 quarantined; 5 records of" in done.message
    assert sorted(await read(tenant, "numbers")) == [*range(10), *range(15, 20)]


async def test_a_topic_that_was_deleted_and_created_again_is_read_from_its_start(tenant: Tenant) -> None:
    name = topic(1)
    write(name, [(0, None, number(n)) for n in range(5)])
    await tenant.rule("numbers", source(name), NUMBERS)
    await tenant.extract("numbers")
    with admin(address("kafka")) as client:
        client.delete_topics([name])
        await until(lambda: name not in client.list_topics())
    topic(1, name)
    write(name, [(0, None, number(n)) for n in range(5, 12)])
    done = await tenant.ended((await tenant.begin("numbers")).operation)
    assert done.message.endswith(f"{name} is another topic than before and was read from its start")
    assert sorted(await read(tenant, "numbers")) == list(range(12))


async def test_what_cannot_be_read_is_said(tenant: Tenant, tmp_path: Path) -> None:
    name = topic(1)
    port = address("kafka").rpartition(":")[2]
    for described, code, says in (
        (source("nothing"), Code.INVALID_VALUE, "there is no topic nothing"),
        (source(name, where="127.0.0.1:1"), Code.UNAVAILABLE, "no broker of 127.0.0.1:1 answers"),
        (source(name, where=f"localhost:{port}"), Code.EGRESS_DENIED, "localhost is not an address"),
        (source(name, tls=True), Code.UNAVAILABLE, "(with TLS, as the source says)"),
    ):
        failure = await refused(preview(tenant, described))
        assert (failure.code, says in failure.detail) == (code, True), failure.detail


async def test_a_broker_that_another_names_is_not_reached_where_that_is_not_allowed(tmp_path: Path) -> None:
    name, where = topic(1), address("kafka")
    async with house(tmp_path, "data", AIMASS_EGRESS_ALLOW=f"localhost:{where.rpartition(':')[2]}") as running:
        described = source(name, where=where.replace("127.0.0.1", "localhost"))
        failure = await refused(preview(Tenant(running), described))
    assert (failure.code, failure.detail) == (Code.EGRESS_DENIED, "127.0.0.1 is not an address that may be reached")
