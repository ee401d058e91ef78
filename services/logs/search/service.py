"""Searching, counting and tailing records, and keeping the index up to date."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from services.kit import pages
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, InvalidValue, NotFound, Unavailable, Violation
from services.kit.pages import Page
from services.logs.domain import Record
from services.logs.ingest.segments import Position
from services.logs.ingest.service import Ingest, Stored
from services.logs.search.buckets import Bucket
from services.logs.search.documents import SPLITS
from services.logs.search.domain import And, Field, Or, Query, matches, parse
from services.logs.search.index import Found, Index, Window
from services.logs.tables import Kept, records_of, shared_fields, tenant_of

log = logging.getLogger(__name__)
T = TypeVar("T")
_COMMIT_EVERY = 0.5  # seconds
_IDLE = 5.0  # seconds without records after which a replaced index is noticed
_TAIL = 100  # batches that a slow watcher may be behind
_TRACE = 1000  # records of a trace, at most
_BUCKETS = 10_000
_STEP = "must be between 0 and 1,000,000,000"  # 0: the default


class Search:
    """Answers queries from the index, which it keeps up with the records."""

    def __init__(self, ingest: Ingest, index: Index) -> None:
        self._ingest, self._index = ingest, index
        self._opened, self._moved, self._replaced = asyncio.Event(), Position(), False
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._reading = ThreadPoolExecutor(2, thread_name_prefix="search")

    async def follow(self) -> None:
        """Adds records to the index until it is cancelled; opens the index again after a failure."""
        while True:
            try:
                await self._follow()
            except (
                Failure,
                OSError,
                ValueError,
            ) as error:  # no keys, or a full disk, which Tantivy reports as a ValueError
                log.warning("the search index waits: %s", error)
                await asyncio.sleep(1)
                await self._in_order(self._index.rollback)

    async def _follow(self) -> None:
        position = Position(*await self._in_order(self._index.open))
        self._opened.set()
        since = 0.0  # when the oldest uncommitted record was added
        while True:
            try:
                async with asyncio.timeout(_COMMIT_EVERY if since else _IDLE):
                    stored, after = await self._ingest.after(position)
            except TimeoutError:
                stored, after = [], position
            if await self._in_order(self._add, stored):
                position, since = self._moved, 0.0
                continue
            position = after
            if stored:
                since = since or time.monotonic()
            if since and time.monotonic() - since >= _COMMIT_EVERY:
                await self._in_order(self._commit, position)
                since = 0.0

    def _add(self, stored: Sequence[Stored]) -> bool:
        """Adds records; true if the index was replaced meanwhile, whose position is `_moved`."""
        if self._replaced:
            self._replaced = False
            return True
        if kept := self._kept(stored):
            self._index.add(kept)
        return False

    def _kept(self, stored: Sequence[Stored]) -> Sequence[Stored]:
        gone = self._ingest.gone
        return [one for one in stored if tenant_of(one.record) not in gone] if gone else stored

    def _commit(self, position: Position) -> None:
        if not self._replaced:  # else the new index has not reached this position
            self._index.commit(position)

    async def forget(self, tenants: Collection[str]) -> None:
        """Removes tenants from the index; returns when nothing of them is left in its files either."""
        await self._opened.wait()
        if await self._in_order(self._index.drop, tenants):
            await self._rebuild()

    async def _rebuild(self) -> None:
        """Fills a new index from the segments, while the old one is used, and replaces that by it.

        Deleted documents stay in an index's files until they are merged, which cannot be forced.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="rebuild") as thread:
            new = await loop.run_in_executor(thread, self._index.successor)
            position, last = Position(*await loop.run_in_executor(thread, new.open)), None
            while position != last:
                last, began = position, time.monotonic()
                stored, position = await self._ingest.read(last)
                await loop.run_in_executor(thread, new.add, self._kept(stored))
                await asyncio.sleep(time.monotonic() - began)  # leaves half of the time to others
            await loop.run_in_executor(thread, new.commit, position)
        await self._in_order(self._replace, new)

    def _replace(self, new: Index) -> None:
        self._moved, self._replaced = Position(*self._index.replace(new)), True

    async def _in_order(self, work: Callable[..., T], *about: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, *about)

    async def _ask(self, question: Callable[..., T], *about: object) -> T:
        try:
            async with asyncio.timeout(15):  # not wait_for: Python 3.11's can lose a cancellation
                await self._opened.wait()
        except TimeoutError:
            raise Unavailable("the search index is not open yet", retry_after=2) from None
        over = threading.Event()  # set when the caller has gone: there are two threads, which others need
        asked = partial(question, *about, over=over.is_set)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, asked)
        finally:
            over.set()

    async def search(self, scope: Scope, text: str, window: Window, size: int, token: str) -> Page[Record]:
        """A page of records, newest first. Raises query_invalid, query_too_costly, invalid_value."""
        query, limit, last = parse(text), pages.size(size), pages.after(token, int)
        _check(window)
        if last:
            window = Window(window.since, window.until, int(last[0]))
        found = await self._ask(self._index.search, scope, query, window, limit + 1)
        if not found:
            return Page(())
        kept = found[:limit]
        more = len(found) > limit or await self._behind(scope, query, window, kept[-1])
        return Page(tuple(one.record for one in kept), pages.token(kept[-1].key) if more else "")

    async def _behind(self, scope: Scope, query: Query, window: Window, last: Found) -> bool:
        """Whether older records match; a page of large records ends before it is full."""
        behind = Window(window.since, window.until, last.key)
        return bool(await self._ask(self._index.search, scope, query, behind, 1))

    async def total(self, scope: Scope, text: str, window: Window) -> int:
        """How many records match."""
        return await self._ask(self._index.total, scope, parse(text), window)

    async def count(
        self, scope: Scope, text: str, window: Window, step: int, split: str
    ) -> tuple[Sequence[Bucket], int]:
        """Buckets by time and value, and how many records there are in all."""
        query = parse(text)
        _check(window)
        if step < 0 or step > 10**9:
            raise InvalidValue(f"step_seconds {_STEP}", [Violation("/step_seconds", _STEP)])
        if split and split not in SPLITS:
            known = ", ".join(SPLITS)
            raise InvalidValue(f"split_by must be one of {known}", [Violation("/split_by", f"must be one of {known}")])
        buckets = await self._ask(self._index.count, scope, query, window, step or 60, split, _BUCKETS)
        return buckets, sum(bucket.count for bucket in buckets)

    async def trace(self, scope: Scope, request_id: str) -> list[Record]:
        """The spans of the traces that a request is part of, oldest first, at most 1,000. Raises not_found.

        A prediction is a span as well, where the work around it has left none.
        """
        spans = Or((Field("kind", "span"), Field("kind", "prediction")))
        named = And((spans, Field("request_id", request_id)))
        found = await self._ask(self._index.search, scope, named, Window(), _TRACE)
        traces = sorted({one.record.trace_id for one in found} - {""})[:20]
        if not traces:
            raise NotFound(f"there is no trace of request {request_id}")
        whole = And((spans, Or(tuple(Field("trace_id", trace) for trace in traces))))
        found = await self._ask(self._index.search, scope, whole, Window(), _TRACE)
        known = {one.record.span_id for one in found if one.record.kind == "span"}
        kept = [one.record for one in found if one.record.kind == "span" or one.record.span_id not in known]
        return sorted(kept, key=lambda record: record.time_ns)

    async def tail(self, scope: Scope, text: str) -> AsyncIterator[Record]:
        """Records that match as they come in. One who reads slowly misses some rather than hold up the others."""
        wanted = matcher(scope, text)
        waiting: asyncio.Queue[Sequence[Kept]] = asyncio.Queue(_TAIL)

        def watch(records: Sequence[Kept]) -> None:
            if waiting.full():
                waiting.get_nowait()
            waiting.put_nowait(records)

        self._ingest.watchers.append(watch)
        try:
            while True:
                # In a thread, as all that goes through records one by one: requests must not wait for it.
                for record in await asyncio.to_thread(wanted, await waiting.get()):
                    yield record
        finally:
            self._ingest.watchers.remove(watch)

    async def close(self) -> None:
        """Waits for what is being written."""
        self._reading.shutdown()
        self._writing.shutdown()
        self._index.close()


def _check(window: Window) -> None:
    if window.since is not None and window.until is not None and window.since > window.until:
        raise Failure(Code.INVALID_VALUE, "since is after until", [Violation("/since", "must not be after until")])


def matcher(scope: Scope, text: str) -> Callable[[Sequence[Kept]], list[Record]]:
    """What says which records are of a scope and match a query. Raises query_invalid, query_too_costly.

    It takes no table of others apart.
    """
    query = parse(text)

    def matching(given: Sequence[Kept]) -> list[Record]:
        own = (one for one in given if (shared_fields(one).tenant, shared_fields(one).project) == scope)
        return [record for record in records_of(own) if matches(query, record)]

    return matching
