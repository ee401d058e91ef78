import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.kit.errors import Code, Failure
from services.kit.space import Space
from services.logs.domain import Record
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest, numbered_records
from services.logs.tables import records_of
from tests.logs.records import record


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    made = await opened(tmp_path)
    yield made
    made.close()


async def opened(folder: Path) -> Ingest:
    made = Ingest(Segments(folder, most=20_000))
    await made.open()
    return made


def batch(*numbers: int) -> Batch:
    return Batch(f"event-{numbers}", [record(number, text=f"n{number}") for number in numbers])


async def follow(ingest: Ingest, count: int, position: Position | None = None) -> tuple[list[int], list[str], Position]:
    """Numbers and ids of the next records, and the position behind them."""
    at, numbers, ids = position or Position(), list[int](), list[str]()
    async with asyncio.timeout(5):
        while len(ids) < count:
            stored, at = await ingest.after(at)
            numbers += [number for number, _ in numbered_records(stored)]
            ids += [one.record for _, one in numbered_records(stored)]
    return numbers, ids, at


async def test_records_are_numbered_in_the_order_they_came(ingest: Ingest) -> None:
    await ingest.append([batch(0, 1), batch(2)])
    await ingest.append([batch(3)])

    numbers, ids, _ = await follow(ingest, 4)
    assert (numbers, ids) == ([0, 1, 2, 3], ["r0", "r1", "r2", "r3"])
    assert ingest.sequence == 4


async def test_records_wait_while_the_disk_is_as_full_as_it_may_be(tmp_path: Path) -> None:
    percent = 0
    ingest = Ingest(Segments(tmp_path), room=lambda: Space(tmp_path, percent).check())
    await ingest.open()
    with pytest.raises(Failure) as caught:
        await ingest.append([batch(0)])
    before, percent = ingest.sequence, 100
    await ingest.append([batch(0)])
    ingest.close()

    assert (caught.value.code, before, ingest.sequence) == (Code.STORAGE_FULL, 0, 1)


async def test_one_who_follows_waits_for_what_comes(ingest: Ingest) -> None:
    waiting = asyncio.create_task(follow(ingest, 2))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await ingest.append([batch(0)])
    await ingest.append([batch(1)])

    assert (await waiting)[1] == ["r0", "r1"]


async def test_one_who_follows_goes_on_where_he_was_also_after_a_restart(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    await first.append([batch(0)])
    _, _, at = await follow(first, 1)
    await first.append([batch(1)])
    first.close()

    again = await opened(tmp_path)
    numbers, ids, _ = await follow(again, 1, at)
    assert (numbers, ids) == ([1], ["r1"])
    again.close()


async def test_many_follow_each_at_his_own_pace(ingest: Ingest) -> None:
    for number in range(200):
        await ingest.append([batch(number)])

    slow, fast = await asyncio.gather(follow(ingest, 200), follow(ingest, 200, Position()))
    assert slow[1] == fast[1] == [f"r{number}" for number in range(200)]


async def test_an_event_that_comes_again_is_told_to_nobody(ingest: Ingest) -> None:
    heard: list[str] = []
    ingest.watchers.append(lambda records: heard.extend(one.record for one in records_of(records)))
    await ingest.append([batch(0), batch(1)])
    await ingest.append([batch(1), batch(2)])
    await ingest.append([batch(2), Batch("empty", [])])

    assert heard == ["r0", "r1", "r2"]
    assert (await follow(ingest, 3))[1] == ["r0", "r1", "r2"]


async def test_what_is_held_decoded_is_bounded(ingest: Ingest) -> None:
    for start in range(0, 9_000, 1_000):
        await ingest.append([batch(*range(start, start + 1_000))])

    assert sum(len(stored) for stored, _ in ingest._fresh.values()) <= 5_000
    assert len((await follow(ingest, 9_000))[1]) == 9_000


async def test_a_record_comes_back_as_it_was(ingest: Ingest) -> None:
    whole = Record(
        *(
            "r",
            "acme",
            "flights",
            5,
            "prediction",
            "WARN",
            "gateway",
            "late",
            "é\n",
            "q",
            "t",
            "s",
            "p",
            "late",
            3,
            "ok",
        ),
        duration_ms=0.25,
        attributes={"a": "x", "b": 1, "c": 0.5, "d": True},
        scores=bytes(range(256)),
    )
    await ingest.append([Batch("e", [whole])])
    ingest._fresh.clear()

    stored, _ = await ingest.after(Position())
    assert stored[0].record == whole
    assert ingest.damaged == 0
