"""The log centre reads Kafka: many topics and partitions, each event once, also when it comes again."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aimass.v1.registry_events_pb2 import ReleaseChanged
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.bus_kafka import KafkaBus
from services.kit.errors import Unavailable
from services.kit.secrets import Vault
from services.kit.telemetry import Record as Told
from services.kit.telemetry.otlp import logs, request
from services.kit.tenant_keys import TenantKeys
from services.kit.timestamps import uuid7
from services.logs.ingest import api
from services.logs.ingest.api import Intake
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest, Left, numbered_records
from tests.logs.test_ingest_waiting import Lacking
from tests.support.house import until
from tests.support.servers import address

pytestmark = pytest.mark.far
ACME = Scope("acme")


@pytest.fixture
async def bus() -> AsyncIterator[KafkaBus]:
    made = KafkaBus(f"kafka://{address('kafka')}?partitions=3")
    yield made
    await made.close()


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Topics of this test's own: two of services, one of telemetry."""
    made = [f"aimass.t{uuid.uuid4().hex}.v1" for _ in range(3)]
    monkeypatch.setattr(api, "TOPICS", made)
    monkeypatch.setattr(api, "TELEMETRY", made[2])
    return made


def said(number: int, topic: str) -> Event:
    made = Event.of(ReleaseChanged(), ACME, "releases", f"m{number % 7}", "registry", datetime.now(UTC))
    return Event(topic, made.key, made.body, made.headers)


def told(number: int, topic: str) -> Event:
    kind = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"
    body = request(logs([Told("log", "x", f"line {number}.{line}", ACME) for line in range(5)]))
    return Event(topic, uuid7(), body, {"ce_id": uuid7(), "ce_type": kind})


class Watched(Ingest):
    """Stops the intake the moment that its records are on the disk, as a kill would."""

    stops: asyncio.Event | None = None

    async def append(self, batches: Sequence[Batch]) -> Left:
        left = await super().append(batches)
        if self.stops:
            self.stops.set()
            await asyncio.Event().wait()
        return left


async def kept(ingest: Ingest) -> list[str]:
    """The ids of all records."""
    found, at = list[str](), Position()
    while len(found) < ingest.sequence:
        stored, at = await ingest.after(at)
        found += [one.record for _, one in numbered_records(stored)]
    return found


async def stopped(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_topics_and_partitions_arrive_once(bus: KafkaBus, topics: list[str], tmp_path: Path) -> None:
    events = [said(n, topics[n % 2]) for n in range(60)]
    await bus.publish(events + [told(n, topics[2]) for n in range(20)] + events[:10])
    ingest = Ingest(Segments(tmp_path / "records"))
    await ingest.open()
    task = asyncio.create_task(Intake(bus, ingest).run())
    await until(lambda: ingest.sequence >= 160, seconds=60)
    await asyncio.sleep(0.5)
    await stopped(task)
    records = await kept(ingest)
    ingest.close()

    assert len(records) == len(set(records)) == 160
    assert {event.id for event in events} <= set(records)


async def test_what_was_synced_and_not_committed_is_known_when_it_comes_again(
    bus: KafkaBus, topics: list[str], tmp_path: Path
) -> None:
    await bus.publish([said(n, topics[0]) for n in range(30)])
    first = Watched(Segments(tmp_path / "records"))
    first.stops = asyncio.Event()
    await first.open()
    task = asyncio.create_task(Intake(bus, first).run())
    async with asyncio.timeout(60):
        await first.stops.wait()
    await stopped(task)
    had = first.sequence
    first.close()

    ingest = Ingest(Segments(tmp_path / "records"))
    await ingest.open()
    assert ingest.sequence == had > 0
    task = asyncio.create_task(Intake(bus, ingest).run())
    await until(lambda: ingest.sequence >= 30, seconds=60)
    await asyncio.sleep(0.5)
    await stopped(task)
    records = await kept(ingest)
    ingest.close()

    assert len(records) == len(set(records)) == 30


async def test_records_that_wait_for_a_key_are_committed_by_nobody_and_kept_once(
    bus: KafkaBus, topics: list[str], tmp_path: Path
) -> None:
    """In the partitions of others, and behind them in their own; killed meanwhile."""

    async def begun(lacking: tuple[str, ...]) -> tuple[Ingest, Lacking, "asyncio.Task[None]"]:
        store = Lacking(tmp_path / "keys" / "tenants")
        store.lacking = lacking
        made = Ingest(Segments(tmp_path / "records"), keys=TenantKeys(store, Vault(tmp_path / "keys")))
        await made.open()
        return made, store, asyncio.create_task(Intake(bus, made).run())

    def mixed(number: int) -> Event:
        both = [Told("log", "x", f"line {number}", Scope(tenant)) for tenant in ("acme", "third")]
        return replace(told(number, topics[2]), body=request(logs(both)))

    await bus.publish([mixed(n) for n in range(30)] + [said(n, topics[0]) for n in range(30)])
    first, _, task = await begun(("third",))
    await until(lambda: first.sequence == 60, seconds=60)
    await asyncio.sleep(0.5)
    await stopped(task)
    first.close()

    again, store, task = await begun(("third",))
    await bus.publish([said(n, topics[0]) for n in range(30, 40)])
    await until(lambda: again.sequence == 70, seconds=60)
    store.lacking = ()
    await until(lambda: again.sequence >= 100, seconds=60)
    await asyncio.sleep(0.5)
    records = await kept(again)
    await stopped(task)
    again.close()
    assert len(records) == len(set(records)) == 100


async def test_nothing_is_committed_that_the_disk_did_not_take(
    bus: KafkaBus, topics: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish([said(n, topics[0]) for n in range(10)])
    ingest = Ingest(Segments(tmp_path / "records"))
    await ingest.open()
    refused: list[int] = []

    async def full(batches: Sequence[Batch]) -> None:
        refused.append(len(batches))
        raise Unavailable("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "append", full)
        task = asyncio.create_task(Intake(bus, ingest).run())
        await until(lambda: refused, seconds=60)
        await stopped(task)
    task = asyncio.create_task(Intake(bus, ingest).run())
    await until(lambda: ingest.sequence >= 10, seconds=60)
    await stopped(task)
    ingest.close()

    assert ingest.sequence == 10
