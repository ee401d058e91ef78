"""What is Kafka's own: how its URL reads, what strangers write into its topics, and a cluster that is not there."""

import asyncio
import contextlib
import logging
import ssl
import threading
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aimass.v1.access_pb2 import Tenant
from aimass.v1.gateway_events_pb2 import TenantChanged
from deploy.authority import Authority
from services.kit import bus_kafka
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.bus_kafka import KafkaBus
from services.kit.bus_kafka import cluster as cluster_module
from services.kit.bus_kafka.client import make_client
from services.kit.bus_kafka.cluster import Cluster, Place
from services.kit.bus_kafka.records import event_of
from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.errors import Code, Failure, Unavailable
from services.kit.event import LARGEST
from services.kit.inbox import Delivery, Listener, consume
from services.kit.schema import Schema
from services.kit.telemetry import metrics
from tests.kit.conftest import now
from tests.support.certificates import certify
from tests.support.house import until
from tests.support.servers import address

TOPIC = "aimass.gateway.v1"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("kafka://a:9092", Place(("a:9092",), False)),
        ("kafka+ssl://a:1,b:2?partitions=3&replication=2", Place(("a:1", "b:2"), True, 3, 2)),
        ("kafka://[::1]:9092", Place(("[::1]:9092",), False)),
    ],
)
def test_a_url_names_servers_and_the_shape_of_topics(url: str, place: Place) -> None:
    assert Place.of(url) == place


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "a",
        "a:0",
        "a:b",
        ":9092",
        "a:9092,",
        "a:9092/x",
        "secret@a:9092",
        "a:1?partitions=0",
        "a:1?x=1",
        "a:1?partitions=",
    ],
)
def test_a_url_that_says_something_else_is_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(ConfigError, match="must be kafka://host:port") as caught:
        KafkaBus(f"kafka://{rest}")
    assert "secret" not in str(caught.value)


def test_tls_needs_its_certificates() -> None:
    with pytest.raises(ConfigError, match="needs AIMASS_TLS_DIR"):
        KafkaBus("kafka+ssl://a:9092")


def test_tls_without_the_files_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no ca\.pem, cert\.pem and key\.pem"):
        KafkaBus("kafka+ssl://a:9092", tmp_path)


async def test_renewed_certificates_are_shown_by_the_next_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK", 0.0)
    authority, shown = Authority.new(), list[int]()
    mine = certify(tmp_path / "registry", authority, "registry")
    cluster = Cluster("kafka+ssl://localhost:1", mine)
    assert cluster._context

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert")
        shown.append(int(certificate["serialNumber"], 16))
        writer.close()

    context = _broker(certify(tmp_path / "kafka", authority, "kafka"))
    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        for _ in range(2):
            ours = cluster._context.context
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours, server_hostname="kafka")
            await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            certify(mine, authority, "registry")
            cluster.renew()

    assert len(set(shown)) == 2


def _broker(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_half_of_a_renewal_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK", 0.0)
    folder = certify(tmp_path / "registry", Authority.new(), "registry")
    cluster = Cluster("kafka+ssl://localhost:1", folder)
    (folder / "key.pem").rename(folder / "key.new")
    cluster.renew()
    assert "cannot be read yet" in caplog.text
    (folder / "key.new").rename(folder / "key.pem")
    caplog.clear()
    cluster.renew()

    assert not caplog.text


def test_a_record_that_says_nothing_is_an_event_without_an_owner() -> None:
    found = event_of(SimpleNamespace(topic="t", key=None, value=None, headers=[("x", None)], offset=7, partition=3))

    assert (found.key, found.body, found.headers, found.offset, found.partition) == ("", b"", {"x": ""}, 7, 3)
    assert found.flaw() == "id"


def test_bytes_that_are_no_text_are_read_as_far_as_they_go() -> None:
    headers = [("ce_id", b"\xff\xfe"), ("tenant", b"ac\xffme")]
    found = event_of(SimpleNamespace(topic="t", key=b"\xffk", value=b"v", headers=headers, offset=0, partition=0))

    assert (found.key, found.headers["tenant"], found.flaw()) == ("\ufffdk", "ac\ufffdme", "id")


@pytest.fixture
async def away(free_port: int) -> AsyncIterator[KafkaBus]:
    """A bus whose cluster is not there."""
    found = KafkaBus(f"kafka://127.0.0.1:{free_port}")
    yield found
    await found.close()


async def test_a_cluster_that_is_away_is_said_soon_and_not_at_the_cost_of_the_loop(away: KafkaBus) -> None:
    began, longest = time.monotonic(), 0.0
    publishing = asyncio.ensure_future(away.publish([Event(TOPIC, "k", b"x")]))
    while not publishing.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)

    with pytest.raises(Unavailable, match="kafka does not take events"):
        await publishing
    assert time.monotonic() - began < bus_kafka._PATIENCE + 1
    assert longest < 1, "seconds that the loop waited, on any machine"


async def test_closing_is_quick_while_the_cluster_is_away(away: KafkaBus) -> None:
    readers = [await away.reader([TOPIC], f"g{n}", from_end=n == 1) for n in range(2)]
    polls = [asyncio.ensure_future(reader.poll(1)) for reader in readers]
    await asyncio.sleep(0.3)
    for poll in polls:
        poll.cancel()
    began = time.monotonic()
    await away.close()

    assert time.monotonic() - began < 3


async def test_a_reader_that_waits_complains_once(away: KafkaBus, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "services"):
        poll = asyncio.ensure_future((await away.reader([TOPIC], "g")).poll(1))
        await asyncio.sleep(5)
        poll.cancel()

    ours = [record.message for record in caplog.records if record.name.startswith("services")]
    assert len([text for text in ours if "waits for the bus" in text]) == 1
    assert len(ours) <= 3, "and a few of the library's, which has a hundred"


async def test_an_event_that_is_too_large_is_refused_before_anything_is_sent(away: KafkaBus) -> None:
    with pytest.raises(Failure, match="the bus takes 8388608") as caught:
        await away.publish([Event(TOPIC, "k", b"x"), Event(TOPIC, "k", bytes(LARGEST + 1))])
    assert caught.value.code is Code.LIMIT_EXCEEDED


async def test_what_waits_is_bounded(away: KafkaBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_kafka, "_HELD", 1000)
    waiting = asyncio.ensure_future(away.publish([Event(TOPIC, "k", bytes(900))]))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too many bytes wait"):
        await away.publish([Event(TOPIC, "k", bytes(900))])
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable, match="does not take events"):
        await away.publish([Event(TOPIC, "k", bytes(900))])


@pytest.fixture
async def kafka() -> AsyncIterator[KafkaBus]:
    found = KafkaBus(f"kafka://{address('kafka')}?partitions=1")
    yield found
    await found.close()


def client(kind: str, **settings: Any) -> Any:
    """A client as a stranger or an operator has one."""
    import kafka as library

    return make_client(getattr(library, kind), bootstrap_servers=address("kafka"), **settings)


def changed(name: str) -> Event:
    return Event.of(TenantChanged(tenant=Tenant(tenant=name)), Scope("acme"), "tenants", "one", "gateway", now())


def aside(topic: str) -> set[str]:
    """Why events of a topic were not handled."""
    found = [s for m in metrics.aside.collect() for s in m.samples if s.name.endswith("_total")]
    return {s.labels["reason"] for s in found if s.labels["topic"] == topic}


async def say(bus: KafkaBus, events: Sequence[Event]) -> None:
    """As a relay does: what a busy broker did not acknowledge in time, and may have, is said again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await bus.publish(events)
            except Unavailable:
                await asyncio.sleep(1)


@pytest.mark.far
async def test_hostile_records_go_aside_and_the_rest_keeps_its_order(
    kafka: KafkaBus, db: Database, schema: Schema, only_topic: str
) -> None:
    names = [f"t{n}" for n in range(6)]
    good = [changed(name) for name in names]
    await say(kafka, good[:3])
    await asyncio.to_thread(_write_hostile, only_topic, good[0])
    await say(kafka, [*good[3:], good[0]])  # the last one comes again

    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        await db.run(lambda connection: seen.append(message.tenant.tenant), delivery)

    listening = asyncio.create_task(consume(kafka, Listener({TenantChanged: handler}, schema.inbox), only_topic, now))
    await until(lambda: len(seen) == 6 and aside(only_topic) == {*_REASONS.values(), "unknown"}, seconds=60)

    behind_every_record = await asyncio.to_thread(_caught_up, only_topic)
    listening.cancel()
    await asyncio.wait([listening])

    assert seen == names
    assert behind_every_record
    dead = await kafka.reader([f"{only_topic}.dead"], f"{only_topic}-dead")
    found: dict[str, Event] = {}  # by id: who was not heard in time says it again
    async with asyncio.timeout(20):
        while len(found) < 5:
            found |= {event.id: event for event in await dead.poll(10)}
    reasons = {name: event.headers["dead_reason"] for name, event in found.items()}
    assert reasons == _REASONS, "and one of an unknown type was passed over"
    assert max(event.size for event in found.values()) < 10_000, "the 20 MiB stay where they are"


_REASONS = {"bad-schema": "unreadable", "forged": "tenant", "forged-too": "tenant", "\ufffd" * 20: "id", "": "id"}


def _write_hostile(topic: str, good: Event) -> None:
    """Six records of a stranger whom the broker lets write anything of any size."""
    admin = client("KafkaAdminClient")
    admin.alter_configs(_resource(topic, {"max.message.bytes": str(2**25)}))
    admin.close()
    producer = client("KafkaProducer", max_request_size=2**25)
    named = {name: value.encode() for name, value in good.headers.items()}

    def write(body: bytes | None, key: str = good.key, **headers: bytes) -> None:
        future = producer.send(topic, value=body, key=key.encode(), headers=list((named | headers).items()))
        future.get(20)

    write(b"\xff\xff\xff", ce_id=b"bad-schema")
    write(good.body, ce_id=b"forged", tenant=b"victim")
    write(good.body, "victim/default/tenants/one", ce_id=b"forged-too")
    write(good.body, ce_id=b"unknown", ce_type=b"aimass.v1.NotYetInvented")
    write(bytes(20 * 2**20), ce_id=b"\xff" * 20)
    write(None, ce_id=b"")
    producer.close()


def _resource(topic: str, configs: dict[str, str]) -> Any:
    from kafka.admin import ConfigResource, ConfigResourceType

    return [ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)]


def _caught_up(topic: str) -> bool:
    """Whether the group's offset is behind every record, soon."""
    from kafka import TopicPartition

    consumer, place = client("KafkaConsumer", group_id=topic, enable_auto_commit=False), TopicPartition(topic, 0)
    with contextlib.closing(consumer):
        for _ in range(300):
            if consumer.end_offsets([place])[place] == consumer.committed(place):
                return True
            time.sleep(0.2)
    return False


async def test_a_commit_that_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.kit.bus_kafka import reader as module

    monkeypatch.setattr(module, "STUCK", 0.1)
    bus, stuck = KafkaBus("kafka://127.0.0.1:1"), threading.Event()
    reader = await bus.reader(["t"], "g")
    reader._thread.submit(stuck.wait, 20)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="does not answer"):
            await reader.commit([Event("t", "k", b"")])
        await reader.commit([Event("t", "k", b"")])  # another thread is there
    stuck.set()
    await bus.close()


@pytest.mark.far
async def test_a_consumer_that_breaks_while_it_is_waited_for_is_followed_by_another(
    kafka: KafkaBus, db: Database, schema: Schema, only_topic: str
) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        if not seen:  # its thread and connections are gone when the commit comes
            await asyncio.to_thread(kafka._readers[0]._consumer._net.close)
        await db.run(lambda connection: seen.append(message.tenant.tenant), delivery)

    await kafka.publish([changed("a")])
    listening = asyncio.create_task(consume(kafka, Listener({TenantChanged: handler}, schema.inbox), only_topic, now))
    await until(lambda: seen, seconds=30)
    await kafka.publish([changed("b")])
    await until(lambda: len(seen) == 2, seconds=30)
    assert not listening.done()
    listening.cancel()
    await asyncio.wait([listening])

    assert seen == ["a", "b"]


@pytest.mark.far
async def test_a_passing_group_leaves_nothing_behind(kafka: KafkaBus, topic: str) -> None:
    reader = await kafka.reader([topic], f"passing-{topic}", from_end=True)
    await kafka.publish([Event(topic, "k", b"x", {"ce_id": "1"})])
    async with asyncio.timeout(20):
        await reader.commit(await reader.poll(1))
    await reader.close()

    assert f"passing-{topic}" not in str(await asyncio.to_thread(_groups))


def _groups() -> Any:
    with contextlib.closing(client("KafkaAdminClient")) as admin:
        return admin.list_groups()


@pytest.mark.far
@pytest.mark.parametrize(
    ("topic", "kept", "flushed"), [("aimass.telemetry.v1.x", "86400000", False), ("aimass.x.v1", "604800000", True)]
)
async def test_topics_are_made_with_their_dead_ones_and_as_the_url_says(topic: str, kept: str, flushed: bool) -> None:
    bus = KafkaBus(f"kafka://{address('kafka')}?partitions=5")
    topic = f"{topic}.{uuid.uuid4().hex}"
    await bus.publish([Event(topic, "k", b"x")])
    await bus.close()
    for name in (topic, f"{topic}.dead"):
        partitions, configs = await asyncio.to_thread(_described, name)
        assert partitions == 5
        assert configs["retention.ms"] == kept
        assert int(configs["max.message.bytes"]) > LARGEST
        assert ("flush.messages" in configs) is flushed


def _described(topic: str) -> tuple[int, dict[str, str]]:
    with contextlib.closing(client("KafkaAdminClient")) as admin:
        (shape,) = admin.describe_topics([topic])
        found = admin.describe_configs(_resource(topic, {}))
    return len(shape["partitions"]), {name: said["value"] for name, said in found["topic"][topic].items()}


@pytest.mark.far
async def test_a_partition_that_is_added_is_read_from_its_beginning(
    kafka: KafkaBus, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    from services.kit.bus_kafka import cluster, reader

    monkeypatch.setattr(reader, "_NEW_PARTITIONS", 0.0)
    monkeypatch.setattr(cluster, "_AGE", 500)
    found = await kafka.reader([topic], "passing", from_end=True)
    await asyncio.to_thread(_add_partition, topic)
    seen: set[int] = set()
    async with asyncio.timeout(30):
        while seen != {0, 1}:
            await kafka.publish([Event(topic, f"k{n}", b"x") for n in range(8)])
            seen |= {event.partition for event in await found.poll(100)}


def _add_partition(topic: str) -> None:
    with contextlib.closing(client("KafkaAdminClient")) as admin:
        admin.create_partitions({topic: 2})


@pytest.mark.far
async def test_a_consumer_that_reads_on_and_sends_no_sign_of_life_is_replaced(kafka: KafkaBus, topic: str) -> None:
    reader = await kafka.reader([topic], f"silent-{topic}")
    await kafka.publish([Event(topic, "k", b"first")])
    async with asyncio.timeout(60):
        await reader.commit(await reader.poll(10))
        broken = reader._consumer
        heard = list[bytes]()
        while reader._consumer in (broken, None):
            broken._coordinator._heartbeat_enabled = False  # who joins again enables it
            await kafka.publish([Event(topic, "k", b"%d" % len(heard))])
            heard += [event.body for event in await reader.poll(10)]
        await kafka.publish([Event(topic, "k", b"last")])
        while b"last" not in heard:
            heard += [event.body for event in await reader.poll(10)]
    await reader.close()

    assert list(dict.fromkeys(heard))[:2] == [b"0", b"1"]
