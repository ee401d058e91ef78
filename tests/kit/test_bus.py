"""One contract, every bus: in this process, of another one over gRPC, and on Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.kit import adapters, bus_log
from services.kit.auth import Identity
from services.kit.bus import Bus, Event, NearBus, Reader
from services.kit.bus_remote import BusApi, RemoteBus
from services.kit.config import Installation, load
from services.kit.errors import Code, Failure
from services.kit.event import LARGEST
from services.kit.grpc_door import GrpcDoor
from services.kit.rpc import guard
from tests.kit.conftest import now
from tests.support.servers import address

TOPIC = "aimass.data.v1"


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[NearBus]:
    bus = NearBus(tmp_path / "bus.db")
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture(params=["near", "remote", pytest.param("kafka", marks=pytest.mark.far)])
async def bus(request: pytest.FixtureRequest, near: NearBus, identity: Identity, free_port: int) -> AsyncIterator[Bus]:
    if request.param == "near":
        yield near
    elif request.param == "kafka":
        url = f"kafka://{address('kafka')}?partitions=3"
        far = adapters.bus(load(Installation, {"AIMASS_BUS_URL": url}), identity, "data", None)
        yield far
        await far.close()
    else:
        door = GrpcDoor(f"127.0.0.1:{free_port}", guard({"aimass.v1.Bus": BusApi(near)}, identity, "bus", now, None))
        await door.open()
        remote = RemoteBus(f"grpc://127.0.0.1:{free_port}", identity, "data")
        yield remote
        await remote.close()
        await door.close(0)


def event(number: int, topic: str = TOPIC) -> Event:
    return Event(topic, f"k{number % 3}", str(number).encode(), {"ce_id": str(number)})


async def read(reader: Reader, count: int) -> list[str]:
    """The ids of the next events."""
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [e.id for e in await reader.poll(100)]
    return found


async def test_what_happens_to_one_thing_comes_in_the_order_it_was_published(bus: Bus, topic: str) -> None:
    await bus.publish([event(n, topic) for n in range(50)])
    await bus.publish([event(50, topic)])
    found = [int(one) for one in await read(await bus.reader([topic], "g"), 51)]

    assert sorted(found) == list(range(51))
    assert all([n for n in found if n % 3 == key] == list(range(key, 51, 3)) for key in range(3))


async def test_a_reader_waits_for_the_next_event(bus: Bus, topic: str) -> None:
    waiting = asyncio.create_task(read(await bus.reader([topic], "g"), 1))
    await asyncio.sleep(0.1)
    await bus.publish([event(7, topic)])

    assert await waiting == ["7"]


async def test_a_reader_waits_for_the_first_event_of_a_topic_and_then_for_more(bus: Bus, topic: str) -> None:
    reader = await bus.reader([topic], "g")
    for number in range(3):
        await bus.publish([event(number, topic)])
        assert await read(reader, 1) == [str(number)]


async def test_what_was_not_committed_comes_again(bus: Bus, topic: str) -> None:
    await bus.publish([event(n, topic) for n in (0, 3, 6)])  # of one key
    first = await bus.reader([topic], "g")
    async with asyncio.timeout(20):
        events = await first.poll(100)
    await first.commit(events[:1])
    await first.close()

    assert await read(await bus.reader([topic], "g"), 2) == ["3", "6"]


async def test_what_was_committed_does_not_come_again(bus: Bus, topic: str) -> None:
    first = await bus.reader([topic], "g")
    await bus.publish([event(n, topic) for n in range(9)])
    seen: list[Event] = []
    async with asyncio.timeout(20):
        while len(seen) < 9:
            events = await first.poll(4)
            await first.commit(events)
            seen += events
    await first.close()
    await bus.publish([event(9, topic)])

    assert await read(await bus.reader([topic], "g"), 1) == ["9"]


async def test_groups_do_not_take_from_each_other(bus: Bus, topic: str) -> None:
    await bus.publish([event(1, topic)])

    assert await read(await bus.reader([topic], "one"), 1) == ["1"]
    assert await read(await bus.reader([topic], "two"), 1) == ["1"]


async def test_a_reader_sees_its_topics_only(bus: Bus, topic: str) -> None:
    await bus.publish([event(1, f"{topic}.other"), event(2, topic)])

    assert await read(await bus.reader([topic], "g"), 1) == ["2"]


async def test_a_reader_may_hear_several_topics(bus: Bus, topic: str) -> None:
    await bus.publish([event(1, f"{topic}.other"), event(2, topic), event(3, f"{topic}.not")])

    assert sorted(await read(await bus.reader([topic, f"{topic}.other"], "g"), 2)) == ["1", "2"]


async def test_large_events_that_wait_are_all_read_in_their_order(bus: Bus, topic: str) -> None:
    """Together they are more than one message of gRPC takes."""
    for number in range(3):
        await bus.publish([Event(topic, "k", bytes(7 * 2**20), {"ce_id": str(number)})])

    assert await read(await bus.reader([topic], "g"), 3) == ["0", "1", "2"]


async def test_a_reader_from_the_end_sees_what_comes_after(bus: Bus, topic: str) -> None:
    await bus.publish([event(1, topic)])
    reader = await bus.reader([topic], "g", from_end=True)
    waiting = asyncio.create_task(read(reader, 1))
    await asyncio.sleep(0.2)  # a remote reader begins with its first poll
    await bus.publish([event(2, topic)])

    assert await waiting == ["2"]


async def test_readers_from_the_end_do_not_share(bus: Bus, topic: str) -> None:
    readers = [await bus.reader([topic], f"process-{n}", from_end=True) for n in range(2)]
    waiting = [asyncio.create_task(read(reader, 3)) for reader in readers]
    await asyncio.sleep(0.2)
    await bus.publish([event(n, topic) for n in range(3)])

    assert [sorted(found) for found in await asyncio.gather(*waiting)] == [["0", "1", "2"]] * 2


async def test_headers_and_bytes_arrive_as_they_left(bus: Bus, topic: str) -> None:
    sent = Event(topic, "acme/default/x/y", b"\x00\xff", {"ce_id": "1", "tenant": "acmé", "traceparent": "00-a-b-01"})
    await bus.publish([sent])

    async with asyncio.timeout(20):
        (came,) = await (await bus.reader([topic], "g")).poll(10)
    assert (came.key, came.body, came.headers) == (sent.key, sent.body, sent.headers)


async def test_publishing_nothing_is_nothing(bus: Bus) -> None:
    await bus.publish([])


async def test_a_poll_that_was_cancelled_loses_nothing(bus: Bus, topic: str) -> None:
    reader = await bus.reader([topic], "g")
    for _ in range(3):
        waiting = asyncio.create_task(reader.poll(10))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait([waiting])
    await bus.publish([event(n, topic) for n in range(4)])

    assert sorted(await read(reader, 4)) == ["0", "1", "2", "3"]


async def test_a_poll_brings_no_more_than_was_asked_for(bus: Bus, topic: str) -> None:
    await bus.publish([event(n, topic) for n in range(7)])
    reader = await bus.reader([topic], "g")
    sizes: list[int] = []
    async with asyncio.timeout(20):
        while sum(sizes) < 7:
            sizes.append(len(await reader.poll(2)))

    assert max(sizes) == 2


async def test_a_large_event_arrives(bus: Bus, topic: str) -> None:
    if isinstance(bus, RemoteBus):
        pytest.skip("a call of gRPC takes 4 MiB")
    body = bytes(range(256)) * ((LARGEST - 1000) // 256)
    await bus.publish([Event(topic, "k", body, {"ce_id": "1"})])

    async with asyncio.timeout(20):
        (came,) = await (await bus.reader([topic], "g")).poll(10)
    assert came.body == body


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


@pytest.mark.parametrize("bus", ["remote"], indirect=True)
async def test_a_stranger_may_not_use_the_bus(bus: Bus, tmp_path: Path) -> None:
    assert isinstance(bus, RemoteBus)
    bus._identity = Identity("stranger", tmp_path / "elsewhere")

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
