import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import Connection

from aimass.v1.access_pb2 import Tenant
from aimass.v1.gateway_events_pb2 import TenantChanged
from services.kit.auth import Scope
from services.kit.bus import Event, NearBus
from services.kit.db import Database
from services.kit.inbox import Delivery, Listener, consume
from services.kit.relay import Relay
from services.kit.schema import Schema
from tests.kit.conftest import now

TOPIC = "aimass.gateway.v1"


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NearBus]:
    bus = NearBus(tmp_path / "bus.db")
    await bus.start()
    yield bus
    await bus.close()


def changed(name: str) -> Event:
    return Event.of(TenantChanged(tenant=Tenant(tenant=name)), Scope("system"), "tenants", name, "gateway", now())


async def names(bus: NearBus, count: int, topic: str = TOPIC) -> list[str]:
    reader = await bus.reader([topic], "test")
    found: list[str] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += [TenantChanged.FromString(e.body).tenant.tenant for e in await reader.poll(100)]
    return found


async def test_an_event_leaves_with_its_transaction(db: Database, schema: Schema, bus: NearBus) -> None:
    await db.run(lambda c: schema.outbox.add(c, [changed("a"), changed("b")]))

    assert await Relay(schema.outbox, schema.tenure, db, bus).flush() == 2
    assert await names(bus, 2) == ["a", "b"]
    assert await Relay(schema.outbox, schema.tenure, db, bus).flush() == 0


async def test_a_transaction_that_fails_says_nothing(db: Database, schema: Schema, bus: NearBus) -> None:
    def work(connection: Connection) -> None:
        schema.outbox.add(connection, [changed("a")])
        raise KeyError("no")

    with pytest.raises(KeyError):
        await db.run(work)
    assert await Relay(schema.outbox, schema.tenure, db, bus).flush() == 0


async def test_the_relay_publishes_what_comes(db: Database, schema: Schema, bus: NearBus) -> None:
    relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, bus).run())
    await asyncio.sleep(0.05)
    await db.run(lambda c: schema.outbox.add(c, [changed("a")]))

    assert await names(bus, 1) == ["a"]
    relay.cancel()


async def test_an_event_that_comes_twice_has_one_effect(db: Database, schema: Schema, bus: NearBus) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        await db.run(lambda connection: seen.append(message.tenant.tenant), delivery)

    twice = changed("a")
    await bus.publish([twice, twice, changed("b")])
    listening = asyncio.create_task(consume(bus, Listener({TenantChanged: handler}, schema.inbox), "g", now))
    async with asyncio.timeout(5):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    listening.cancel()

    assert seen == ["a", "b"]


async def test_an_effect_that_fails_is_tried_again(db: Database, schema: Schema, bus: NearBus) -> None:
    tries: list[int] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        def work(connection: Connection) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise OSError("not now")

        await db.run(work, delivery)

    await bus.publish([changed("a")])
    listening = asyncio.create_task(consume(bus, Listener({TenantChanged: handler}, schema.inbox), "g", now))
    async with asyncio.timeout(5):
        while len(tries) < 2:
            await asyncio.sleep(0.01)
    listening.cancel()

    kept = await db.run(lambda c: c.execute(select(func.count()).select_from(schema.inbox.table)).scalar())
    assert kept == 1


async def test_a_poison_event_goes_aside_and_blocks_nobody(db: Database, schema: Schema, bus: NearBus) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        if message.tenant.tenant == "poison":
            raise ValueError("cannot be handled")
        seen.append(message.tenant.tenant)

    await bus.publish([changed("poison"), changed("good")])
    listening = asyncio.create_task(consume(bus, Listener({TenantChanged: handler}, schema.inbox), "g", now))

    assert await names(bus, 1, f"{TOPIC}.dead") == ["poison"]
    async with asyncio.timeout(5):
        while not seen:
            await asyncio.sleep(0.01)
    listening.cancel()
    assert seen == ["good"]


def test_an_event_is_kept_although_the_loop_of_its_last_relay_is_closed() -> None:
    schema = Schema("gateway")
    schema.outbox._loop = asyncio.new_event_loop()
    schema.outbox._loop.close()
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        schema.outbox.add(connection, [changed("acme")])
        kept = connection.execute(select(func.count()).select_from(schema.outbox.table)).scalar_one()
    engine.dispose()

    assert kept == 1


class Sink:
    """A bus that takes everything."""

    async def publish(self, events: object) -> None:
        """Keeps nothing."""


async def test_a_relay_that_is_stopped_in_the_moment_news_come_ends(db: Database, schema: Schema) -> None:
    for _ in range(5):
        relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, Sink()).run())  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        schema.outbox._news.set()
        await asyncio.sleep(0)
        relay.cancel()
        done, _ = await asyncio.wait({relay}, timeout=2)

        assert done
