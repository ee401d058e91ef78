"""Sizes that rows do not say yet, because what they name was kept before sizes were noted: asked of its store once."""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import ColumnElement, Table, select, update
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.db import Database, within
from services.kit.errors import Code, Failure

_PAGE = 500  # rows that one transaction writes
# What was lost or damaged has no size, and nobody else's bytes wait for it.
_GONE = (Code.NOT_FOUND, Code.DIGEST_MISMATCH)
# Bytes of what a tenant keeps under a name.
Size = Callable[[str, str], Awaitable[int]]


class Sizes:
    """The column `size` of a table of things of all tenants."""

    def __init__(self, db: Database, table: Table, name: ColumnElement[str], *which: ColumnElement[bool]) -> None:
        """`name` is what the store knows a row by; `which` says what rows count, all if nothing does."""
        self._db, self._table, self._name, self._which = db, table, name, which

    async def fill(self, size: Size) -> None:
        """Notes every size that is missing; raises what `size` does but for what is lost or damaged."""
        while missing := await self._missing():
            found = [(scope, name, await _of(size, scope.tenant, name)) for scope, name in missing]
            await self._note(found)

    async def _missing(self) -> list[tuple[Scope, str]]:
        query = select(self._table.c.tenant, self._table.c.project, self._name.label("name"))
        query = query.where(self._table.c.size.is_(None), *self._which).distinct().limit(_PAGE)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(Scope(row.tenant, row.project), row.name) for row in rows]

    async def _note(self, found: list[tuple[Scope, str, int]]) -> None:
        def work(connection: Connection) -> None:
            for scope, name, size in found:
                here: Any = within(self._table, scope) & (self._name == name)
                connection.execute(update(self._table).where(here).values(size=size))

        await self._db.run(work)


async def _of(size: Size, tenant: str, name: str) -> int:
    try:
        return await size(tenant, name)
    except Failure as failure:
        if failure.code not in _GONE:
            raise
        return 0
