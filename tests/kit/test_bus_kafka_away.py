"""A broker is killed and frozen, readers leave and are killed: nothing is lost or doubled, each thing is in order."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.engine import Connection

from aimass.v1.access_pb2 import Tenant
from aimass.v1.gateway_events_pb2 import TenantChanged
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.bus_kafka import KafkaBus
from services.kit.db import Database
from services.kit.errors import Unavailable
from services.kit.inbox import Delivery, Listener, consume
from services.kit.relay import Relay
from services.kit.schema import Schema
from tests.kit.conftest import now
from tests.support.house import until
from tests.support.server import ROOT
from tests.support.servers import Missing, Program, make

pytestmark = pytest.mark.far
TOPIC = "aimass.gateway.v1"
EVENTS, KEYS = 2000, 20
effects = Table("effect", MetaData(), Column("id", Integer, primary_key=True), Column("said", String, nullable=False))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A broker of our own, for it is not treated well."""
    try:
        program = make("kafka", tmp_path_factory.mktemp("broker")).start(180)
    except Missing as missing:
        pytest.skip(str(missing))
    yield program
    program.end()


@pytest.fixture
async def bus(broker: Program) -> AsyncIterator[KafkaBus]:
    found = KafkaBus(f"kafka://{broker.address}?partitions=4")
    yield found
    await found.close()


def changed(number: int) -> Event:
    """What happens to one of the things; numbers grow."""
    key = f"t{number % KEYS}"
    return Event.of(TenantChanged(tenant=Tenant(tenant=str(number))), Scope("acme"), "tenants", key, "gateway", now())


class Effects:
    """What a handler did: rows, written in the transaction of the inbox."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def open(self) -> "Effects":
        await self._db.run(effects.create)
        return self

    async def handler(self, message: TenantChanged, delivery: Delivery) -> None:
        await self._db.run(lambda c: c.execute(insert(effects).values(said=message.tenant.tenant)) and None, delivery)

    async def numbers(self) -> list[int]:
        rows = await self._db.run(lambda c: c.execute(select(effects.c.said).order_by(effects.c.id)).scalars().all())
        return [int(said) for said in rows]


def in_order(numbers: list[int]) -> bool:
    """Each thing's numbers grow."""
    return all((of := [n for n in numbers if n % KEYS == key]) == sorted(of) for key in range(KEYS))


@contextlib.asynccontextmanager
async def working(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_broker_that_is_killed_loses_and_doubles_nothing(
    broker: Program, bus: KafkaBus, db: Database, schema: Schema, only_topic: str
) -> None:
    done = await Effects(db).open()
    listener = Listener({TenantChanged: done.handler}, schema.inbox)
    async with working(Relay(schema.outbox, schema.tenure, db, bus).run(), consume(bus, listener, only_topic, now)):
        for start in range(0, EVENTS, 50):
            await db.run(partial(_say, schema, start))
            if start in (500, 1200):
                await asyncio.to_thread(broker.kill)
                if start == 1200:
                    await asyncio.sleep(2)
                restart = asyncio.create_task(asyncio.to_thread(broker.start, 180))
        await restart

        async def all_are_there() -> bool:
            return len(await done.numbers()) >= EVENTS

        await until(all_are_there, seconds=180)
        await asyncio.sleep(1)  # for what would come twice
    numbers = await done.numbers()

    assert sorted(numbers) == list(range(EVENTS))
    assert in_order(numbers)


def _say(schema: Schema, start: int, connection: Connection) -> None:
    schema.outbox.add(connection, [changed(number) for number in range(start, start + 50)])


async def test_a_frozen_broker_is_waited_for_and_not_by_the_loop(broker: Program, bus: KafkaBus, topic: str) -> None:
    await bus.publish([Event(topic, "k", b"0", {"ce_id": "0"})])
    reader = await bus.reader([topic], "frozen")
    found = await reader.poll(10)
    assert [event.id for event in found] == ["0"]
    await reader.commit(found)  # on a busy machine the consumer may be taken for broken, and replaced
    broker.freeze()
    began, longest = time.monotonic(), 0.0
    publishing = asyncio.create_task(bus.publish([Event(topic, "k", b"1", {"ce_id": "1"})]))
    while time.monotonic() - began < 3:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
    assert not publishing.done(), "it is not acknowledged, so nobody is told so"
    broker.thaw()
    await publishing

    async with asyncio.timeout(20):
        assert [event.id for event in await reader.poll(10)] == ["1"]
    assert longest < 0.5, "seconds that the loop waited, on any machine"


async def test_a_broker_that_is_frozen_for_longer_gets_the_same_again_in_order(
    broker: Program, bus: KafkaBus, topic: str
) -> None:
    events = [Event(topic, f"k{n % 5}", str(n).encode(), {"ce_id": str(n)}) for n in range(100)]
    await bus.publish(events[:10])
    broker.freeze()
    failures = 0
    thawing = asyncio.get_running_loop().call_later(8, broker.thaw)
    while True:
        try:
            await bus.publish(events)
        except Unavailable:
            failures += 1
            continue
        break
    thawing.cancel()
    reader, seen = await bus.reader([topic], "frozen-long"), list[str]()
    async with asyncio.timeout(30):
        while len(set(seen)) < 100 or seen[-1:] == []:
            seen += [event.id for event in await reader.poll(100)]
    first = [int(one) for one in dict.fromkeys(seen)]

    assert failures >= 1
    assert all([n for n in first if n % 5 == key] == list(range(key, 100, 5)) for key in range(5))


async def test_a_reader_that_closes_leaves_the_rest_to_another(
    bus: KafkaBus, db: Database, schema: Schema, only_topic: str
) -> None:
    done = await Effects(db).open()
    listener = Listener({TenantChanged: done.handler}, schema.inbox)
    wanted = range(500)

    async def some(count: int) -> None:
        async def there() -> bool:
            return len(await done.numbers()) >= count

        await until(there, seconds=120)

    async with working(consume(bus, listener, only_topic, now)):
        async with working(consume(bus, listener, only_topic, now)):
            await bus.publish([changed(number) for number in wanted])
            await some(50)
        await some(len(wanted))

    numbers = await done.numbers()

    assert sorted(numbers) == list(wanted)
    assert in_order(numbers)


async def test_a_reader_that_is_killed_is_taken_over_from(
    broker: Program, bus: KafkaBus, topic: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = "taken-over"
    await bus.publish([Event(topic, f"k{n % 9}", b"", {"ce_id": str(n)}) for n in range(300)])
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kit.reading", f"kafka://{broker.address}", topic, group,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert other.stdout
    seen: list[str] = []
    async with asyncio.timeout(60):
        while len(seen) < 100:
            seen.append((await other.stdout.readline()).decode().strip())
    other.kill()
    await other.wait()
    seen += (await other.stdout.read()).decode().split()
    reader = await bus.reader([topic], group)
    async with asyncio.timeout(40):
        while len(set(seen)) < 300:
            events = await reader.poll(100)
            seen += [event.id for event in events]
            await reader.commit(events)

    assert set(seen) == {str(n) for n in range(300)}
    assert "reads again" not in caplog.text, "it waits for the one that is gone, and is not broken"
    twice = [one for one, count in Counter(seen).items() if count > 1]
    assert len(twice) <= 10, "what the other had committed does not come again"
