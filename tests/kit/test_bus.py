"""One contract, both near buses: in this process, and of another one over gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.kit import bus_log
from services.kit.auth import Identity
from services.kit.bus import Bus, Event, NearBus, Reader
from services.kit.bus_remote import BusApi, RemoteBus
from services.kit.errors import Code, Failure
from services.kit.grpc_door import GrpcDoor
from services.kit.rpc import guard
from tests.kit.conftest import now

TOPIC = "aimass.data.v1"


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[NearBus]:
    bus = NearBus(tmp_path / "bus.db")
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture(params=["near", "remote"])
async def bus(request: pytest.FixtureRequest, near: NearBus, identity: Identity, free_port: int) -> AsyncIterator[Bus]:
    if request.param == "near":
        yield near
        return
    door = GrpcDoor(f"127.0.0.1:{free_port}", guard({"aimass.v1.Bus": BusApi(near)}, identity, "bus", now, None))
    await door.open()
    remote = RemoteBus(f"grpc://127.0.0.1:{free_port}", identity, "data")
    yield remote
    await remote.close()
    await door.close(0)


def event(number: int, topic: str = TOPIC) -> Event:
    return Event(topic, f"k{number % 3}", str(number).encode(), {"ce_id": str(number)})


async def read(reader: Reader, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += [e.id for e in await reader.poll(100)]
    return found


async def test_events_come_in_the_order_they_were_published(bus: Bus) -> None:
    await bus.publish([event(n) for n in range(5)])
    await bus.publish([event(5)])

    assert await read(await bus.reader([TOPIC], "g"), 6) == ["0", "1", "2", "3", "4", "5"]


async def test_a_reader_waits_for_the_next_event(bus: Bus) -> None:
    waiting = asyncio.create_task(read(await bus.reader([TOPIC], "g"), 1))
    await asyncio.sleep(0.1)
    await bus.publish([event(7)])

    assert await waiting == ["7"]


async def test_what_was_not_committed_comes_again(bus: Bus) -> None:
    await bus.publish([event(n) for n in range(3)])
    first = await bus.reader([TOPIC], "g")
    async with asyncio.timeout(5):
        events = await first.poll(100)
    await first.commit(events[:1])

    assert await read(await bus.reader([TOPIC], "g"), 2) == ["1", "2"]


async def test_groups_do_not_take_from_each_other(bus: Bus) -> None:
    await bus.publish([event(1)])

    assert await read(await bus.reader([TOPIC], "one"), 1) == ["1"]
    assert await read(await bus.reader([TOPIC], "two"), 1) == ["1"]


async def test_a_reader_sees_its_topics_only(bus: Bus) -> None:
    await bus.publish([event(1, "aimass.logs.v1"), event(2)])

    assert await read(await bus.reader([TOPIC], "g"), 1) == ["2"]


async def test_a_reader_from_the_end_sees_what_comes_after(bus: Bus) -> None:
    await bus.publish([event(1)])
    reader = await bus.reader([TOPIC], "g", from_end=True)
    waiting = asyncio.create_task(read(reader, 1))
    await asyncio.sleep(0.2)  # a remote reader begins with its first poll
    await bus.publish([event(2)])

    assert await waiting == ["2"]


async def test_headers_and_bytes_arrive_as_they_left(bus: Bus) -> None:
    sent = Event(TOPIC, "acme/default/x/y", b"\x00\xff", {"ce_id": "1", "tenant": "acme", "traceparent": "00-a-b-01"})
    await bus.publish([sent])

    async with asyncio.timeout(5):
        (came,) = await (await bus.reader([TOPIC], "g")).poll(10)
    assert (came.key, came.body, came.headers) == (sent.key, sent.body, sent.headers)


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    first = NearBus(tmp_path / "bus.db")
    await first.start()
    await first.publish([event(1), event(2)])
    reader = await first.reader([TOPIC], "g")
    await reader.commit((await reader.poll(1))[:1])
    await first.close()

    second = NearBus(tmp_path / "bus.db")
    await second.start()
    assert await read(await second.reader([TOPIC], "g"), 1) == ["2"]
    await second.close()


async def test_two_processes_cannot_hold_one_file(near: NearBus, tmp_path: Path) -> None:
    other = NearBus(tmp_path / "bus.db")

    with pytest.raises(Failure, match="in use by another process") as caught:
        await other.start()
    assert caught.value.code is Code.UNAVAILABLE
    await other.close()


async def test_pruning_keeps_what_a_group_has_not_read(near: NearBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_log, "_READ", -1.0)
    slow = await near.reader([TOPIC], "slow")
    await near.publish([event(n) for n in range(4)])
    fast = await near.reader([TOPIC], "fast")
    await fast.commit(await fast.poll(10))
    await slow.commit((await slow.poll(2))[:2])
    await near._db.run(lambda connection: bus_log.prune(connection, time.time()))

    assert await read(await near.reader([TOPIC], "slow"), 2) == ["2", "3"]
    assert await read(await near.reader([TOPIC], "new"), 2) == ["2", "3"]


async def test_a_stranger_may_not_use_the_bus(bus: Bus, tmp_path: Path) -> None:
    if isinstance(bus, NearBus):
        pytest.skip("the near bus has no door")
    stranger = Identity("stranger", tmp_path / "elsewhere")
    assert isinstance(bus, RemoteBus)
    bus._identity = stranger

    with pytest.raises(Failure) as caught:
        await bus.publish([event(1)])
    assert caught.value.code is Code.TOKEN_INVALID


async def test_events_of_other_topics_send_no_reader_to_the_file(
    near: NearBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[set[str]] = []
    after = bus_log.after

    def watched(connection: Any, positions: dict[str, int], limit: int) -> list[Any]:
        looked.append(set(positions))
        return after(connection, positions, limit)

    monkeypatch.setattr(bus_log, "after", watched)
    reader = await near.reader([TOPIC], "quiet")
    waiting = asyncio.ensure_future(reader.poll(10))
    await asyncio.sleep(0.05)
    for _ in range(3):
        await near.publish([Event("aimass.other.v1", "k", b"no"), Event("aimass.other.v1", "k", b"no")])
        await asyncio.sleep(0.02)
    assert looked == [{TOPIC}]

    await near.publish([Event(TOPIC, "k", b"yes"), Event("aimass.other.v1", "k", b"no")])
    assert [event.body for event in await asyncio.wait_for(waiting, 5)] == [b"yes"]
    await near.publish([Event("aimass.other.v1", "k", b"no"), Event(TOPIC, "k", b"yes too")])
    assert [event.body for event in await asyncio.wait_for(reader.poll(10), 5)] == [b"yes too"]
