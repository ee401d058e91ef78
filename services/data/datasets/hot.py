"""Tables that queries read again and again, in memory: one process for each tenant, one bound for all of them.

A table is columns of a version, whose files never change; a version that is asked for a second time is loaded. What
does not fit, and what is asked for while the process of its tenant answers another query, is read from files.
"""

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence

from prometheus_client import Counter

from services.data.datasets.hot_seats import ANY, Seat, Turn, Wanted, lone, look, mark_of
from services.kit.auth import Scope
from services.kit.spent import Spent
from services.kit.telemetry.metrics import REGISTRY, gauge

_SEATS = 4  # processes: each takes some 120 MiB beside its tables
_IDLE, _LOOK = 300.0, 30.0  # seconds: without a query, after which a process ends; between two looks
_BESIDE = 512 * 2**20  # bytes that a process may keep beside its tables between queries
_KNOWN = 4096  # tables of which it is known that they were asked for, and how large they are if they did not fit
reads = Counter(
    "aimass_hot_table_reads", "Tables that queries read: hit, loaded or cold.", ["found"], registry=REGISTRY
)
_COUNTS = {found: reads.labels(found) for found in ("hit", "loaded", "cold")}


class HotTables:
    """All of them in this process of the service."""

    def __init__(self, most: int) -> None:
        """`most`: bytes of tables in memory; 0: every query reads files."""
        self._most, self._seats, self._count = most, dict[str, Seat](), itertools.count(1)
        self._asked = OrderedDict[tuple[str, str], int]()

    @contextlib.asynccontextmanager
    async def turn(self, tenant: str, wanted: Mapping[str, Wanted], pinned: bool | None) -> AsyncIterator[Turn | None]:
        """A use of the process of a tenant; None where the tables are to be read from files.

        `pinned`: an earlier page of the same query was, or was not, from memory, so this one is as well.
        """
        seat = await self._seat(tenant, wanted, pinned) if self._most and pinned is not False and wanted else None
        if seat is None and pinned:
            async with lone() as other:
                yield Turn(other, wanted, ANY, self._most, False)
            return
        if seat is None:
            _COUNTS["cold"].inc(len(wanted))
            yield None
            return
        async with seat.turn:
            if not seat.child.pid:
                await seat.end()
            keys = {one.key for one in wanted.values()}
            missing = [one for one in wanted.values() if not seat.holds(one)]
            await self._make_room(seat, self._bytes_of(tenant, missing), keys)
            others = sum(other.bytes for other in self._seats.values() if other is not seat)
            turn = Turn(seat, wanted, self._most - others, self._most, bool(pinned))
            try:
                yield turn
            finally:
                await self._rest(tenant, seat, keys)
                self._note(tenant, missing, turn.needed)
        if turn.hot:
            _COUNTS["hit"].inc(len(turn.held))
            _COUNTS["loaded"].inc(len(wanted) - len(turn.held))
        else:
            _COUNTS["cold"].inc(len(wanted))

    async def drop(self, scope: Scope, data_set: str) -> None:
        """Forgets the tables of a data set."""
        if seat := self._seats.get(scope.tenant):
            seat.dropped.add(mark_of(scope, data_set))
            if not seat.turn.locked():  # else it is done when the query has ended
                async with seat.turn:
                    await self._tidy(seat)

    async def forget(self, tenants: Sequence[str]) -> None:
        """Ends the processes of tenants, in the middle of a query as well."""
        for tenant in tenants:
            if seat := self._seats.pop(tenant, None):
                await seat.end()

    async def watch(self) -> None:
        """The task that ends processes that nobody asks."""
        loop = asyncio.get_running_loop()
        hide = [
            gauge("aimass_hot_table_bytes", "Memory that tables of queries take.", (), self._bytes),
            gauge("aimass_hot_table_limit_bytes", "The most that they may take.", (), lambda: [((), self._most)]),
        ]
        try:
            while True:
                await asyncio.sleep(_LOOK)
                for tenant, seat in list(self._seats.items()):
                    if loop.time() - seat.last > _IDLE and not seat.turn.locked():
                        await self.forget([tenant])
        finally:
            for each in hide:
                each()

    async def close(self) -> None:
        """Ends all."""
        await self.forget(list(self._seats))

    async def _seat(self, tenant: str, wanted: Mapping[str, Wanted], pinned: bool | None) -> Seat | None:
        """The process of a tenant, if the query is worth it and need not wait."""
        often = all((tenant, one.key) in self._asked for one in wanted.values())
        self._note(tenant, wanted.values())
        if not (often or pinned) or self._bytes_of(tenant, wanted.values()) > self._most:
            return None
        seat = self._seats.get(tenant)
        if seat is None:
            while len(self._seats) >= _SEATS:  # another may take the seat that is left meanwhile
                idle = [one for one, other in self._seats.items() if not other.turn.locked()]
                if not idle:
                    return None
                await self.forget([min(idle, key=lambda one: self._seats[one].last)])
            seat = self._seats.setdefault(tenant, Seat())
        return None if seat.turn.locked() and not pinned else seat

    async def _make_room(self, seat: Seat, needed: int, keys: Iterable[str]) -> None:
        """Drops the tables that were used longest ago until so many bytes fit, but those of this query."""
        found = [
            (other.used.get(key, 0), key, size, other)
            for other in self._seats.values()
            if other is seat or not other.turn.locked()
            for key, (_, size) in other.tables.items()
            if other is not seat or key not in keys
        ]
        free = self._most - sum(other.bytes for other in self._seats.values())
        for _, key, size, other in sorted(found, key=lambda one: one[0]):
            if free >= needed:
                return
            if other is seat:
                await self._drop(other, [key])
            elif not other.turn.locked():  # two that waited for each other's turn would wait for ever
                async with other.turn:
                    await self._drop(other, [key])
            else:
                continue
            free += size

    async def _drop(self, seat: Seat, keys: Sequence[str]) -> None:
        """Forgets tables of a process that has its turn; one that holds no other ends, and its memory is free."""
        if not keys:
            return
        if set(keys) >= seat.tables.keys():
            await seat.end()
        else:
            await look(seat, keys)

    async def _rest(self, tenant: str, seat: Seat, keys: Iterable[str]) -> None:
        """After a query: notes its use; ends a process that is gone from the list, or holds much beside its tables."""
        seat.last = asyncio.get_running_loop().time()
        seat.used |= dict.fromkeys(keys, next(self._count))
        seat.used = {key: seat.used[key] for key in seat.used if key in seat.tables}
        if not seat.child.pid:
            await seat.end()  # what broke the query has ended it
        await self._tidy(seat)
        await self._make_room(seat, 0, ())  # two may have loaded at once
        beside = Spent().look(seat.child.pid) - seat.bytes if seat.child.pid else 0
        if self._seats.get(tenant) is not seat or beside > _BESIDE:
            await seat.end()

    async def _tidy(self, seat: Seat) -> None:
        """Forgets the tables of data sets that were dropped."""
        marks, seat.dropped = seat.dropped, set()
        await self._drop(seat, [key for key in seat.tables if key.partition("_")[0] in marks])

    def _bytes(self) -> Iterable[tuple[Sequence[str], float]]:
        yield (), float(sum(seat.bytes for seat in tuple(self._seats.values())))

    def _bytes_of(self, tenant: str, wanted: Iterable[Wanted]) -> int:
        """What tables take: what is known of them, or at least."""
        return sum(max(one.bytes, self._asked.get((tenant, one.key), 0)) for one in wanted)

    def _note(self, tenant: str, wanted: Collection[Wanted], needed: int = 0) -> None:
        """Tables were asked for, and need so many bytes together if they did not fit."""
        for one in wanted:
            name = (tenant, one.key)
            self._asked[name] = max(needed // len(wanted), self._asked.get(name, 0))
            self._asked.move_to_end(name)
        while len(self._asked) > _KNOWN:
            self._asked.popitem(last=False)
