"""The bus of another process goes away and comes back: readers go on, nothing is lost, nobody spins."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import bus_pb2 as pb
from services.kit import auth, bus_remote
from services.kit.app import Door
from services.kit.auth import Identity
from services.kit.bus import Event, NearBus, Reader
from services.kit.bus_remote import BusApi, RemoteBus
from services.kit.errors import Code, Failure
from services.kit.grpc_door import GrpcDoor
from services.kit.rpc import Call, guard
from tests.kit.conftest import now
from tests.support.house import until

TOPIC = "aimass.data.v1"


class Holder:
    """The process that holds the log: it opens, closes, and opens again on the same file and port."""

    def __init__(self, path: Path, port: int, identity: Identity) -> None:
        self._path, self._port, self._identity = path, port, identity
        self.bus: NearBus | None = None
        self._door: Door | None = None
        self.api: type[BusApi] = BusApi

    async def open(self) -> None:
        self.bus = NearBus(self._path)
        await self.bus.start()
        api = self.api(self.bus)
        guarded = guard({"aimass.v1.Bus": api}, self._identity, "bus", now, None)
        self._door = GrpcDoor(f"127.0.0.1:{self._port}", guarded, api.end)
        await self._door.open()

    async def close(self, grace: float = 0) -> None:
        if self._door:
            await self._door.close(grace)
        if self.bus:
            await self.bus.close()
        self._door = self.bus = None


class Counting(RemoteBus):
    """Counts how often a stream is begun."""

    fetches = 0

    def fetch(self, request: pb.FetchRequest) -> Any:
        self.fetches += 1
        return super().fetch(request)


@pytest.fixture
async def holder(tmp_path: Path, identity: Identity, free_port: int) -> AsyncIterator[Holder]:
    found = Holder(tmp_path / "bus.db", free_port, identity)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def remote(holder: Holder, identity: Identity, free_port: int) -> AsyncIterator[Counting]:
    bus = Counting(f"grpc://127.0.0.1:{free_port}", identity, "data")
    yield bus
    await bus.close()


def event(number: int, topic: str = TOPIC) -> Event:
    return Event(topic, f"k{number % 3}", str(number).encode(), {"ce_id": str(number)})


async def read(reader: Reader, count: int) -> list[str]:
    """Reads and commits; what comes twice after a break is counted once."""
    found: dict[str, None] = {}
    async with asyncio.timeout(15):
        while len(found) < count:
            events = await reader.poll(100)
            found |= dict.fromkeys(e.id for e in events)
            await reader.commit(events)
    return list(found)


async def test_a_reader_goes_on_after_the_bus_was_away(holder: Holder, remote: Counting) -> None:
    reader = await remote.reader([TOPIC], "g")
    await remote.publish([event(n) for n in range(3)])
    before = await read(reader, 3)
    await holder.close()
    await holder.open()
    await remote.publish([event(n) for n in range(3, 6)])

    assert [*before, *await read(reader, 3)] == [str(n) for n in range(6)]


async def test_a_reader_that_waits_while_the_bus_goes_gets_what_comes_later(holder: Holder, remote: Counting) -> None:
    reader = await remote.reader([TOPIC], "g")
    waiting = asyncio.create_task(read(reader, 1))
    await until(lambda: remote.fetches)
    await holder.close()
    await until(lambda: remote.fetches > 1)
    await holder.open()
    await remote.publish([event(7)])

    assert await waiting == ["7"]


async def test_a_reader_may_be_there_before_its_bus(holder: Holder, remote: Counting) -> None:
    await holder.close()
    waiting = asyncio.create_task(read(await remote.reader([TOPIC], "g"), 1))
    publishing = asyncio.create_task(remote.publish([event(1)]))
    await until(lambda: remote.fetches)
    await holder.open()
    await publishing

    assert await waiting == ["1"]


async def test_what_was_not_committed_before_the_break_comes_again(holder: Holder, remote: Counting) -> None:
    reader = await remote.reader([TOPIC], "g")
    await remote.publish([event(n) for n in range(4)])
    async with asyncio.timeout(5):
        events = await reader.poll(100)
    await reader.commit(events[:1])
    await holder.close()
    await holder.open()

    assert await read(reader, 3) == ["1", "2", "3"]


async def test_a_reader_from_the_end_misses_nothing_while_the_bus_is_away(holder: Holder, remote: Counting) -> None:
    await remote.publish([event(1)])
    reader = await remote.reader([TOPIC], "passing", from_end=True)
    waiting = asyncio.create_task(read(reader, 2))
    await until(lambda: _knows(holder, "passing"))
    await holder.close()
    await holder.open()
    await remote.publish([event(2), event(3)])

    assert await waiting == ["2", "3"]


async def _knows(holder: Holder, group: str) -> bool:
    assert holder.bus
    positions = await holder.bus._db.run(
        lambda c: c.exec_driver_sql(f"SELECT count(*) FROM group_offset WHERE name = '{group}'").scalar()
    )
    return bool(positions)


async def test_nobody_spins_while_the_bus_is_away(
    holder: Holder, remote: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_remote, "_PAUSE", 3600.0)
    waiting = asyncio.create_task(read(await remote.reader([TOPIC], "g"), 1))
    await until(lambda: remote.fetches)
    await holder.close()
    await asyncio.sleep(0.2)
    waiting.cancel()

    assert remote.fetches == 1, "a pause comes before every new stream"


async def test_a_bus_that_stops_does_not_wait_for_its_readers(holder: Holder, remote: Counting) -> None:
    waiting = [asyncio.create_task(read(await remote.reader([TOPIC], name), 1)) for name in ("a", "b")]
    await until(lambda: _knows(holder, "b"))
    async with asyncio.timeout(5):
        await holder.close(grace=60)
    await holder.open()
    await remote.publish([event(1)])

    assert await asyncio.gather(*waiting) == [["1"], ["1"]]


class Ending(BusApi):
    """A bus whose streams end after one message, as behind a proxy that cuts them."""

    async def Fetch(self, request: pb.FetchRequest, call: Call) -> AsyncIterator[pb.FetchResponse]:
        async for response in super().Fetch(request, call):
            yield response
            return


async def test_streams_that_end_are_begun_again_where_the_group_is(
    holder: Holder, remote: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_remote, "_PAUSE", 0.0)
    await holder.close()
    holder.api = Ending
    await holder.open()
    reader = await remote.reader([TOPIC], "g")
    found: list[str] = []
    for number in range(3):
        await remote.publish([event(number)])
        found += await read(reader, 1)

    assert found == ["0", "1", "2"]
    assert remote.fetches >= 3


async def test_a_token_that_ends_while_the_bus_is_waited_for_is_no_refusal(
    holder: Holder, remote: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "LIFETIME", 1.0)
    monkeypatch.setattr(bus_remote, "_STALE", 0.5)
    await holder.close()
    reader = await remote.reader([TOPIC], "g")
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(reader, 1))
        await asyncio.sleep(2.1)
        await holder.open()
        assert holder.bus
        await holder.bus.publish([event(1)])

    assert reading.result() == ["1"]


async def test_a_refusal_is_raised_and_not_waited_for(remote: Counting, tmp_path: Path) -> None:
    remote._identity = Identity("stranger", tmp_path / "elsewhere")
    reader = await remote.reader([TOPIC], "g")

    with pytest.raises(Failure) as caught:
        await reader.poll(1)
    assert caught.value.code is Code.TOKEN_INVALID


async def test_a_reader_that_was_refused_may_try_again(remote: Counting, identity: Identity, tmp_path: Path) -> None:
    remote._identity = Identity("stranger", tmp_path / "elsewhere")
    reader = await remote.reader([TOPIC], "g")
    with pytest.raises(Failure):
        await reader.poll(1)
    remote._identity = identity
    await remote.publish([event(1)])

    assert await read(reader, 1) == ["1"]


async def test_a_poll_that_was_cancelled_loses_nothing(remote: Counting) -> None:
    reader = await remote.reader([TOPIC], "g")
    for _ in range(3):
        waiting = asyncio.create_task(reader.poll(10))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    await remote.publish([event(1), event(2)])

    assert await read(reader, 2) == ["1", "2"]


async def test_publishing_nothing_asks_nobody(holder: Holder, remote: Counting) -> None:
    await holder.close()

    await remote.publish([])


async def test_commits_of_two_processes_do_not_go_back(holder: Holder, remote: Counting) -> None:
    await remote.publish([event(n) for n in range(5)])
    slow, fast = await remote.reader([TOPIC], "g"), await remote.reader([TOPIC], "g")
    async with asyncio.timeout(5):
        seen, also = await slow.poll(100), await fast.poll(100)
    await fast.commit(also)
    await slow.commit(seen[:1])
    await remote.publish([event(9)])

    assert await read(await remote.reader([TOPIC], "g"), 1) == ["9"]


async def test_messages_hold_as_many_events_as_were_asked_for(remote: Counting) -> None:
    await remote.publish([event(n) for n in range(7)])
    reader = await remote.reader([TOPIC], "g")
    async with asyncio.timeout(5):
        sizes = [len(await reader.poll(3)) for _ in range(3)]

    assert sizes == [3, 3, 1]
