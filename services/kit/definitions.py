"""Definitions with names, as rows of a table: made once, changed under their etags, kept when they are deleted."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Table, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.kit.auth import Scope
from services.kit.db import Database, Once, within
from services.kit.errors import AlreadyExists, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

T = TypeVar("T")


class Definitions(Generic[T]):
    """A table of `T`, each with a name in the column that is called like the table."""

    def __init__(
        self, db: Database, table: Table, to_row: Callable[[T], dict[str, Any]], of_row: Callable[[dict[str, Any]], T]
    ) -> None:
        """`to_row` makes the columns of a row without tenant and project, `of_row` the definition of those."""
        self._db, self._table, self._to_row, self._of_row = db, table, to_row, of_row
        self._name, self._what = table.c[table.name], table.name.replace("_", " ")
        self.recall = db.recall

    async def create(self, scope: Scope, made: T, once: Once | None) -> T:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> T:
            self.add(connection, scope, made)
            return made

        return await self._db.run(work, once)

    def add(self, connection: Connection, scope: Scope, made: T) -> None:
        """The same in the caller's transaction."""
        row = self._to_row(made)
        if connection.execute(select(self._name).where(self._is(scope, row[self._name.name]))).first():
            raise AlreadyExists(f"the {self._what} {row[self._name.name]} exists already")
        connection.execute(insert(self._table).values({**scope._asdict(), **row}))

    async def get(self, scope: Scope, name: str) -> T:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: self.existing(connection, scope, name))

    def existing(self, connection: Connection, scope: Scope, name: str, deleted: bool = False) -> T:
        """The same in the caller's transaction; a deleted one as well where the caller says so."""
        found = connection.execute(select(self._table).where(self._is(scope, name))).first()
        if found is None or (found.delete_time and not deleted):
            raise NotFound(f"there is no {self._what} {name}")
        return self._read(found)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[T]:
        """By name."""
        query = select(self._table).where(within(self._table, scope))
        if not show_deleted:
            query = query.where(self._table.c.delete_time.is_(None))
        return await listed(self._db, query, self._name, self._read, page_size, page_token)

    async def change(self, scope: Scope, name: str, decide: Callable[[T], T]) -> T:
        """Loads, also a deleted one, decides and saves in one transaction. Raises not_found."""

        def work(connection: Connection) -> T:
            after = decide(self.existing(connection, scope, name, deleted=True))
            self.save(connection, scope, after)
            return after

        return await self._db.run(work)

    def save(self, connection: Connection, scope: Scope, after: T) -> None:
        """Puts a definition in the place of what it was, in the caller's transaction."""
        row = self._to_row(after)
        connection.execute(update(self._table).where(self._is(scope, row[self._name.name])).values(row))

    def _is(self, scope: Scope, name: str) -> ColumnElement[bool]:
        return within(self._table, scope) & (self._name == name)

    def _read(self, row: Row[Any]) -> T:
        return self._of_row({name: value for name, value in row._mapping.items() if name not in Scope._fields})
