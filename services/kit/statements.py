"""Statements that are made once: to make one costs more than to send it."""

from typing import Any

from sqlalchemy import Select, Table, and_, bindparam, select
from sqlalchemy.engine import Connection

from services.kit.db import upsert


def one(table: Table, *names: str) -> Select[Any]:
    """Asks a scoped table by its scope and further columns, which are given when it is asked."""
    return select(table).where(and_(*(table.c[name] == bindparam(name) for name in ("tenant", "project", *names))))


class Claim:
    """Adds a row unless there is one with its key; returns the key of a new one."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: dict[str, Any] = {}

    def first(self, connection: Connection, row: dict[str, Any]) -> bool:
        """Whether the row was not there."""
        kind = connection.dialect.name
        if kind not in self._made:
            new = upsert(connection, self._table).on_conflict_do_nothing()
            self._made[kind] = new.returning(*self._table.primary_key)
        return connection.execute(self._made[kind], row).first() is not None
