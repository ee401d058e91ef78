"""The entries of the ledger: reserved, then settled or released, each exactly once."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.engine import Connection

from services.gateway.database import schema
from services.gateway.ledger import domain
from services.gateway.ledger.domain import NEVER, SERVING, Amounts, Balance, Claim, Entry, Quota, State
from services.gateway.ledger.store import balances
from services.gateway.ledger.store.tables import as_entry, entry_row, ledger
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, database_clock, within
from services.kit.errors import Failure

log = logging.getLogger(__name__)
_NOTHING = Amounts()
_PART = 8  # a reservation takes at most so much of what is left, so that others have something to take
_ONCE = 500  # entries that one transaction charges
Tell = Callable[[Entry], Event]
Clock = Callable[[Connection], datetime]


_LOOK = 10.0  # seconds between looks for entries whose holder has gone


class Entries:
    """The only SQL on the ledger's entries. They are of many tenants at once: the installation's own work."""

    def __init__(self, db: Database, tell: Tell, clock: Clock = database_clock) -> None:
        """`tell` makes the event of an entry that was settled."""
        self._db, self._tell, self._clock = db, tell, clock
        self.near = db.near

    async def reserve(self, claims: Sequence[Claim]) -> list[Entry | Failure]:
        """An entry for each claim, with as much as could be reserved; quota_exceeded for one that has no room.

        A claim that was made before has its entry already. Raises unavailable.
        """

        def work(connection: Connection) -> list[Entry | Failure]:
            now = self._clock(connection)
            return [self._reserve(connection, claim, now) for claim in claims]

        with tenancy.everybody():
            return await self._db.run(work)

    def _reserve(self, connection: Connection, claim: Claim, now: datetime) -> Entry | Failure:
        wanted, prices = claim.entry, balances.prices_at(connection, now)
        if known := connection.execute(_one(wanted)).first():
            return as_entry(known)
        rooms = _rooms(connection, Scope(wanted.tenant, wanted.project), wanted.principal, now, keep=True)
        least = domain.priced(claim.least, wanted.kind, prices)
        if (refusal := _refusal(rooms, least, now)) is not None:
            return refusal
        granted = _granted(claim, rooms, prices)
        until = now + timedelta(seconds=claim.seconds)
        made = replace(wanted, reserved=granted, create_time=now, expire_time=until, prices=_version(prices))
        connection.execute(insert(ledger).values(entry_row(made)))
        balances.move(connection, made, granted, _NOTHING)
        return made

    async def room(self, scope: Scope, kind: str, least: Amounts) -> None:
        """Raises quota_exceeded where a project or its tenant has not so much left, unavailable; reserves nothing."""

        def work(connection: Connection) -> Failure | None:
            now = self._clock(connection)
            cost = domain.priced(least, kind, balances.prices_at(connection, now))
            return _refusal(_rooms(connection, scope, "", now, keep=False), cost, now)

        with tenancy.everybody():
            if (refusal := await self._db.read(work)) is not None:
                raise refusal

    async def settle(
        self, used: Iterable[tuple[Entry, Amounts]], tallies: Iterable[Entry] = (), once: Once | None = None
    ) -> list[Entry]:
        """Charges what was used of reserved entries and gives back the rest; adds entries that were not reserved.

        An entry that is no longer reserved stays as it is: it has been charged in full. Returns what was charged.
        """
        published, more = list(used), list(tallies)

        def work(connection: Connection) -> list[Entry]:
            now = self._clock(connection)
            done = [found for entry, amounts in published if (found := self._settle(connection, entry, amounts, now))]
            return done + [found for entry in more if (found := self._add(connection, entry, now))]

        with tenancy.everybody():
            return await self._db.run(work, once)

    def _settle(
        self, connection: Connection, entry: Entry, used: Amounts, now: datetime, estimated: bool = False
    ) -> Entry | None:
        row = connection.execute(_one(entry).with_for_update()).first()
        if row is None or (known := as_entry(row)).state is not State.RESERVED:
            return None
        return self._charge(connection, known, used, now, estimated)

    def _charge(
        self, connection: Connection, known: Entry, used: Amounts, now: datetime, estimated: bool = False
    ) -> Entry | None:
        cost = domain.priced(used, known.kind, balances.prices_of(connection, known.prices))
        state = State.SETTLED if any(used) else State.RELEASED
        settled = replace(known, state=state, used=cost, estimated=estimated, settle_time=now, expire_time=None)
        self._put(connection, settled)
        held = known.reserved if known.state is State.RESERVED else _NOTHING
        balances.move(connection, known, _less(held), cost)
        return settled if state is State.SETTLED else None

    def _put(self, connection: Connection, entry: Entry) -> None:
        place = within(ledger, Scope(entry.tenant, entry.project)) & (ledger.c.entry == entry.entry)
        connection.execute(update(ledger).where(place).values(entry_row(entry)))
        if entry.state is State.SETTLED:
            schema.outbox.add(connection, [self._tell(entry)])

    def _add(self, connection: Connection, entry: Entry, now: datetime) -> Entry | None:
        """An entry of what was used without a reservation, now or when it says; one that is there already stays."""
        if connection.execute(_one(entry)).first():
            return None
        time = min(entry.create_time, now) if entry.create_time != NEVER else now
        prices = balances.prices_at(connection, time)
        used = domain.priced(entry.used, entry.kind, prices)
        state = State.SETTLED if any(used) else State.RELEASED
        made = replace(entry, state=state, used=used, create_time=time, settle_time=now, prices=_version(prices))
        connection.execute(insert(ledger).values(entry_row(made)))
        balances.move(connection, made, _NOTHING, used)
        if state is State.SETTLED:
            schema.outbox.add(connection, [self._tell(made)])
        return made

    async def bind(self, entry: Entry, reference: str, seconds: float) -> None:
        """Says what a reservation is for. One that is there already, or has ended, makes this one needless."""

        def work(connection: Connection) -> None:
            if connection.execute(_referred(entry, reference)).first():
                self._settle(connection, entry, _NOTHING, self._clock(connection))
                return
            place = within(ledger, Scope(entry.tenant, entry.project)) & (ledger.c.entry == entry.entry)
            until = self._clock(connection) + timedelta(seconds=seconds)
            connection.execute(update(ledger).where(place).values(reference=reference, expire_time=until))

        with tenancy.everybody():
            await self._db.run(work)

    async def conclude(self, ended: Entry) -> None:
        """Charges what was used under a reference, once: the entry that was reserved for it, or one of its own."""

        def work(connection: Connection) -> None:
            now, row = self._clock(connection), connection.execute(_referred(ended, ended.reference)).first()
            if row is None:
                self._add(connection, ended, now)
            elif (known := as_entry(row)).state is State.RELEASED and any(ended.used):
                self._charge(connection, known, ended.used, now)  # its time was over before it had ended
            else:
                self._settle(connection, known, ended.used, now)

        with tenancy.everybody():
            await self._db.run(work)

    async def begin(self) -> None:
        """Ends what a process before left behind, before the first request."""
        await self.recover(self.near)

    async def watch(self) -> None:
        """Ends, for ever, what others leave behind."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                if ended := await self.recover(False):
                    log.warning("%d entries of the ledger were ended for holders that are gone", ended)
            except Failure as failure:
                log.info("entries of the ledger are not watched: %s", failure)

    async def recover(self, everything: bool) -> int:
        """Ends entries whose holder has gone: their lease is over, or no other process has the database (`everything`).

        What serving reserved is charged in full and marked estimated, all else released. Returns how many there were.
        """

        def work(connection: Connection) -> int:
            now = self._clock(connection)
            lost = ledger.c.expire_time <= now
            if everything:
                lost |= ledger.c.kind == SERVING
            query = select(ledger).where((ledger.c.state == State.RESERVED.value) & lost).limit(_ONCE)
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            for row in rows:
                entry = as_entry(row)
                used = entry.reserved if entry.kind == SERVING else _NOTHING
                self._settle(connection, entry, used, now, estimated=True)
            return len(rows)

        total = 0
        with tenancy.everybody():
            while ended := await self._db.run(work):
                total += ended
        return total


def _rooms(
    connection: Connection, scope: Scope, principal: str, now: datetime, keep: bool
) -> list[tuple[Quota, Balance]]:
    """The quotas that limit a use in a project, with what is spent of them."""
    quotas = balances.quotas_on(connection, scope.tenant, domain.subjects(scope.project, principal))
    return [(found, balances.of(connection, found, domain.start(found.period, now), keep)) for found in quotas]


def _refusal(rooms: Sequence[tuple[Quota, Balance]], least: Amounts, now: datetime) -> Failure | None:
    """Why so much cannot be had; None when it can."""
    for quota, balance in rooms:
        if least.of(quota.meter) > max(quota.amount - balance.spent - balance.reserved, 0):
            return domain.exceeded(quota, balance, least.of(quota.meter), now)
    return None


def _one(entry: Entry) -> Select[Any]:
    here = within(ledger, Scope(entry.tenant, entry.project)) & (ledger.c.entry == entry.entry)
    return select(ledger).where(here)


def _referred(entry: Entry, reference: str) -> Select[Any]:
    here = within(ledger, Scope(entry.tenant, entry.project)) & (ledger.c.kind == entry.kind)
    return select(ledger).where(here & (ledger.c.reference == reference)).with_for_update()


def _less(amounts: Amounts) -> Amounts:
    return Amounts(*(-amount for amount in amounts))


def _granted(claim: Claim, rooms: Sequence[tuple[Quota, Balance]], prices: domain.PriceList | None) -> Amounts:
    """As much as is wanted, and less of what is scarce until it is a part of what is left, or what is needed."""
    kind = claim.entry.kind
    granted = domain.priced(claim.entry.reserved, kind, prices)
    while scarce := {quota.meter for quota, balance in rooms if _too_much(granted, quota, balance)}:
        less = domain.smaller(granted, claim.least, domain.bought(scarce, kind, prices))
        if (less := domain.priced(less, kind, prices)) == granted:  # no more of it than is needed
            break
        granted = less
    return granted


def _too_much(wanted: Amounts, quota: Quota, balance: Balance) -> bool:
    return wanted.of(quota.meter) > max(quota.amount - balance.spent - balance.reserved, 0) // _PART


def _version(prices: domain.PriceList | None) -> int:
    return prices.version if prices else 0
