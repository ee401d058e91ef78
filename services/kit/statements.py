"""Statements that are made once: to make one costs more than to send it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, Table, and_, bindparam, func, select
from sqlalchemy.engine import Connection

from services.kit.db import upsert


def one(table: Table, *names: str) -> Select[Any]:
    """Asks a scoped table by its scope and further columns, which are given when it is asked."""
    return select(table).where(and_(*(table.c[name] == bindparam(name) for name in ("tenant", "project", *names))))


def revision_of(*tables: Table) -> Callable[[Connection], tuple[int, ...]]:
    """Reads the number of rows of each table, and how often they were changed, by their generations."""
    numbers = []
    for table in tables:
        changes = select(func.coalesce(func.sum(table.c.generation - 1), 0))
        numbers += [select(func.count()).select_from(table).scalar_subquery(), changes.scalar_subquery()]
    query = select(*numbers)
    return lambda connection: tuple(int(value) for value in connection.execute(query).one())


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


class _Written(NamedTuple):
    """A statement as a driver takes it: its text, names of values or none where they have places, what is converted."""

    text: str
    names: Sequence[str]
    convert: dict[int, Callable[[Any], Any]]


class Many:
    """Adds many rows, each unless there is one with its key: of a row nothing is asked but what the driver does."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: dict[str, _Written] = {}

    def add(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows have their values in the order of the table's columns; those can be hashed."""
        if not rows:
            return
        kind = connection.dialect.name
        text, names, convert = self._made.get(kind) or self._made.setdefault(kind, self._make(connection))
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, process in convert.items():
            known = {value: process(value) for value in set(columns[place])}
            columns[place] = [known[value] for value in columns[place]]
        given: list[Any] = list(zip(*columns, strict=True))
        connection.exec_driver_sql(text, [dict(zip(names, row, strict=True)) for row in given] if names else given)

    def _make(self, connection: Connection) -> _Written:
        dialect, columns = connection.dialect, list(self._table.columns)
        new = upsert(connection, self._table).values({column.name: bindparam(column.name) for column in columns})
        made = new.on_conflict_do_nothing().compile(dialect=dialect)
        names = [column.name for column in columns]
        assert not made.positional or list(made.positiontup) == names
        processes = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns]
        return _Written(
            str(made), () if made.positional else names, {n: found for n, found in enumerate(processes) if found}
        )
