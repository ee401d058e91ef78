"""Quotas and prices. Rows are never deleted, generations only grow: every gateway holds all of them."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, Table, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from services.gateway.database import schema
from services.gateway.ledger import domain
from services.gateway.ledger.domain import PriceList, Quota, Standing
from services.gateway.ledger.store import balances
from services.gateway.ledger.store.tables import (
    as_prices,
    as_quota,
    balance,
    price_list,
    price_row,
    quota,
    quota_row,
)
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, database_clock, within
from services.kit.errors import AlreadyExists, NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.statements import revision_of

_REVISION = revision_of(quota)
Clock = Callable[[Connection], datetime]
Tell = Callable[[Quota, datetime], Event]


class Quotas:
    """The only SQL on quotas and prices. `service` decides on which tenants a caller may work."""

    def __init__(self, db: Database, clock: Clock = database_clock) -> None:
        self._db, self._clock = db, clock
        self.near = db.near
        self.recall = db.recall

    async def everything(self) -> list[Quota]:
        """All quotas, also those that are deleted: what a gateway holds in memory."""
        with tenancy.everybody():
            return await self._db.read(lambda c: [as_quota(row) for row in c.execute(select(quota))])

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever a quota has changed."""
        with tenancy.everybody():
            return await self._db.read(_REVISION)

    async def create(self, made: Quota, event: Event, once: Once | None) -> Standing:
        """Raises already_exists, also for a deleted one."""

        def work(connection: Connection) -> Standing:
            if connection.execute(select(quota).where(_at(quota, made.tenant, made.quota))).first():
                raise AlreadyExists(f"the quota {made.quota} exists already, or is deleted")
            connection.execute(insert(quota).values(quota_row(made)))
            schema.outbox.add(connection, [event])
            return self._standing(connection, made)

        with tenancy.everybody():
            return await self._db.run(work, once)

    async def get(self, tenant: str, name: str) -> Standing:
        """Raises not_found; a deleted one is found."""
        with tenancy.everybody():
            return await self._db.read(lambda connection: self._standing(connection, _find(connection, tenant, name)))

    async def add_prices(
        self, make: Callable[[int], PriceList], tell: Callable[[PriceList], Event], once: Once | None
    ) -> PriceList:
        """Keeps a list of prices with the next version."""

        def work(connection: Connection) -> PriceList:
            last = connection.execute(select(func.max(price_list.c.version))).scalar()
            made = make((last or 0) + 1)
            connection.execute(insert(price_list).values(price_row(made)))
            schema.outbox.add(connection, [tell(made)])
            return made

        with tenancy.everybody():
            return await self._db.run(work, once)

    async def prices(self, page_size: int, page_token: str) -> Page[PriceList]:
        """Lists of prices by version."""
        with tenancy.everybody():
            return await listed(self._db, select(price_list), price_list.c.version, as_prices, page_size, page_token)

    async def list(self, tenant: str, after: str, limit: int, deleted: bool) -> list[Standing]:
        """By name."""
        here = within(quota, Scope(tenant)) & (quota.c.quota > after)
        if not deleted:
            here &= quota.c.delete_time.is_(None)
        query = select(quota).where(here).order_by(quota.c.quota).limit(limit)

        def work(connection: Connection) -> list[Standing]:
            return [self._standing(connection, as_quota(row)) for row in connection.execute(query).all()]

        with tenancy.everybody():
            return await self._db.read(work)

    async def change(self, tenant: str, name: str, change: Callable[[Quota], Quota], tell: Tell) -> Standing:
        """Raises not_found, and what `change` raises; says nothing of one that stays as it is."""

        def work(connection: Connection) -> Standing:
            old = _find(connection, tenant, name)
            if (new := change(old)) is not old:
                connection.execute(update(quota).where(_at(quota, tenant, name)).values(quota_row(new)))
                if new.delete_time != old.delete_time:  # one that is away is not added to: it is summed up anew
                    connection.execute(delete(balance).where(_at(balance, tenant, name)))
                schema.outbox.add(connection, [tell(new, new.update_time)])
            return self._standing(connection, new)

        with tenancy.everybody():
            return await self._db.run(work)

    def _standing(self, connection: Connection, found: Quota) -> Standing:
        begun = domain.start(found.period, self._clock(connection))
        return Standing(found, balances.of(connection, found, begun, keep=False))


def _at(table: Table, tenant: str, name: str) -> ColumnElement[bool]:
    return within(table, Scope(tenant)) & (table.c.quota == name)


def _find(connection: Connection, tenant: str, name: str) -> Quota:
    row = connection.execute(select(quota).where(_at(quota, tenant, name))).first()
    if row is None:
        raise NotFound(f"there is no quota {name}")
    return as_quota(row)
