"""Events that nobody can handle, what goes on with their trace, and handlers that wait for something that is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from aimass.v1.access_pb2 import Tenant
from aimass.v1.gateway_events_pb2 import TenantChanged
from services.kit import inbox as inbox_module
from services.kit.auth import Scope
from services.kit.bus import Event, NearBus
from services.kit.db import Database
from services.kit.errors import Code, Failure, Unavailable
from services.kit.event import LARGEST
from services.kit.inbox import Delivery, Listener, consume
from services.kit.schema import Schema
from services.kit.telemetry import Span, current, metrics, span, spans
from tests.kit.conftest import now
from tests.support.house import until

TOPIC = "aimass.gateway.v1"


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NearBus]:
    found = NearBus(tmp_path / "bus.db")
    await found.start()
    yield found
    await found.close()


@pytest.fixture
def ended() -> Any:
    """Spans that ended."""
    found: list[Span] = []
    before = spans.sink()
    spans.set_sink(found.append)
    yield found
    spans.set_sink(before)


def changed(name: str, **headers: str) -> Event:
    event = Event.of(TenantChanged(tenant=Tenant(tenant=name)), Scope("acme"), "tenants", name, "gateway", now())
    event.headers.update(headers)
    return event


async def listen(bus: Any, handler: Any, condition: Any) -> None:
    listening = asyncio.create_task(consume(bus, Listener({TenantChanged: handler}, Schema("g").inbox), "g", now))
    try:
        await until(condition)
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def dead(bus: NearBus, count: int) -> list[Event]:
    reader, found = await bus.reader([f"{TOPIC}.dead"], "test"), list[Event]()
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await reader.poll(10)
    return found


def counted(reason: str) -> float:
    return float(metrics.aside.labels(TOPIC, reason)._value.get())


good = changed("good")
POISON = [
    (Event(TOPIC, good.key, b"\xff\xff\xff", good.headers | {"ce_id": "a"}), "unreadable"),
    (Event(TOPIC, good.key, good.body, {k: v for k, v in good.headers.items() if k != "tenant"}), "tenant"),
    (Event(TOPIC, good.key, good.body, good.headers | {"tenant": "victim"}), "tenant"),
    (Event(TOPIC, good.key, good.body, good.headers | {"project": ""}), "tenant"),
    (Event(TOPIC, "", good.body, good.headers), "tenant"),
    (Event(TOPIC, good.key, good.body, good.headers | {"ce_id": ""}), "id"),
    (Event(TOPIC, good.key, good.body, good.headers | {"ce_id": "x" * 37}), "id"),
]


async def test_what_was_not_handled_to_its_end_is_not_acknowledged_and_comes_again(bus: NearBus) -> None:
    begun, again = list[str](), list[str]()

    async def dies(message: TenantChanged, delivery: Delivery) -> None:
        begun.append(delivery.event.id)
        await asyncio.Event().wait()

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        again.append(delivery.event.id)

    await bus.publish([changed("a")])
    await listen(bus, dies, lambda: begun)
    await listen(bus, handler, lambda: again)

    assert again == begun


@pytest.mark.parametrize(("poison", "reason"), POISON)
async def test_poison_goes_aside_at_once_with_its_reason(bus: NearBus, poison: Event, reason: str) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(delivery.event.id)

    before, last = counted(reason), changed("last")
    await bus.publish([poison, last])
    async with asyncio.timeout(1):  # no tries: they would take three seconds
        await listen(bus, handler, lambda: seen)
    (kept,) = await dead(bus, 1)

    assert seen == [last.id]
    assert (kept.body, kept.key, kept.headers["dead_reason"]) == (poison.body, poison.key, reason)
    assert kept.headers["dead_from"] == f"{TOPIC}/0/1"
    assert counted(reason) == before + 1


async def test_a_type_that_nobody_knows_is_counted_and_passed_over(bus: NearBus) -> None:
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(delivery.event.id)

    before = counted("unknown")
    await bus.publish([changed("a", ce_type="aimass.v1.NotYetInvented"), changed("b", ce_type="aimass.v1.RoleChanged")])
    await bus.publish([changed("c")])
    await listen(bus, handler, lambda: seen)

    assert len(seen) == 1
    assert counted("unknown") == before + 1, "what is known and not for us is not counted"


def test_a_dead_letter_that_is_too_large_leaves_its_body_behind() -> None:
    huge = Event(TOPIC, "acme/default/x/y", bytes(20 * 2**20), {"ce_id": "1", "bomb": "b" * 2**20}, 7, 3)
    found = huge.dead("failed")

    assert found.size < 10_000
    assert (found.body, found.headers["dead_size"]) == (b"", str(huge.size))
    assert (found.headers["dead_from"], found.id) == (f"{TOPIC}/3/7", "1")


async def test_what_no_bus_takes_fails_with_its_transaction(db: Database, schema: Schema) -> None:
    def work(connection: Connection) -> None:
        schema.outbox.add(connection, [Event(TOPIC, "k", bytes(LARGEST), {"ce_subject": "tenants/a"})])

    with pytest.raises(Failure, match="tenants/a is too large") as caught:
        await db.run(work)
    assert caught.value.code is Code.LIMIT_EXCEEDED


async def test_what_is_away_is_waited_for_beyond_the_tries(bus: NearBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "_LONGEST_PAUSE", 0.01)
    tries: list[int] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        tries.append(1)
        if len(tries) <= 3 * inbox_module._TRIES:
            raise Unavailable("the database is away")

    before = counted("failed")
    await bus.publish([changed("a")])
    await listen(bus, handler, lambda: len(tries) > 3 * inbox_module._TRIES)

    assert counted("failed") == before


async def test_what_is_away_for_too_long_goes_aside(bus: NearBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(inbox_module, "_PATIENCE", 0.1)

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        raise Unavailable("the database is away")

    before = counted("failed")
    await bus.publish([changed("a")])
    await listen(bus, handler, lambda: counted("failed") > before)

    assert [event.headers["dead_reason"] for event in await dead(bus, 1)] == ["failed"]


async def test_a_handler_goes_on_with_the_trace_of_its_cause(bus: NearBus, ended: list[Span]) -> None:
    inside: list[Span | None] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        inside.append(current())

    with span("cause") as cause:
        event = changed("a")
    await bus.publish([event])
    await listen(bus, handler, lambda: inside)
    (found,) = [one for one in ended if one.name == f"process {TOPIC}"]

    assert inside == [found]
    assert (found.trace_id, found.parent_id, found.scope) == (cause.trace_id, cause.span_id, Scope("acme"))
    assert found.attributes["messaging.destination.name"] == TOPIC
    assert found.attributes["messaging.system"] == "aimass"


async def test_an_event_without_a_cause_has_no_trace_and_may_be_handled(bus: NearBus, ended: list[Span]) -> None:
    inside: list[Span | None] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        inside.append(current())

    event = changed("a")
    await bus.publish([event])
    await listen(bus, handler, lambda: inside)

    assert "traceparent" not in event.headers
    assert inside[0]
    assert inside[0].parent_id == 0


class Closing(NearBus):
    """Says when its readers are closed."""

    closed = 0

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> Any:
        reader = await super().reader(topics, group, from_end)
        reader.close = self._count  # type: ignore[method-assign]
        return reader

    async def _count(self) -> None:
        self.closed += 1


async def test_who_stops_listening_closes_his_reader(tmp_path: Path) -> None:
    bus = Closing(tmp_path / "closing.db")
    await bus.start()
    seen: list[str] = []

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(delivery.event.id)

    await bus.publish([changed("a")])
    await listen(bus, handler, lambda: seen)
    await bus.close()

    assert bus.closed == 1


class Broken(NearBus):
    """A bus with a bug that shows once in each of its calls."""

    left: set[str]

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> Any:
        self.fail("reader")
        return await super().reader(topics, group, from_end)

    async def fetch(self, positions: dict[str, int], limit: int) -> list[Event]:
        self.fail("fetch")
        return await super().fetch(positions, limit)

    async def commit(self, group: str, events: Sequence[Event]) -> None:
        self.fail("commit")
        await super().commit(group, events)

    def fail(self, call: str) -> None:
        if call in self.left:
            self.left.remove(call)
            raise RuntimeError("nobody foresaw this")


async def test_a_bug_in_the_bus_does_not_make_a_service_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, seen = asyncio.sleep, list[str]()
    monkeypatch.setattr(inbox_module.asyncio, "sleep", lambda seconds: sleep(min(seconds, 0.01)))  # type: ignore[attr-defined]
    bus = Broken(tmp_path / "broken.db")
    bus.left = {"reader", "fetch", "commit"}
    await bus.start()

    async def handler(message: TenantChanged, delivery: Delivery) -> None:
        seen.append(message.tenant.tenant)

    await bus.publish([changed("first")])
    await until_heard(bus, handler, seen)
    await bus.close()

    assert (seen, bus.left) == (["first", "second"], set())


async def until_heard(bus: Broken, handler: Any, seen: list[str]) -> None:
    listening = asyncio.create_task(consume(bus, Listener({TenantChanged: handler}, Schema("g").inbox), "g", now))
    await until(lambda: not bus.left or listening.done())
    await bus.publish([changed("second")])
    await until(lambda: len(seen) == 2 or listening.done())
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
