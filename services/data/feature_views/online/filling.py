"""Fills Redis from the database: what was never there, what it has lost, and what it missed while it was away.

A place that lacks something for longer than a step takes to arrive is copied anew, under a stamp that was read before
its rows; what is written meanwhile goes on with that stamp. Those that are read by default come first, and what does
not fit into the memory that is allowed stays in the database.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from services.data.feature_views.online.far import ROW, InRedis
from services.data.feature_views.online.scripts import TOKEN
from services.data.feature_views.places import Place, Standing
from services.data.feature_views.store.rows import RowStore
from services.kit.errors import Failure
from services.kit.telemetry.metrics import gauge

log = logging.getLogger(__name__)
_EVERY, _SOON = 15.0, 1.0  # seconds between two looks; when a read has found something missing
_IDLE = 5.0  # the same, when the last such look found nothing to do
_PAGE = 500  # rows


class Store(Protocol):
    """What knows the places."""

    async def standing(self) -> Sequence[Standing]: ...


class Filling:
    """The task of a process. Of several processes, one copies a place."""

    def __init__(self, store: Store, rows: RowStore, redis: InRedis) -> None:
        self._store, self._rows, self._redis = store, rows, redis
        self._suspects = dict[Place, int]()  # the stamps that places lacked at the last look
        self._large = dict[Place, tuple[int, int]]()  # the stamps with which places did not fit, and what they need
        self.missing = 0

    async def run(self) -> None:
        """The task."""
        hide = gauge(
            "aimass_feature_places_missing", "Versions of views that Redis lacks.", (), lambda: [((), self.missing)]
        )
        try:
            while True:
                busy = False
                with suppress(Failure):  # of the database or Redis, which say so themselves
                    busy = await self.look()
                await asyncio.sleep(_SOON if busy else _IDLE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SOON if busy else _EVERY):
                        await self._redis.behind.wait()
        finally:
            hide()

    async def look(self) -> bool:
        """Makes up for what is missing; whether there was something. Raises unavailable."""
        self._redis.behind.clear()
        places = await self._store.standing()
        found = await self._redis.standing([each.place for each in places])
        ahead = any(at is not None and at > each.stamp for each, (at, _) in zip(places, found, strict=True))
        newer = {each.place: each.stamp for each in await self._store.standing()} if ahead else {}
        copies, dropped, suspects, current = list[Standing](), False, dict[Place, int](), set[Place]()
        sizes = {each.place: size for each, (_, size) in zip(places, found, strict=True)}
        for each, (at, _) in zip(places, found, strict=True):
            if not each.readable:
                dropped |= await self._unread(each, at)
            elif at is not None and (at == each.stamp or each.stamp < at <= newer.get(each.place, 0)):
                current.add(each.place)
            elif at is not None and at > each.stamp:  # of a database that has gone back in time
                copies.append(each)
            elif (at or 0) < self._suspects.get(each.place, 0):
                suspects[each.place] = self._suspects[each.place]
                copies.append(each)
            else:  # a step may be on its way
                suspects[each.place] = each.stamp
        self._suspects, self._redis.used = suspects, sum(sizes.values())
        self._redis.trusted = (self._redis.trusted & (current | suspects.keys())) | current
        self._large = {place: known for place, known in self._large.items() if place in sizes}
        await self._trim(places, sizes)
        wanted = [each for each in copies if self._fits(each)]
        for each in sorted(wanted, key=lambda one: (not one.serving, one.place)):
            await self._copy(each, sizes[each.place])
        self.missing = sum(each.readable and each.place not in self._redis.trusted for each in places)
        return dropped or bool(wanted) or any(self._fits(each) for each in places if each.place in suspects)

    def _fits(self, each: Standing) -> bool:
        """Whether it is not known that it does not, and there is memory at all.

        A place that grows is not measured again with each step of its run.
        """
        stamp, need = self._large.get(each.place, (0, 0))
        changed = stamp != each.stamp and not each.running
        return not self._redis.full and (changed or need <= self._redis.most - self._redis.used)

    async def _unread(self, each: Standing, at: int | None) -> bool:
        """Drops what is there of a place whose rows were dropped; whether there was something."""
        if at is None or each.running:
            return False
        await self._redis.drop(each.place)
        return True

    async def _trim(self, places: Sequence[Standing], sizes: Mapping[Place, int]) -> None:
        """Drops what is more than is allowed: versions that are not read by default first, then the largest."""
        for each in sorted(places, key=lambda one: (one.serving, -sizes[one.place])):
            if self._redis.used <= self._redis.most:
                return
            if size := sizes[each.place]:
                self._redis.used -= size
                self._large[each.place] = each.stamp, size
                await self._redis.drop(each.place)

    async def _copy(self, each: Standing, before: int) -> None:
        """Copies a place, of which something of a size is there already."""
        place, token = each.place, secrets.token_hex(TOKEN // 2)
        self._redis.trusted.discard(place)
        count, size = await self._rows.size(place)
        need = size + count * ROW
        if need > self._redis.most - self._redis.used + before:
            self._large[place] = each.stamp, need
            log.info("version %s of %s does not fit into redis: it is read from the database", place[2], place[1])
            if before:
                await self._redis.drop(place)
                self._redis.used -= before
            return
        if not await self._redis.begin(place, token, each.stamp):
            return
        after, last = b"", False
        while not last:
            page = await self._rows.page(place, after, _PAGE)
            last = len(page) < _PAGE
            if not await self._redis.fill(place, token, page, last):
                return
            after = page[-1].key if page else after
        self._suspects.pop(place, None)
        self._redis.trusted.add(place)
