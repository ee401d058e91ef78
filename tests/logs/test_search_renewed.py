"""An index that is filled anew, and takes the place of the one that was asked meanwhile."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from services.logs.ingest.forgotten import Forgotten
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest
from services.logs.search import service
from services.logs.search.domain import All
from services.logs.search.index import Index, Window
from services.logs.search.service import Search
from services.logs.tables import Kept, tenant_of
from tests.logs.conftest import ACME
from tests.logs.records import record
from tests.support.house import until


class Slow(Index):
    """Takes its time to add, and remembers of each commit up to where it said to go, and how many records it had."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.commits = list[tuple[Position, int]]()

    def add(self, records: Sequence[tuple[int, Kept]]) -> None:
        time.sleep(0.05)
        super().add(records)

    def commit(self, position: tuple[int, int]) -> None:
        super().commit(position)
        self.commits.append((Position(*position), self.total(ACME, All(), Window())))

    def successor(self) -> Index:
        return Late(super().successor()._folder.parent)


class Late(Index):
    """One that the others are ahead of when it is done."""

    def commit(self, position: tuple[int, int]) -> None:
        super().commit(position)
        time.sleep(0.3)


async def behind(ingest: Ingest, position: Position) -> int:
    """How many records of acme the files have behind a place."""
    count, last = 0, None
    while position != last:
        last = position
        stored, position = await ingest.read(last)
        count += sum(tenant_of(one.record) == "acme" for one in stored)
    return count


def _have(some: Sequence[object], count: int) -> bool:
    return len(some) >= count


async def test_an_index_that_takes_anothers_place_says_to_go_no_further_than_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever is killed just then misses for good what lies between."""
    monkeypatch.setattr(service, "_COMMIT_EVERY", 0.0)
    ingest, index = Ingest(Segments(tmp_path / "records")), Slow(tmp_path / "index")
    await ingest.open()
    search = Search(ingest, index)
    tasks = [asyncio.create_task(search.follow())]

    async def come() -> None:
        for number in itertools.count():
            gone = [record(tenant=f"gone{place}")._replace(record=f"g{number}-{place}") for place in range(5)]
            await ingest.append([Batch(f"event-{number}", [record(number), *gone])])
            await asyncio.sleep(0.005)

    tasks.append(asyncio.create_task(come()))
    await until(lambda: index.commits)
    for place in range(5):
        await Forgotten(tmp_path / "note", ingest, search.forget).forget([f"gone{place}"])
        more = len(index.commits) + 2
        await until(partial(_have, index.commits, more))
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    whole = await behind(ingest, Position())
    wrong = [(at, had) for at, had in index.commits if had < whole - await behind(ingest, at)]
    await search.close()
    ingest.close()

    assert not wrong
