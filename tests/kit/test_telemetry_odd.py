"""Telemetry of things that nobody foresaw: told as far as it can be, and never the last that is told."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.telemetry import Record, Telemetry, pipeline
from tests.kit.test_telemetry import MemoryBus
from tests.support.house import until

ACME = Scope("acme")


class Odd:
    """A value that cannot even be printed."""

    def __str__(self) -> str:
        raise LookupError("no words")


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def telling(tmp_path: Path, bus: MemoryBus) -> AsyncIterator[Telemetry]:
    made = Telemetry("test", tmp_path)
    made.start(bus)
    yield made
    await made.close()
    assert not [h for h in logging.getLogger("services").handlers if h in made._handlers]


@pytest.mark.parametrize("text", ["\ud800", "a file named \udcff", "ä\udfff", "\U0001f600", "plain"])
async def test_a_text_that_no_message_can_hold_is_told_all_the_same(
    telling: Telemetry, bus: MemoryBus, text: str
) -> None:
    telling.record(Record("log", "x", text, ACME, {"file": text}))
    await telling.flush()

    (record,) = bus.logs()
    assert record["file"] == record["body"] == text.encode(errors="replace").decode()


async def test_a_batch_that_cannot_be_written_is_not_the_last(telling: Telemetry, bus: MemoryBus) -> None:
    telling.record(Record("log", "odd", "", ACME, {"value": Odd()}))
    await until(lambda: telling.dropped)
    telling.record(Record("log", "good", "", ACME))
    await until(bus.logs)

    assert [record["aimass.name"] for record in bus.logs()] == ["good"]


async def test_what_was_lost_is_said_in_the_file(telling: Telemetry, tmp_path: Path) -> None:
    telling.record(Record("log", "odd", "", ACME, {"value": Odd()}))
    await until(lambda: telling.dropped)
    log = tmp_path / "logs" / "test.log"

    await until(lambda: "a batch of telemetry is lost" in log.read_text())
    assert "no words" in log.read_text()


class Silent(MemoryBus):
    """A bus of another process that never answers."""

    async def publish(self, events: object) -> None:
        await asyncio.Event().wait()


async def test_a_process_that_stops_does_not_wait_long_for_a_bus_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_LAST", 0.05)
    made = Telemetry("test", tmp_path)
    made.start(Silent())
    made.record(Record("log", "last", "", ACME))

    async with asyncio.timeout(5):
        await made.close()


class Slow(MemoryBus):
    """A bus that takes its time."""

    asked = 0

    async def publish(self, events: Sequence[Event]) -> None:
        self.asked += 1
        await asyncio.sleep(0.1)
        await super().publish(events)


async def test_a_process_that_stops_while_it_publishes_loses_nothing(tmp_path: Path) -> None:
    bus, made = Slow(), Telemetry("test", tmp_path)
    made.start(bus)
    logging.getLogger("services.odd").warning("said last")
    await until(lambda: bus.asked)
    await made.close()

    assert [record["body"] for record in bus.logs()] == ["said last"]
