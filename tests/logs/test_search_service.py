import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.logs.domain import Record
from services.logs.ingest.segments import Segments
from services.logs.ingest.service import Batch, Ingest
from services.logs.search.domain import Query
from services.logs.search.index import Index, Window
from services.logs.search.service import Search
from services.logs.search.tabled import Over, never
from services.logs.tables import Table
from tests.logs.records import NOON, record, table
from tests.support.house import until

ACME = Scope("acme")
WHOLE = Window()


class Searched:
    """Ingest and search on a folder, the index following."""

    def __init__(self, folder: Path, index: Index | None = None) -> None:
        self.ingest = Ingest(Segments(folder / "records"))
        self.search = Search(self.ingest, index or Index(folder / "index"))
        self._task: asyncio.Task[None] | None = None
        self._batches = 0

    async def start(self) -> "Searched":
        await self.ingest.open()
        self._task = asyncio.create_task(self.search.follow())
        return self

    async def stop(self) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.search.close()
        self.ingest.close()

    async def keep(self, *records: Record | Table) -> None:
        self._batches += 1
        await self.ingest.append([Batch(f"{id(self)}-{self._batches}", records)])

    async def found(self, query: str, count: int) -> list[str]:
        async def enough() -> bool:
            return await self.search.total(ACME, query, WHOLE) >= count

        await until(enough)
        page = await self.search.search(ACME, query, WHOLE, 1000, "")
        return [one.record for one in page.items]


@pytest.fixture
async def searched(tmp_path: Path) -> AsyncIterator[Searched]:
    made = await Searched(tmp_path).start()
    yield made
    await made.stop()


async def test_the_index_follows_what_is_kept(searched: Searched) -> None:
    await searched.keep(record(0), record(1))
    assert await searched.found("", 2) == ["r1", "r0"]
    await searched.keep(record(2))
    assert await searched.found("", 3) == ["r2", "r1", "r0"]


async def test_records_come_by_their_time_and_not_by_their_arrival(searched: Searched) -> None:
    await searched.keep(record(5), record(1))
    await searched.keep(record(3))

    assert await searched.found("", 3) == ["r5", "r3", "r1"]


async def test_search_that_starts_again_goes_on_where_it_was(tmp_path: Path) -> None:
    first = await Searched(tmp_path).start()
    await first.keep(*(record(number) for number in range(10)))
    await first.found("", 10)
    await first.stop()
    second = await Searched(tmp_path).start()
    await second.keep(record(10))

    assert len(await second.found("", 11)) == 11
    await second.stop()


class Sulking(Index):
    """An index whose commit fails the first time, as on a full disk."""

    fails = 1

    def commit(self, position: tuple[int, int]) -> None:
        if self.fails:
            self.fails -= 1
            raise ValueError("No space left on device")
        super().commit(position)


async def test_a_commit_that_fails_is_made_good(tmp_path: Path) -> None:
    searched = await Searched(tmp_path, Sulking(tmp_path / "index")).start()
    await searched.keep(record(0), record(1))

    assert await searched.found("", 2) == ["r1", "r0"]
    await searched.stop()


async def test_a_trace_has_all_spans_of_its_traces_and_of_its_tenant_only(searched: Searched) -> None:
    def span(number: int, trace: str, request_id: str = "", **more: Any) -> Record:
        return record(number, kind="span", trace_id=trace, request_id=request_id, **more)

    await searched.keep(
        span(3, "a" * 32, "r"),
        span(1, "a" * 32),
        span(2, "b" * 32, "r"),
        span(4, "c" * 32, "other"),
        span(5, "a" * 32, "r", tenant="rival"),
        record(6, trace_id="a" * 32, request_id="r"),
    )
    await searched.found("", 5)

    assert [one.record for one in await searched.search.trace(ACME, "r")] == ["r1", "r2", "r3"]
    with pytest.raises(Failure) as caught:
        await searched.search.trace(ACME, "unknown")
    assert caught.value.code is Code.NOT_FOUND


async def test_a_page_that_is_cut_by_size_has_a_next_one(searched: Searched) -> None:
    await searched.keep(*(record(number, text="x" * 900_000) for number in range(6)))
    await searched.found("", 1)

    async def whole() -> bool:
        return await searched.search.total(ACME, "", WHOLE) == 6

    await until(whole)
    token, seen = "", list[str]()
    while True:
        page = await searched.search.search(ACME, "", WHOLE, 100, token)
        assert len(page.items) < 6
        seen += [one.record for one in page.items]
        if not (token := page.next_token):
            break
    assert seen == [f"r{number}" for number in reversed(range(6))]


async def test_a_slow_watcher_misses_some_and_holds_up_nobody(searched: Searched) -> None:
    tail = searched.search.tail(ACME, "")
    first = asyncio.ensure_future(anext(tail))
    await asyncio.sleep(0)
    await searched.keep(record(0))
    assert (await first).record == "r0"

    for number in range(1, 152):
        await searched.keep(record(number))
    assert (await anext(tail)).record == "r52"
    await tail.aclose()  # type: ignore[attr-defined]
    assert searched.ingest.watchers == []


class Patient(Index):
    """An index that has an answer when nobody waits for it any more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.gave_up = threading.Event(), threading.Event()

    def total(self, scope: Scope, query: Query, window: Window, over: Over = never) -> int:
        self.asked.set()
        for _ in range(1000):
            if over():
                self.gave_up.set()
                break
            time.sleep(0.01)
        return 0


async def test_a_question_that_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    index = Patient(tmp_path / "index")
    searched = await Searched(tmp_path, index).start()
    question = asyncio.create_task(searched.search.total(ACME, "", WHOLE))
    await until(index.asked.is_set)
    question.cancel()
    await asyncio.gather(question, return_exceptions=True)

    assert await asyncio.to_thread(index.gave_up.wait, 5)
    await searched.stop()


class Apart(Table):
    """A table that says in which threads it is taken apart."""

    threads: ClassVar[list[str]] = []

    def records(self) -> list[Record]:
        self.threads.append(threading.current_thread().name)
        return super().records()


async def test_a_tail_takes_tables_apart_that_are_its_own_and_beside_the_loop(searched: Searched) -> None:
    Apart.threads.clear()
    tail = searched.search.tail(ACME, "duration_ms:>1")
    first = asyncio.ensure_future(anext(tail))
    await asyncio.sleep(0)
    for tenant in ("rival", "acme"):
        whole = table(3, tenant=tenant)
        await searched.keep(Apart(whole.like, whole.first, whole.columns))

    assert (await first).duration_ms == 2.0
    assert len(Apart.threads) == 1
    assert Apart.threads != [threading.current_thread().name]
    await tail.aclose()  # type: ignore[attr-defined]


async def test_counts_take_a_window(searched: Searched) -> None:
    await searched.keep(*(record(number, time_ns=NOON + number * 10**9) for number in range(10)))
    await searched.found("", 10)
    window = Window(NOON + 2 * 10**9, NOON + 5 * 10**9)

    buckets, total = await searched.search.count(ACME, "", window, 1, "")
    assert (total, [bucket.count for bucket in buckets]) == (3, [1, 1, 1])
