"""Events a second into Kafka, and records a second through it into synced segments and to search.

`AIMASS_TEST_KAFKA=host:port python -m tests.bench.kafka [events] [batches of 1,000 records]`. It starts no server and
asserts nothing. The topics are of this run; what it leaves behind on the broker goes with their retention.
"""

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aimass.v1.registry_events_pb2 import ReleaseChanged
from aimass.v1.releases_pb2 import Release
from services.kit.auth import Scope
from services.kit.bus_kafka import KafkaBus
from services.kit.event import Event
from services.kit.telemetry import Record
from services.kit.telemetry.otlp import logs, request
from services.kit.timestamps import uuid7
from services.logs.ingest import api
from services.logs.ingest.api import Intake
from services.logs.ingest.segments import Segments
from services.logs.ingest.service import Ingest
from services.logs.search.index import Index, Window
from services.logs.search.service import Search

RUN = uuid.uuid4().hex
BATCH = 200  # as a relay publishes
RECORDS = 1000


def change(number: int, topic: str) -> Event:
    """What a service says when a thing has changed; about 600 bytes."""
    name = f"m{number % 100}"
    release = Release(model=name, reason="the challenger is better by two points on last week's flights")
    message, scope = ReleaseChanged(release=release, generation=number), Scope("acme")
    event = Event.of(message, scope, "releases", name, "registry", datetime.now(UTC))
    return Event(topic, event.key, event.body, event.headers)


def batch(number: int, topic: str) -> Event:
    """A thousand predictions, as a gateway tells them."""
    records = [
        Record("prediction", "late", "", Scope("acme"), {"model": "late", "version": 3, "duration_ms": 0.5, "rows": 1})
        for _ in range(RECORDS)
    ]
    kind = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"
    return Event(topic, str(number), request(logs(records)), {"ce_id": uuid7(), "ce_type": kind, "tenant": "system"})


async def publish(bus: KafkaBus, events: list[Event], writers: int) -> float:
    """Seconds for all of them, acknowledged; each writer has one batch under way."""

    async def write(mine: list[Event]) -> None:
        for start in range(0, len(mine), BATCH):
            await bus.publish(mine[start : start + BATCH])

    began = time.perf_counter()
    await asyncio.gather(*(write(events[number::writers]) for number in range(writers)))
    return time.perf_counter() - began


async def drain(bus: KafkaBus, topic: str, count: int) -> float:
    """Seconds until a group has read and committed so many events."""
    reader, began, read = await bus.reader([topic], f"bench-{RUN}"), 0.0, 0
    while read < count:
        events = await reader.poll(BATCH)
        began = began or time.perf_counter()
        read += len(events)
        await reader.commit(events)
    await reader.close()
    return time.perf_counter() - began


async def reach(what: Callable[[], int], count: int) -> None:
    while what() < count:
        await asyncio.sleep(0.01)


async def store(bus: KafkaBus, topic: str, kind: str, count: int) -> tuple[float, float]:
    """Seconds until so many records of a topic are synced, and until they are found."""
    with tempfile.TemporaryDirectory() as home:
        return await _store(bus, topic, kind, count, Path(home))


async def _store(bus: KafkaBus, topic: str, kind: str, count: int, home: Path) -> tuple[float, float]:
    api.TOPICS[:] = [topic]
    if kind == "prediction":
        api.TELEMETRY = topic  # type: ignore[attr-defined]
    ingest = Ingest(Segments(home / "records"))
    await ingest.open()
    search = Search(ingest, Index(home / "index"))
    began = time.perf_counter()
    tasks = [asyncio.create_task(Intake(bus, ingest).run()), asyncio.create_task(search.follow())]
    await reach(lambda: ingest.sequence, 1)
    began = time.perf_counter()
    await reach(lambda: ingest.sequence, count)
    synced = time.perf_counter() - began
    while await search.total(Scope("acme"), f"kind:{kind}", Window()) < count:
        await asyncio.sleep(0.1)
    found = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await search.close()
    ingest.close()
    return synced, found


async def main(server: str, events: int, batches: int) -> None:
    """Measures and prints."""
    bus = KafkaBus(f"kafka://{server}")
    for writers in (1, 4):
        topic = f"aimass.bench{RUN}{writers}.v1"
        made_events = [change(number, topic) for number in range(events)]
        await bus.publish(made_events[:1])
        took = await publish(bus, made_events, writers)
        print(f"{events / took:9.0f} events/s into Kafka, {writers} writer{'s' * (writers > 1)} of {BATCH}")
        took = await drain(bus, topic, events + 1)
        print(f"{events / took:9.0f} events/s out of it, committed by {BATCH}")
    synced, found = await store(bus, topic, "event", events)
    print(f"{events / synced:9.0f} events/s into synced segments, {events / found:.0f} to search")
    topic = f"aimass.telemetry.v1.bench{RUN}"
    records = [batch(number, topic) for number in range(batches)]
    size = sum(event.size for event in records) / len(records)
    began = time.perf_counter()
    for start in range(0, batches, 4):
        await bus.publish(records[start : start + 4])
    count = batches * RECORDS
    print(f"{count / (time.perf_counter() - began):9.0f} records/s into Kafka, {size / 1000:.0f} kB a thousand")
    synced, found = await store(bus, topic, "prediction", count)
    print(f"{count / synced:9.0f} records/s into synced segments")
    print(f"{count / found:9.0f} records/s to search")
    await bus.close()


if __name__ == "__main__":
    address = os.environ.get("AIMASS_TEST_KAFKA", "")
    if not address:
        sys.exit("AIMASS_TEST_KAFKA=host:port names no broker")
    numbers = [int(argument) for argument in sys.argv[1:3]]
    asyncio.run(main(address, *(numbers + [20_000, 100][len(numbers) :])))
