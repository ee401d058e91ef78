"""Sums over the ledger."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, select, tuple_
from sqlalchemy.engine import Connection

from services.gateway.ledger.domain import GROUPS, Amounts, Period, Question, State, Sum
from services.gateway.ledger.store.tables import METERS, ledger
from services.kit import tenancy
from services.kit.db import Database

_LENGTH = {Period.DAY: 10, Period.MONTH: 7}  # of 2026-11-22


class Report:
    """Reads settled entries."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def sums(self, asked: Question, after: Sequence[str], limit: int) -> list[Sum]:
        """In the order of their keys, behind one."""

        def work(connection: Connection) -> list[Sum]:
            sub = _grouped(connection, asked)
            keys = [sub.c.period, *(sub.c[name] for name in GROUPS)]
            query = select(sub).order_by(*keys).limit(limit)
            if after:
                query = query.where(tuple_(*keys) > tuple_(*(literal(part) for part in after)))
            return [_sum(row) for row in connection.execute(query)]

        with tenancy.everybody():
            return await self._db.read(work)


def _grouped(connection: Connection, asked: Question) -> Any:
    lines = select(ledger, _period(connection, asked.period).label("period")).where(and_(*_where(asked))).subquery()
    keys: list[Any] = [lines.c.period]
    keys += [(lines.c[name] if name in asked.group_by else literal("")).label(name) for name in GROUPS]
    columns: list[Any] = []
    for meter in METERS:
        used = lines.c[f"used_{meter}"]
        columns.append(func.sum(used).label(meter))
        columns.append(func.sum(case((lines.c.estimated, used), else_=0)).label(f"estimated_{meter}"))
    # Where nothing was used there is no row of nothings, because there is always something to group by.
    groups = [lines.c.period, *(lines.c[name] for name in GROUPS if name in asked.group_by)]
    return select(*keys, *columns, func.count().label("entries")).group_by(*groups).subquery()


def _where(asked: Question) -> list[ColumnElement[bool]]:
    here = [ledger.c.tenant == asked.tenant, ledger.c.state == State.SETTLED.value]
    here += [ledger.c[name] == value for name in GROUPS if (value := getattr(asked, name))]
    if asked.start:
        here.append(ledger.c.create_time >= asked.start)
    if asked.end:
        here.append(ledger.c.create_time < asked.end)
    return here


def _period(connection: Connection, period: Period) -> ColumnElement[Any]:
    if period is Period.TOTAL:
        return literal("")
    length = _LENGTH[period]
    if connection.dialect.name == "sqlite":
        return func.substr(func.strftime("%Y-%m-%d", ledger.c.create_time), 1, length)
    return func.substr(func.to_char(func.timezone("UTC", ledger.c.create_time), "YYYY-MM-DD"), 1, length)


def _sum(row: Any) -> Sum:
    values = row._mapping
    used, estimated = (Amounts(*(int(values[f"{of}{meter}"]) for meter in METERS)) for of in ("", "estimated_"))
    return Sum((row.period, *(values[name] for name in GROUPS)), used, estimated, int(row.entries))
