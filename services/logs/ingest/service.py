"""Keeping what comes in, and telling those who follow."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, starmap
from typing import NamedTuple, TypeVar

from services.kit.sealed import Box, Key
from services.kit.tenant_keys import TenantKeys
from services.logs.domain import Record
from services.logs.ingest.sealing import Named, Parts, Sealing, numbered, runs
from services.logs.ingest.segments import Frame, Position, Segments
from services.logs.tables import Kept, Table, size, whose

T = TypeVar("T")
Clean = Callable[[Sequence[Kept]], Sequence[Kept]]
_FRESH = 4_000  # records that are kept decoded for those who follow closely
_TOGETHER = 1_000  # records from which one who follows gets no more at a time


@dataclass(frozen=True)
class Batch:
    """The records that one event of the bus brought."""

    event: str
    records: Sequence[Kept]


class Stored(NamedTuple):
    """A record, or a table of some, with its number: from 0, one more for each record that was kept."""

    sequence: int
    record: Kept


def singly(stored: Iterable[Stored]) -> Iterator[tuple[int, Record]]:
    """Each record by itself, with its number."""
    for sequence, one in stored:
        if isinstance(one, Table):
            yield from enumerate(one.records(), sequence)
        else:
            yield sequence, one


class Ingest:
    """The record of everything. Others follow it from a position that each keeps for itself."""

    def __init__(
        self,
        segments: Segments,
        clean: Clean = lambda records: records,
        room: Callable[[], None] = lambda: None,
        keys: TenantKeys | None = None,
    ) -> None:
        """`clean` takes out of records what must not be kept; it runs beside the loop.

        `room` raises storage_full while the disk is as full as it may be. Records lie sealed under `keys`, or plain.
        """
        self._clean, self._room, self._sealing = clean, room, Sealing(keys)
        self._segments = segments
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segments")
        self._news = asyncio.Event()
        self._fresh: dict[Position, tuple[list[Stored], Position]] = {}
        self._order: deque[tuple[Position, int]] = deque()
        self._held = 0
        # Tenants of whom nothing is kept any more.
        self.gone: frozenset[str] = frozenset()
        self.watchers: list[Callable[[Sequence[Kept]], None]] = []

    async def open(self) -> None:
        """Recovers what a crash left."""
        await self._in_thread(self._segments.open)

    async def _in_thread(self, work: Callable[..., T], *about: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *about)

    @property
    def sequence(self) -> int:
        """The number that the next record gets."""
        return self._segments.sequence

    @property
    def damaged(self) -> int:
        """Places in the files that could not be read, since the start."""
        return self._segments.damaged + self._sealing.damaged

    async def append(self, batches: Sequence[Batch]) -> None:
        """Returns when the records are on the disk; those of an event that was kept before are not kept again.

        Raises OSError when the disk does not take them, storage_full when it should not, unavailable while a key that
        this process does not have yet cannot be had: they wait on the bus.
        """
        self._room()
        work, tenants = await self._in_thread(self._keepable, batches)
        new = await self._in_thread(self._append, work, await self._sealing.current(tenants))
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
        """What may be kept, and whose it is."""
        cleaned = [Batch(one.event, self._clean(one.records)) for one in self._known(batches)]
        return cleaned, {whose(one) for batch in cleaned for one in batch.records}

    def _known(self, batches: Sequence[Batch]) -> list[Batch]:
        """What there is of tenants of whom something is kept."""
        if gone := self.gone:
            batches = [
                Batch(batch.event, [one for one in batch.records if whose(one) not in gone]) for batch in batches
            ]
        return [batch for batch in batches if batch.records]

    def _append(self, batches: Sequence[Batch], keys: Mapping[str, Key]) -> list[tuple[Frame, list[Stored]]]:
        """The frames of new events with their records, which need not be decoded again for those who follow."""
        given: dict[int, list[Kept]] = {}

        def block(parts: Parts, segment: int, sequence: int) -> bytes:
            made = self._sealing.block(parts, keys, segment, sequence)
            given[id(made)] = [one for records in parts.values() for one in records]
            return made

        # Somebody may have been forgotten while keys were on their way.
        parted = [(batch.event, self._sealing.parts(batch.records, keys)) for batch in self._known(batches)]
        packed = [
            (event, sum(map(size, chain(*parts.values()))), partial(block, parts)) for event, parts in parted if parts
        ]
        try:
            frames = self._segments.append(packed)
        except BaseException:
            self._sealing.anew()  # the same numbers come again, with other records
            raise
        return [(frame, list(starmap(Stored, numbered(frame.sequence, given[id(frame.block)])))) for frame in frames]

    def _hold(self, frame: Frame, stored: list[Stored]) -> None:
        self._fresh[frame.at] = stored, frame.after
        self._order.append((frame.at, frame.count))
        self._held += frame.count
        while self._held > _FRESH and len(self._order) > 1:
            at, count = self._order.popleft()
            del self._fresh[at]
            self._held -= count

    async def after(self, position: Position) -> tuple[list[Stored], Position]:
        """What was kept behind a position, a megabyte or so, and the position behind that; waits for it.

        There may be nothing where records were taken out: what is behind them is given the next time.
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
        """The files that are not written to from now on; nothing of them is in memory."""
        found = await self._in_thread(self._segments.turn)
        self._sealing.anew()
        self._fresh.clear()
        self._order.clear()
        self._held = 0
        return found

    async def rewrite(self, segment: int, change: Callable[[bytes], bytes | None]) -> bool:
        """As `Segments.rewrite`, beside what comes in."""
        return await asyncio.to_thread(self._segments.rewrite, segment, change)

    async def read(self, position: Position) -> tuple[list[Stored], Position]:
        """What the files have behind a position, a megabyte or so; at their end the position stays.

        Raises unavailable while keys cannot be had, failed_precondition for one that does not open.
        """
        frames, after, wanted = await self._in_thread(self._frames, position)
        keys = await self._sealing.opening(wanted)
        return await self._in_thread(self._opened, frames, keys), after

    def _since(self, position: Position) -> tuple[list[Stored], Position]:
        """All that is decoded behind a position, as far as it goes without a gap."""
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
