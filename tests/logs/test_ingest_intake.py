"""The order of things: records on the disk first, the bus hears of it after that."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.kit.bus import Event, NearBus, NearReader
from services.kit.errors import Unavailable
from services.kit.event import TELEMETRY
from services.kit.telemetry import Record as Told
from services.kit.telemetry.otlp import logs, request
from services.logs.ingest.api import TOPICS, Intake
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest, Left, numbered_records
from tests.support.house import until


class Full(Ingest):
    """A disk that takes nothing the first times."""

    refuses = 2

    async def append(self, batches: Sequence[Batch]) -> Left:
        if self.refuses:
            self.refuses -= 1
            raise OSError(28, "no space left on device")
        return await super().append(batches)


class Forgetful(NearBus):
    """A bus whose commits are lost the first times, as when the process was killed just before."""

    loses = 1
    error: Exception = Unavailable("the database cannot be reached")

    async def commit(self, group: str, events: Sequence[Event]) -> None:
        if self.loses:
            self.loses -= 1
            raise self.error
        await super().commit(group, events)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Forgetful]:
    made = Forgetful(tmp_path / "bus.db")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Full]:
    made = Full(Segments(tmp_path / "records"))
    await made.open()
    yield made
    made.close()


def told(number: int) -> Event:
    body = request(logs([Told("log", "x", f"line {number}", Scope("acme"))]))
    kind = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"
    return Event(TELEMETRY, "logs", body, {"ce_id": f"batch-{number}", "ce_type": kind})


async def kept(ingest: Ingest) -> list[str]:
    texts, at = list[str](), Position()
    while True:
        try:
            async with asyncio.timeout(0.05):
                stored, at = await ingest.after(at)
        except TimeoutError:
            return texts
        texts += [one.text for _, one in numbered_records(stored)]


async def stopped(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def committed(bus: NearBus) -> int:
    """What the group would read next, were it to begin now."""
    reader = await bus.reader(TOPICS, "logs")
    return max(reader._positions.values())


async def test_a_full_disk_and_a_lost_commit_lose_nothing_and_double_nothing(bus: Forgetful, ingest: Full) -> None:
    await bus.publish([told(number) for number in range(3)])
    task = asyncio.create_task(Intake(bus, ingest).run())

    async def done() -> bool:
        return await committed(bus) == 3

    await until(done)
    await stopped(task)
    assert (ingest.refuses, bus.loses) == (0, 0)
    assert await kept(ingest) == ["line 0", "line 1", "line 2"]


async def test_a_bug_in_the_bus_does_not_make_the_log_centre_deaf(bus: Forgetful, ingest: Full) -> None:
    ingest.refuses, bus.error = 0, RuntimeError("nobody foresaw this")
    await bus.publish([told(0)])
    task = asyncio.create_task(Intake(bus, ingest).run())

    async def done() -> bool:
        return task.done() or await committed(bus) == 1

    await until(done)
    assert not task.done()
    await stopped(task)
    assert await kept(ingest) == ["line 0"]


class Ended(NearBus):
    """A bus whose readers read nothing more once they are closed, as those of Kafka."""

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> NearReader:
        made = await super().reader(topics, group, from_end)

        async def close() -> None:
            made.poll = closed  # type: ignore[method-assign]

        async def closed(limit: int) -> list[Event]:
            raise Unavailable("it has stopped to read")

        made.close = close  # type: ignore[method-assign]
        return made


async def test_one_that_is_restarted_reads_on(tmp_path: Path, ingest: Full) -> None:
    ingest.refuses, bus = 0, Ended(tmp_path / "ended.db")
    await bus.start()
    intake = Intake(bus, ingest)
    for number in range(2):
        await bus.publish([told(number)])
        task = asyncio.create_task(intake.run())
        await until(lambda number=number: ingest.sequence == number + 1)  # type: ignore[misc]
        await stopped(task)
    await bus.close()

    assert await kept(ingest) == ["line 0", "line 1"]


async def test_one_who_begins_again_before_the_commit_doubles_nothing(bus: Forgetful, ingest: Full) -> None:
    ingest.refuses, bus.loses = 0, 1_000_000
    await bus.publish([told(0), told(1)])
    for _ in range(3):
        task = asyncio.create_task(Intake(bus, ingest).run())
        await until(lambda: ingest.sequence == 2)
        await stopped(task)

    assert await committed(bus) == 0
    bus.loses = 0
    task = asyncio.create_task(Intake(bus, ingest).run())
    await bus.publish([told(2)])
    await until(lambda: ingest.sequence == 3)
    await stopped(task)
    assert await kept(ingest) == ["line 0", "line 1", "line 2"]


async def test_what_cannot_be_read_is_passed_on_and_counted_as_done(bus: Forgetful, ingest: Full) -> None:
    ingest.refuses, bus.loses = 0, 0
    broken = Event("aimass.registry.v1", "k", b"\xff", {"ce_id": "bad", "ce_type": "aimass.v1.ReleaseChanged"})
    await bus.publish([broken, told(0)])
    task = asyncio.create_task(Intake(bus, ingest).run())

    async def done() -> bool:
        return await committed(bus) == 2

    await until(done)
    await stopped(task)
    assert await kept(ingest) == ["line 0"]
    dead = await (await bus.reader(["aimass.registry.v1.dead"], "test")).poll(5)
    assert [event.id for event in dead] == ["bad"]
