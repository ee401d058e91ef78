"""Several relays of one outbox: one at a time says what happened to a thing, in its order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aimass.v1.access_pb2 import Tenant
from aimass.v1.gateway_events_pb2 import TenantChanged
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database
from services.kit.leases import Tenure
from services.kit.outbox import PARTITIONS
from services.kit.relay import Relay
from services.kit.schema import Schema
from tests.kit.conftest import migrations, now
from tests.support import servers
from tests.support.house import until

pytestmark = pytest.mark.far


class Taking:
    """A bus that takes everything and remembers who brought it."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Event]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    def door(self, name: str) -> Any:
        taking = self

        class Door:
            async def publish(self, events: Sequence[Event]) -> None:
                taking.waiting += 1
                await taking.open.wait()
                taking.kept += [(name, event) for event in events]

        return Door()

    def order(self, key: str) -> list[int]:
        """What was said of one thing, each first time only, as a consumer with an inbox hears it."""
        heard = dict.fromkeys(event.id for _, event in self.kept if event.key == key)
        by_id = {event.id: int(TenantChanged.FromString(event.body).tenant.display_name) for _, event in self.kept}
        return [by_id[name] for name in heard]


def changed(name: str, generation: int) -> Event:
    message = TenantChanged(tenant=Tenant(tenant=name, display_name=str(generation)))
    return Event.of(message, Scope("system"), "tenants", name, "gateway", now())


class Instance:
    """A process of the service: its own tenure, relay and way to the database."""

    def __init__(self, name: str, url: str, folder: Path, schema: Schema, bus: Taking, seconds: float = 1.0) -> None:
        self.db, self.name = Database(url, folder, threads=2), name
        self.tenure = Tenure(schema.tenure._leases, seconds)
        self.tenure.bind(self.db, name)
        self.relay = Relay(schema.outbox, self.tenure, self.db, bus.door(name))
        self._tasks: list[asyncio.Task[None]] = []

    def work(self) -> None:
        self._tasks = [asyncio.create_task(task) for task in (self.tenure.run(), self.relay.run())]

    async def die(self) -> None:
        """As by kill -9: nothing is given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.db.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.tenure.close()
        self.db.close()


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(servers.database(servers.address("postgres")), migrations(tmp_path))
    await made.start()
    yield made
    made.close()


def instance(name: str, shared: Database, tmp_path: Path, schema: Schema, bus: Taking) -> Instance:
    return Instance(name, shared.url, tmp_path / "migrations", schema, bus)


async def test_each_event_is_said_by_one_of_two(shared: Database, schema: Schema, tmp_path: Path) -> None:
    bus = Taking()
    both = [instance(name, shared, tmp_path, schema, bus) for name in ("one", "two")]
    for each in both:
        each.work()
    for number in range(50):
        await shared.run(lambda c, n=number: schema.outbox.add(c, [changed(f"t{n % 10}", n)]))  # type: ignore[misc]
    await until(lambda: len(bus.kept) >= 50, 20)
    await asyncio.sleep(0.3)
    for each in both:
        await each.stop()

    assert len({event.id for _, event in bus.kept}) == len(bus.kept) == 50
    assert len({name for name, _ in bus.kept}) == 1  # who came first has every partition


async def test_an_event_leaves_soon_although_another_process_wrote_it(
    shared: Database, schema: Schema, tmp_path: Path
) -> None:
    bus = Taking()
    one = instance("one", shared, tmp_path, schema, bus)
    one.work()
    other = instance("other", shared, tmp_path, schema, Taking())
    await other.tenure.take(["process/other"])  # as every process does, again and again
    await until(lambda: one.tenure.holds("outbox/0"))
    delays = []
    elsewhere = Schema("data")  # knows nothing of the relay: nobody wakes it
    for number in range(10):
        await asyncio.sleep(0.15)  # the relay is idle
        await shared.run(lambda c, n=number: elsewhere.outbox.add(c, [changed("t", n)]))  # type: ignore[misc]
        began = asyncio.get_running_loop().time()
        await until(lambda n=number: len(bus.kept) > n)  # type: ignore[misc]
        delays.append(asyncio.get_running_loop().time() - began)
    await one.stop()
    other.db.close()

    assert min(delays) < 0.2


async def test_what_a_dead_relay_left_is_said_by_the_next_one_in_its_order(
    shared: Database, schema: Schema, tmp_path: Path
) -> None:
    bus = Taking()
    one, two = (instance(name, shared, tmp_path, schema, bus) for name in ("one", "two"))
    one.work()
    writing = asyncio.create_task(_write(shared, schema, 120))
    await until(lambda: len(bus.kept) > 20)
    two.work()
    await one.die()
    await writing
    await until(lambda: len({event.id for _, event in bus.kept}) == 120, 20)
    await two.stop()

    for name in range(3):
        assert bus.order(f"system/default/tenants/t{name}") == list(range(name, 120, 3))
    assert {name for name, _ in bus.kept} == {"one", "two"}


async def test_who_stood_still_past_his_lease_says_nothing_that_is_new(
    shared: Database, schema: Schema, tmp_path: Path
) -> None:
    """The batch under way may come a second time, late; what came after it comes from the next one only."""
    bus = Taking()
    one, two = (instance(name, shared, tmp_path, schema, bus) for name in ("one", "two"))
    await _write(shared, schema, 9)
    bus.open.clear()
    flushing = asyncio.create_task(one.relay.flush())
    await until(lambda: bus.waiting)
    await asyncio.sleep(1.2)  # without a sign of life
    bus.open.set()
    two.work()
    await _write(shared, schema, 9, begin=9)
    await flushing
    await until(lambda: len({event.id for _, event in bus.kept}) == 18)
    assert await one.relay.flush() == 0
    await two.stop()
    one.db.close()

    late = [event.id for name, event in bus.kept if name == "one"]
    assert len(late) == 9
    for name in range(3):
        assert sorted(bus.order(f"system/default/tenants/t{name}")) == list(range(name, 18, 3))


async def test_a_stop_hands_the_partitions_on_at_once(shared: Database, schema: Schema, tmp_path: Path) -> None:
    bus = Taking()
    one, two = (instance(name, shared, tmp_path, schema, bus) for name in ("one", "two"))
    one.work()
    await until(lambda: one.tenure.holds(f"outbox/{PARTITIONS - 1}"))
    await one.stop()

    assert len(await two.tenure.take(f"outbox/{number}" for number in range(PARTITIONS))) == PARTITIONS
    two.db.close()


async def _write(db: Database, schema: Schema, count: int, begin: int = 0) -> None:
    """Events of three things in turn, each in its transaction."""
    for number in range(begin, begin + count):
        await db.run(lambda c, n=number: schema.outbox.add(c, [changed(f"t{n % 3}", n)]))  # type: ignore[misc]
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
