"""Who does what only one process may do: leases with fences in a service's database, by the database's clock.

A process that stands still for longer than its lease loses it and does not know. So what it holds is true only until
its own clock says that the lease may be over, and a write that must not come late carries the fence (`Tenure.check`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from sqlalchemy import BigInteger, Column, MetaData, String, Table, bindparam, case, delete, func, select, update
from sqlalchemy.engine import Connection

from services.kit.db import Database, UtcDateTime, database_clock, upsert
from services.kit.errors import Code, Failure

log = logging.getLogger(__name__)
SECONDS = 5.0  # that a lease lasts unless it is renewed
_LOOK = 2.0  # seconds between looks for what nobody does any more
_PROCESS = "process/"  # what every process that uses the database holds
_MARGIN = 0.5  # seconds before the end from which it is not relied on


class Leases:
    """The table: a name, who has it, how often it has changed hands, until when."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "lease",
            metadata,
            Column("name", String(100), primary_key=True),
            Column("owner", String(100), nullable=False),
            Column("fence", BigInteger, nullable=False),
            Column("expire_time", UtcDateTime, nullable=False),
        )
        # Made once, and one for all names; others' are locked as well, in the order in which the rest is taken then.
        table, wanted = self.table, self.table.c.name.in_(bindparam("wanted", expanding=True))
        line = select(table.c.name).where(wanted).order_by(table.c.name).with_for_update().cte("line")
        held = update(table).where(table.c.name.in_(select(line.c.name)) & (table.c.owner == bindparam("whose")))
        self._renew = held.values(expire_time=bindparam("until")).returning(table.c.name, table.c.fence)

    def take(
        self, connection: Connection, names: Iterable[str], owner: str, seconds: float, seize: bool = False
    ) -> dict[str, int]:
        """Takes names that nobody has or whose time is over, and renews the owner's; returns those with their fences.

        Whoever had a name last may renew it late: its fence stays, because nobody else has had it since. `seize` takes
        also what another process has, which goes on until it hears of it or its lease would be over.
        """
        table, now, mine = self.table, database_clock(connection), self.table.c.owner == owner
        until, wanted = now + timedelta(seconds=seconds), sorted(names)  # two that take several do so in one order
        renewed = connection.execute(self._renew, {"whose": owner, "wanted": wanted, "until": until})
        taken = {str(row.name): int(row.fence) for row in renewed}
        for name in [name for name in wanted if name not in taken]:
            change = upsert(connection, table).values(name=name, owner=owner, fence=1, expire_time=until)
            fence = case((mine, table.c.fence), else_=table.c.fence + 1)
            change = change.on_conflict_do_update(
                index_elements=["name"],
                set_={"owner": owner, "fence": fence, "expire_time": until},
                where=None if seize else mine | (table.c.expire_time <= now),
            )
            if (fence_now := connection.execute(change.returning(table.c.fence)).scalar()) is not None:
                taken[name] = fence_now
        return taken

    def free(self, connection: Connection, names: Iterable[str], owner: str) -> None:
        """Gives names back; their fences go on counting."""
        here = self.table.c.name.in_(list(names)) & (self.table.c.owner == owner)
        connection.execute(update(self.table).where(here).values(owner="", expire_time=database_clock(connection)))

    def forget(self, connection: Connection, name: str, owner: str) -> None:
        """Gives a name back that will never be taken again."""
        connection.execute(delete(self.table).where((self.table.c.name == name) & (self.table.c.owner == owner)))

    def company(self, connection: Connection, owner: str) -> int:
        """How many processes live beside one; forgets those that died long ago."""
        table, now = self.table, database_clock(connection)
        beside = table.c.name.startswith(_PROCESS) & (table.c.owner != owner)
        connection.execute(delete(table).where(beside & (table.c.expire_time < now - timedelta(hours=1))))
        living = select(func.count()).select_from(table).where(beside & (table.c.expire_time > now))
        return int(connection.execute(living).scalar_one())

    def check(self, connection: Connection, name: str, fence: int) -> None:
        """Raises fence_stale when a name has changed hands since a fence was given; it stays until the commit."""
        # Nobody who takes reads in a snapshot, so the database alone would see no conflict.
        query = select(self.table.c.fence).where(self.table.c.name == name).with_for_update(read=True)
        if connection.execute(query).scalar() != fence:
            raise Failure(Code.FENCE_STALE, f"another process has the lease of {name}")


class Tenure:
    """What one process holds, renewed while it lives. A database that no other process can open needs no leases."""

    def __init__(self, leases: Leases, seconds: float = SECONDS) -> None:
        self._leases, self._seconds = leases, seconds
        self._db: Database | None = None
        self._owner = ""
        self._held: dict[str, tuple[int, float]] = {}  # fence, and until when by this process's clock
        # Around what is asked of the database and what is remembered of it: a renewal must not bring back what ended.
        self._turn = asyncio.Lock()
        # Whether other processes use the database at this time; nobody knows before the first look.
        self.in_company = True
        # Told of a name that is in other hands now.
        self.on_loss: list[Callable[[str], Awaitable[None]]] = []

    def bind(self, db: Database, owner: str) -> None:
        """Says where leases are kept, and who this process is: a name that never comes again."""
        self._db, self._owner = db, owner
        self._held.clear()
        self._turn = asyncio.Lock()  # a service that is started again in one process has another event loop

    @property
    def alone(self) -> bool:
        """Whether no other process can use the database."""
        return self._db is None or self._db.near

    def names(self) -> list[str]:
        """What is held, as far as this process knows."""
        return list(self._held)

    async def take(self, names: Iterable[str]) -> set[str]:
        """Those of the names that are this process's now; one that is held already stays. Raises unavailable."""
        wanted = set(names)
        if self._db is None or self.alone or not wanted:
            return wanted
        async with self._turn:
            return await self._take(self._db, wanted)

    async def _take(self, db: Database, wanted: set[str]) -> set[str]:
        until = time.monotonic() + self._seconds - _MARGIN
        taken = await db.write(lambda c: self._leases.take(c, wanted, self._owner, self._seconds))
        self._held |= {name: (fence, until) for name, fence in taken.items()}
        for name in wanted - taken.keys():
            self._held.pop(name, None)
        return set(taken)

    def holds(self, name: str) -> bool:
        """Whether nobody else can have it at this moment."""
        return self.alone or (name in self._held and time.monotonic() < self._held[name][1])

    def check(self, connection: Connection, name: str) -> None:
        """In the transaction of a write that must not come late. Raises fence_stale."""
        if not self.alone:
            self._leases.check(connection, name, self._held[name][0] if name in self._held else 0)

    async def end(self, name: str) -> None:
        """Gives back what will never be taken again; without the database its time simply runs out."""
        async with self._turn:
            if self._held.pop(name, None) and self._db:
                try:
                    await self._db.write(lambda c: self._leases.forget(c, name, self._owner))
                except Failure as failure:
                    log.warning("the lease of %s is not released, and will expire: %s", name, failure)

    async def run(self) -> None:
        """Renews for ever what is held, and looks who else is there."""
        while not self.alone:
            await self._renew()
            await asyncio.sleep(self._seconds / 4)

    async def watch(self, resume: Callable[[], Awaitable[None]]) -> None:
        """Looks, for ever, for work that a process left behind, itself included. One alone resumes at its start."""
        while not self.alone:
            await asyncio.sleep(_LOOK)
            try:
                await resume()
            except Failure as failure:
                log.warning("unfinished work cannot be looked for: %s", failure)

    def leaves(self, failure: Failure) -> bool:
        """Whether work that failed is not over: somebody else does it now, or it goes on when what is away is back."""
        return not self.alone and failure.code in (Code.FENCE_STALE, Code.UNAVAILABLE)

    async def close(self) -> None:
        """Gives everything back, once the work is stopped."""
        held, self._held = list(self._held), {}
        self.on_loss.clear()  # the schema outlives the services of this process
        if held and self._db:
            try:
                await self._db.write(lambda c: self._leases.free(c, held, self._owner))
            except Failure as failure:
                log.warning("leases are not released, and will expire: %s", failure)

    async def _renew(self) -> None:
        if (db := self._db) is None:
            return
        try:
            async with self._turn:
                before = {f"{_PROCESS}{self._owner}", *self._held}
                kept = await self._take(db, before)
            self.in_company = bool(await db.write(lambda c: self._leases.company(c, self._owner)))
        except Failure as failure:
            log.warning("leases are not renewed: %s", failure)
            return
        for name in before - kept:
            log.warning("the lease of %s is lost", name)
            for hear in self.on_loss:
                await hear(name)
