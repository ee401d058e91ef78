"""The way of an event from a transaction to its effect, over a bus that fails and a process that ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from aimass.v1.access_pb2 import Tenant
from aimass.v1.gateway_events_pb2 import TenantChanged
from services.kit import batches
from services.kit import relay as relay_module
from services.kit.auth import Scope
from services.kit.bus import Event, NearBus
from services.kit.db import Database, Replay
from services.kit.errors import Unavailable
from services.kit.inbox import Delivery, Listener, consume
from services.kit.relay import Relay
from services.kit.schema import Schema
from tests.kit.conftest import now
from tests.support.house import until

TOPIC = "aimass.gateway.v1"


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NearBus]:
    found = NearBus(tmp_path / "bus.db")
    await found.start()
    yield found
    await found.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries nobody waits."""
    sleep = asyncio.sleep
    monkeypatch.setattr(relay_module.asyncio, "sleep", lambda seconds: sleep(min(seconds, 0.005)))  # type: ignore[attr-defined]


def changed(name: str) -> Event:
    return Event.of(TenantChanged(tenant=Tenant(tenant=name)), Scope("system"), "tenants", name, "gateway", now())


def delivery(schema: Schema, event: Event, at: Any = now) -> Delivery:
    return Delivery(event, schema.inbox, at)


class Failing:
    """A bus that fails some times, before or after it has kept the events."""

    def __init__(self, fails: int, after: bool = False) -> None:
        self.fails, self.after = fails, after
        self.kept: list[str] = []

    async def publish(self, events: Sequence[Event]) -> None:
        if self.after or not self.fails:
            self.kept += [event.id for event in events]
        if self.fails:
            self.fails -= 1
            raise Unavailable("the bus is away")


async def waiting(db: Database, schema: Schema) -> int:
    count = select(func.count()).select_from(schema.outbox.table)
    return int(await db.run(lambda c: c.execute(count).scalar_one()))


@pytest.mark.parametrize("after", [False, True], ids=["before it kept them", "after it kept them"])
async def test_a_bus_that_fails_gets_the_same_events_again(db: Database, schema: Schema, after: bool) -> None:
    events = [changed(name) for name in "abc"]
    await db.run(lambda c: schema.outbox.add(c, events))
    failing = Failing(3, after)
    relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, failing).run())  # type: ignore[arg-type]
    await until(partial(_empty, db, schema))
    relay.cancel()

    ids = [event.id for event in events]
    assert failing.kept == ids * (4 if after else 1)


async def test_that_events_wait_and_go_out_again_is_said_once_each(
    db: Database, schema: Schema, caplog: pytest.LogCaptureFixture
) -> None:
    await db.run(lambda c: schema.outbox.add(c, [changed("a")]))
    relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, Failing(3)).run())  # type: ignore[arg-type]
    await until(partial(_empty, db, schema))
    await until(lambda: "events go out again" in caplog.messages)
    relay.cancel()

    assert caplog.messages == ["events wait: the bus is away", "events go out again"]


async def _empty(db: Database, schema: Schema) -> bool:
    return await waiting(db, schema) == 0


async def test_a_failed_flush_keeps_its_events(db: Database, schema: Schema) -> None:
    await db.run(lambda c: schema.outbox.add(c, [changed("a")]))
    with pytest.raises(Unavailable):
        await Relay(schema.outbox, schema.tenure, db, Failing(1)).flush()  # type: ignore[arg-type]

    assert await waiting(db, schema) == 1


async def test_many_events_leave_in_batches_and_in_their_order(
    db: Database, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_BATCH", 4)
    events = [changed(f"t{n}") for n in range(10)]
    await db.run(lambda c: schema.outbox.add(c, events))
    taking = Failing(0)
    sizes = [await Relay(schema.outbox, schema.tenure, db, taking).flush() for _ in range(4)]  # type: ignore[arg-type]

    assert sizes == [4, 4, 2, 0]
    assert taking.kept == [event.id for event in events]


async def test_large_events_leave_in_smaller_batches(db: Database, schema: Schema) -> None:
    sizes = [2**20] * 10 + [6 * 2**20, 10]
    await db.run(lambda c: schema.outbox.add(c, [Event(TOPIC, "k", bytes(size)) for size in sizes]))
    relay = Relay(schema.outbox, schema.tenure, db, Failing(0))  # type: ignore[arg-type]

    assert [await relay.flush() for _ in range(5)] == [4, 4, 3, 1, 0]


async def test_what_one_batch_left_for_its_size_leaves_at_once(
    db: Database, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SIZE", 1)
    await db.run(lambda c: schema.outbox.add(c, [changed(f"t{n}") for n in range(100)]))
    taking, began = Failing(0), time.monotonic()
    relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, taking).run())  # type: ignore[arg-type]
    await until(lambda: len(taking.kept) == 100)
    relay.cancel()

    assert time.monotonic() - began < 4, "a pause of 50 ms after each would make five seconds"


async def test_nothing_to_say_writes_nothing(db: Database, schema: Schema) -> None:
    await db.run(lambda c: schema.outbox.add(c, []))

    assert await waiting(db, schema) == 0


async def test_events_of_transactions_at_once_all_leave(db: Database, schema: Schema) -> None:
    taking = Failing(0)
    relay = asyncio.create_task(Relay(schema.outbox, schema.tenure, db, taking).run())  # type: ignore[arg-type]
    events = [changed(f"t{n}") for n in range(25)]
    await asyncio.gather(*(db.run(lambda c, e=e: schema.outbox.add(c, [e])) for e in events))  # type: ignore[misc]
    await until(lambda: len(taking.kept) >= 25)
    relay.cancel()

    assert sorted(taking.kept) == sorted(event.id for event in events)


async def test_an_effect_that_happened_is_told_by_a_replay(db: Database, schema: Schema) -> None:
    event = changed("a")
    await db.run(lambda c: None, delivery(schema, event))

    with pytest.raises(Replay):
        await db.run(lambda c: None, delivery(schema, event))


async def test_an_effect_that_broke_may_happen_later(db: Database, schema: Schema) -> None:
    event = changed("a")

    def fail(connection: Any) -> None:
        raise OSError("not now")

    with pytest.raises(OSError, match="not now"):
        await db.run(fail, delivery(schema, event))
    assert await db.run(lambda c: "done", delivery(schema, event)) == "done"


async def test_deliveries_of_one_event_at_once_have_one_effect(db: Database, schema: Schema) -> None:
    event, effects = changed("a"), list[int]()
    works = [db.run(lambda c: effects.append(1), delivery(schema, event)) for _ in range(20)]
    answers = await asyncio.gather(*works, return_exceptions=True)

    assert len(effects) == 1
    assert sum(isinstance(answer, Replay) for answer in answers) == 19


@pytest.mark.parametrize(("days", "known"), [(13, True), (15, False)])
async def test_an_event_is_remembered_for_twice_as_long_as_a_bus_keeps_it(
    db: Database, schema: Schema, days: int, known: bool
) -> None:
    old = changed("old")
    row = {"event": old.id, "time": now() - timedelta(days=days)}
    await db.run(lambda c: c.execute(insert(schema.inbox.table).values(row)) and None)
    schema.inbox._pruned = -1e9
    await db.run(lambda c: None, delivery(schema, changed("new")))

    found = await db.run(lambda c: c.execute(select(schema.inbox.table.c.event)).scalars().all())
    assert (old.id in found) is known


async def heard(bus: NearBus, schema: Schema, handler: Any, condition: Any, broadcast: bool = False) -> None:
    """Listens until a condition holds."""
    listener = Listener({TenantChanged: handler}, schema.inbox, broadcast)
    listening = asyncio.create_task(consume(bus, listener, "g", now))
    try:
        await until(condition)
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def test_events_of_another_kind_are_passed_over(db: Database, schema: Schema, bus: NearBus) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(message.tenant.tenant)

    other = Event(TOPIC, "k", b"\xff", {"ce_id": "x", "ce_type": "aimass.v1.NotYetInvented"})
    await bus.publish([other, changed("a")])
    await heard(bus, schema, handler, lambda: seen)

    assert seen == ["a"]


async def test_bytes_that_are_no_message_go_aside(db: Database, schema: Schema, bus: NearBus) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(message.tenant.tenant)

    good = changed("a")
    broken = Event(TOPIC, good.key, b"\xff\xff\xff", {**good.headers, "ce_id": "broken"})
    await bus.publish([broken, good])
    await heard(bus, schema, handler, lambda: seen)
    async with asyncio.timeout(5):
        (dead,) = await (await bus.reader([f"{TOPIC}.dead"], "test")).poll(10)

    assert (dead.id, dead.body, dead.key) == ("broken", broken.body, broken.key)
    assert seen == ["a"]


async def test_what_was_handled_is_not_read_again_after_a_restart(db: Database, schema: Schema, bus: NearBus) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(message.tenant.tenant)

    await bus.publish([changed("a")])
    await heard(bus, schema, handler, lambda: _committed(bus))
    await bus.publish([changed("b")])
    await heard(bus, schema, handler, lambda: "b" in seen)

    assert seen == ["a", "b"]


async def _committed(bus: NearBus) -> bool:
    offset = "SELECT max(\"offset\") FROM group_offset WHERE name = 'g'"
    return bool(await bus._db.run(lambda c: c.exec_driver_sql(offset).scalar()))


async def test_a_handler_is_given_whose_event_it_is(schema: Schema, bus: NearBus) -> None:
    scopes: list[Scope] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        scopes.append(delivery.scope)

    event = Event.of(TenantChanged(), Scope("acme", "lab"), "tenants", "a", "gateway", now())
    await bus.publish([event])
    await heard(bus, schema, handler, lambda: scopes)

    assert scopes == [Scope("acme", "lab")]


class Forgetful(NearBus):
    """A bus whose dead letters, commits and readers fail a first time."""

    refused: set[str]

    def once(self, what: str) -> None:
        if what not in self.refused:
            self.refused.add(what)
            raise Unavailable(f"no {what} for now")

    async def publish(self, events: Sequence[Event]) -> None:
        if events and events[0].topic.endswith(".dead"):
            self.once("dead letter")
        await super().publish(events)

    async def commit(self, group: str, events: Sequence[Event]) -> None:
        self.once("commit")
        await super().commit(group, events)

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> Any:
        if group == "g":
            self.once("reader")
        return await super().reader(topics, group, from_end)


async def test_a_bus_that_fails_between_two_events_of_a_batch_costs_none(schema: Schema, tmp_path: Path) -> None:
    bus, seen = Forgetful(tmp_path / "forgetful.db"), list[str]()
    bus.refused = set()
    await bus.start()

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        if message.tenant.tenant == "poison":
            raise ValueError("cannot be handled")
        seen.append(message.tenant.tenant)

    await bus.publish([changed(name) for name in ("a", "poison", "b", "c")])
    await heard(bus, schema, handler, lambda: _committed(bus))
    await bus.close()

    assert bus.refused == {"reader", "dead letter", "commit"}
    assert seen == ["a", "b", "c"], "none is lost, and none that was handled is handled again"
