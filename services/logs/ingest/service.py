"""Keeping records durably, and giving them to those who follow."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, starmap
from typing import NamedTuple, TypeVar

from services.kit.sealed import Box, Key
from services.kit.tenant_keys import TenantKeys
from services.logs.domain import Record
from services.logs.ingest.sealing import Named, Parts, Sealing, numbered, owner, runs
from services.logs.ingest.segments import Frame, Position, Segments
from services.logs.tables import Kept, Table, size, tenant_of

T = TypeVar("T")
Clean = Callable[[Sequence[Kept]], Sequence[Kept]]
_FRESH = 4_000  # newest records that stay decoded in memory, for followers that keep up
_TOGETHER = 1_000  # records that a follower gets at a time, about


@dataclass(frozen=True)
class Batch:
    """The records of one event of the bus; or those of them that wait for keys, cleaned."""

    event: str
    records: Sequence[Kept]
    waits: bool = False


class Left(NamedTuple):
    """What `append` could not keep yet, and a reason; empty: all is kept."""

    batches: Sequence[Batch]
    why: Exception | None = None


class Stored(NamedTuple):
    """A record or a table with its number, or that of its first record. Numbers start at 0 and have no gaps."""

    sequence: int
    record: Kept


def numbered_records(stored: Iterable[Stored]) -> Iterator[tuple[int, Record]]:
    """Yields each record with its number, those of tables as well."""
    for sequence, one in stored:
        if isinstance(one, Table):
            yield from enumerate(one.records(), sequence)
        else:
            yield sequence, one


class Ingest:
    """The log of all records. Followers read it from positions that they keep themselves."""

    def __init__(
        self,
        segments: Segments,
        clean: Clean = lambda records: records,
        room: Callable[[], None] = lambda: None,
        keys: TenantKeys | None = None,
    ) -> None:
        """`clean` removes from records what must not be kept; it runs in a thread.

        `room` raises storage_full while the disk is too full. Without `keys` records lie plain.
        """
        self._clean, self._room, self._sealing = clean, room, Sealing(keys)
        self._segments = segments
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segments")
        self._news = asyncio.Event()
        self._fresh: dict[Position, tuple[list[Stored], Position]] = {}
        self._order: deque[tuple[Position, int]] = deque()
        self._held = 0
        # While records wait for keys: the order of the first event that was written after theirs came, or of an
        # earlier one.
        self._passing = math.inf
        # Tenants whose records are not kept any more.
        self.gone: frozenset[str] = frozenset()
        self.watchers: list[Callable[[Sequence[Kept]], None]] = []

    async def open(self) -> None:
        """Opens the files, and recovers from a crash."""
        await self._in_thread(self._segments.open)

    async def _in_thread(self, work: Callable[..., T], *about: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *about)

    @property
    def sequence(self) -> int:
        """The number of the next record."""
        return self._segments.sequence

    @property
    def damaged(self) -> int:
        """How many damaged places have been found since the start."""
        return self._segments.damaged + self._sealing.damaged

    @property
    def may_pass(self) -> bool:
        """Whether events may be appended before older ones whose keys are lacking.

        No more are than are recognised after a restart, when the bus delivers all of them again.
        """
        return self._segments.recalls(self._passing)

    async def append(self, batches: Sequence[Batch]) -> Left:
        """Returns when the records are on the disk, but those whose keys cannot be had now; skips those kept before.

        What is left must be given again, before what comes after it, and its events must not count as consumed.
        Raises OSError when the disk fails, storage_full when it is too full. The events then wait on the bus.
        """
        self._room()
        work, tenants = await self._in_thread(self._keepable, batches)
        keys, lacking = await self._sealing.current(tenants)
        new, left = await self._in_thread(self._append, work, keys, lacking.keys())
        self._passing = min(self._passing, self._segments.written) if left else math.inf
        self._notify(new)
        return Left(left, lacking[min(lacking)] if left else None)

    def _notify(self, new: Sequence[tuple[Frame, list[Stored]]]) -> None:
        if not new:
            return
        for frame, stored in new:
            self._hold(frame, stored)
        news, self._news = self._news, asyncio.Event()
        news.set()
        if self.watchers:
            kept = [one.record for _, stored in new for one in stored]
            for watcher in self.watchers:
                watcher(kept)

    def _keepable(self, batches: Sequence[Batch]) -> tuple[list[Batch], set[str]]:
        """The cleaned batches, and their tenants."""
        cleaned = [one if one.waits else Batch(one.event, self._clean(one.records)) for one in self._remaining(batches)]
        return cleaned, {tenant_of(one) for batch in cleaned for one in batch.records}

    def _remaining(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches without the records of tenants in `gone`, and without empty batches."""
        if gone := self.gone:
            batches = [
                replace(batch, records=[one for one in batch.records if tenant_of(one) not in gone])
                for batch in batches
            ]
        return [batch for batch in batches if batch.records]

    def _append(
        self, batches: Sequence[Batch], keys: Mapping[str, Key], lacking: Collection[str]
    ) -> tuple[list[tuple[Frame, list[Stored]]], list[Batch]]:
        """Writes frames; returns those of new events with their records, which followers need not decode again.

        Also returns what is left because its keys are lacking.
        """
        given: dict[int, list[Kept]] = {}

        def block(parts: Parts, segment: int, sequence: int) -> bytes:
            made = self._sealing.block(parts, keys, segment, sequence)
            given[id(made)] = [one for records in parts.values() for one in records]
            return made

        parted, left = list[tuple[str, Parts]](), list[Batch]()
        waiting = {batch.event for batch in batches if batch.waits}
        for batch in self._remaining(batches):  # again: a tenant may have been forgotten while keys were fetched
            if batch.waits or batch.event not in waiting:  # else it has come a second time
                rest, found = self._parted(batch, keys, lacking)
                left += [rest] if rest else []
                parted += found
        packed = [(event, sum(map(size, chain(*parts.values()))), partial(block, parts)) for event, parts in parted]
        try:
            frames = self._segments.append(packed)
        except BaseException:
            self._sealing.renew()  # the same numbers will be given to other records
            raise
        new = [(frame, list(starmap(Stored, numbered(frame.sequence, given[id(frame.block)])))) for frame in frames]
        return new, left

    def _parted(
        self, batch: Batch, keys: Mapping[str, Key], lacking: Collection[str]
    ) -> tuple[Batch | None, list[tuple[str, Parts]]]:
        """What is left of a batch, and its parts with the ids that they are recognised by.

        An event is one frame. While something of it is left, there is one for each other tenant, with an id of its own;
        what was left is one with the event's id.
        """
        if not batch.waits and self._knows(batch.event):
            return None, []
        ids = partial("{}/{}".format, batch.event)
        parts = self._sealing.parts(batch.records, keys)
        new = {tenant: records for tenant, records in parts.items() if not self._knows(ids(tenant))}
        left = [one for one in batch.records if owner(tenant_of(one)) in lacking] if lacking else []
        left = [one for one in left if not self._knows(ids(owner(tenant_of(one))))]
        if left:
            return Batch(batch.event, left, waits=True), [(ids(tenant), {tenant: new[tenant]}) for tenant in new]
        return None, [(batch.event, new)] if new else []

    def _knows(self, event: str) -> bool:
        """Whether an event, or a part of one, has been kept before: also before a restart, while others waited."""
        order = self._segments.order(event)
        self._passing = min(self._passing, math.inf if order is None else order)
        return order is not None

    def _hold(self, frame: Frame, stored: list[Stored]) -> None:
        self._fresh[frame.at] = stored, frame.after
        self._order.append((frame.at, frame.count))
        self._held += frame.count
        while self._held > _FRESH and len(self._order) > 1:
            at, count = self._order.popleft()
            del self._fresh[at]
            self._held -= count

    async def after(self, position: Position) -> tuple[list[Stored], Position]:
        """Records after a position, about a megabyte, and the position after them; waits until there are some.

        The list may be empty where records were removed: continue at the position that comes with it.
        """
        while True:
            news = self._news
            if position in self._fresh:
                return self._since(position)
            found, behind = await self.read(position)
            if behind != position:
                return found, behind
            await news.wait()

    async def turn(self) -> Sequence[int]:
        """Begins a new file; returns the older ones, and drops their records from memory."""
        found = await self._in_thread(self._segments.turn)
        self._sealing.renew()
        self._fresh.clear()
        self._order.clear()
        self._held = 0
        return found

    async def rewrite(self, segment: int, change: Callable[[bytes], bytes | None]) -> bool:
        """`Segments.rewrite` in a thread of its own, while records are appended."""
        return await asyncio.to_thread(self._segments.rewrite, segment, change)

    async def read(self, position: Position) -> tuple[list[Stored], Position]:
        """Records after a position, about a megabyte, from the files; at their end the position stays the same.

        Raises unavailable while keys cannot be fetched, failed_precondition for one that cannot be unwrapped.
        """
        frames, after, wanted = await self._in_thread(self._frames, position)
        keys = await self._sealing.opening(wanted)
        return await self._in_thread(self._opened, frames, keys), after

    def _since(self, position: Position) -> tuple[list[Stored], Position]:
        """Decoded records in memory from a position on."""
        found, count = list[Stored](), 0
        while count < _TOGETHER and (fresh := self._fresh.get(position)):
            stored, position = fresh
            found += stored
            count += sum(size(one.record) for one in stored)
        return found, position

    def _frames(self, position: Position) -> tuple[list[Frame], Position, set[Named]]:
        frames, after = self._segments.read(position)
        return frames, after, {run.key for frame in frames for run in runs(frame.block) if run.is_there}

    def _opened(self, frames: Sequence[Frame], keys: Mapping[Named, Key]) -> list[Stored]:
        boxes: dict[bytes, Box] = {}
        return [Stored(*one) for frame in frames for one in self._sealing.records(frame, keys, boxes)]

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()
        self._segments.close()
