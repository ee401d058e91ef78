"""What is spent and reserved of quotas. Everything here runs in the transaction of what changes it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, select, update
from sqlalchemy.engine import Connection

from services.gateway.ledger import domain
from services.gateway.ledger.domain import TENANT, Amounts, Balance, Entry, PriceList, Quota, State
from services.gateway.ledger.store.tables import as_prices, as_quota, balance, ledger, price_list, quota
from services.kit.auth import Scope
from services.kit.db import within


def quotas_on(connection: Connection, tenant: str, subjects: Iterable[str]) -> list[Quota]:
    """The quotas that a use of these subjects counts on."""
    here = within(quota, Scope(tenant)) & quota.c.subject.in_(list(subjects)) & quota.c.delete_time.is_(None)
    return [as_quota(row) for row in connection.execute(select(quota).where(here).order_by(quota.c.quota))]


def prices_at(connection: Connection, at: datetime) -> PriceList | None:
    """The prices that hold at a time."""
    return domain.current((as_prices(row) for row in connection.execute(select(price_list))), at)


def prices_of(connection: Connection, version: int) -> PriceList | None:
    """The list that an entry was made with."""
    row = connection.execute(select(price_list).where(price_list.c.version == version)).first()
    return as_prices(row) if row else None


def of(connection: Connection, found: Quota, start: datetime, keep: bool) -> Balance:
    """A quota's balance; one that is not there is summed up, and kept if asked."""
    row = connection.execute(select(balance).where(_at(found, start))).first()
    if row:
        return Balance(start, row.spent, row.reserved)
    summed = _sum(connection, found, start)
    if keep:
        values = {**Scope(found.tenant)._asdict(), "quota": found.quota, **vars(summed)}
        connection.execute(insert(balance).values(values))
    return summed


def move(connection: Connection, entry: Entry, reserved: Amounts, spent: Amounts) -> None:
    """Adds an entry that is written to the balances of its quotas, in the period that it began in.

    One that is not there is summed up with it, and kept: nobody who only asks has to do that again and again.
    """
    for found in quotas_on(connection, entry.tenant, domain.subjects(entry.project, entry.principal)):
        more = reserved.of(found.meter), spent.of(found.meter)
        if any(more):
            start = domain.start(found.period, entry.create_time)
            added = {"reserved": balance.c.reserved + more[0], "spent": balance.c.spent + more[1]}
            if not connection.execute(update(balance).where(_at(found, start)).values(added)).rowcount:
                of(connection, found, start, keep=True)


def _at(found: Quota, start: datetime) -> ColumnElement[bool]:
    return within(balance, Scope(found.tenant)) & (balance.c.quota == found.quota) & (balance.c.start == start)


def _sum(connection: Connection, found: Quota, start: datetime) -> Balance:
    end = domain.end(found.period, start)
    here: list[Any] = [ledger.c.tenant == found.tenant, ledger.c.create_time >= start, *_of(found.subject)]
    if end:
        here.append(ledger.c.create_time < end)
    columns = []
    for state, what in ((State.SETTLED, "used"), (State.RESERVED, "reserved")):
        counted = case((ledger.c.state == state.value, ledger.c[f"{what}_{found.meter.value}"]), else_=0)
        columns.append(func.coalesce(func.sum(counted), 0))
    spent, reserved = connection.execute(select(*columns).where(and_(*here))).one()
    return Balance(start, int(spent), int(reserved))


def _of(subject: str) -> Sequence[ColumnElement[bool]]:
    if subject == TENANT:
        return ()
    kind, _, name = subject.partition(":")
    return (ledger.c.project == name if kind == "project" else ledger.c.principal == subject,)
