"""Where landings are kept, and how far each source has landed."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ColumnElement, Index, Integer, String, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.warehouse.domain import Landing, Position
from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.errors import Code, Failure

_landing = scoped(
    "landing",
    schema.metadata,
    Column("source", String(63), primary_key=True),
    # Of the landed data set.
    Column("version", Integer, primary_key=True),
    Column("run", String(64), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("shape", JSON, nullable=False),
    Index("landing_run", "tenant", "project", "source", "run", unique=True),
)
_position = scoped(
    "landing_position",
    schema.metadata,
    Column("source", String(63), primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("place", String(71), nullable=False),
    Column("cursor", JSON, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("generation", Integer, nullable=False),
)


class WarehouseStore:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def position(self, scope: Scope, source: str) -> Position:
        """How far a source has landed; the start if it never has."""
        return await self._db.read(lambda connection: _found(connection, scope, source) or Position())

    def landed(self, connection: Connection, scope: Scope, before: Position, after: Position, landing: Landing) -> None:
        """Stores a landing, in the transaction of its version. Raises conflict when another came in between."""
        self._move(connection, scope, landing.source, before, after)
        kept = {**vars(landing), "shape": [list(pair) for pair in landing.shape]}
        connection.execute(insert(_landing).values(**scope._asdict(), **kept))

    async def moved(self, scope: Scope, source: str, before: Position, after: Position) -> None:
        """Stores that a source was read and had nothing new. Raises conflict."""
        await self._db.run(lambda connection: self._move(connection, scope, source, before, after))

    @staticmethod
    def _move(connection: Connection, scope: Scope, source: str, before: Position, after: Position) -> None:
        found = _found(connection, scope, source, lock=True)
        if (found or Position()).generation != before.generation:
            raise Failure(Code.CONFLICT, f"{source} has landed in the meantime")
        values = {**vars(after), "generation": before.generation + 1}
        if found is None:
            connection.execute(insert(_position).values(**scope._asdict(), source=source, **values))
        else:
            connection.execute(update(_position).where(_of(scope, source)).values(**values))

    async def by_run(self, scope: Scope, source: str, run: str) -> Landing | None:
        """What a run has landed, if it has."""
        query = select(_landing).where(within(_landing, scope) & (_landing.c.source == source))
        row = await self._db.read(lambda connection: connection.execute(query.where(_landing.c.run == run)).first())
        return _read(row) if row else None

    async def between(self, scope: Scope, source: str, after: int, upto: int) -> tuple[Landing, ...]:
        """The landings with records above a number, up to another."""
        here = (_landing.c.last > after) & (_landing.c.first <= upto)
        return await self._db.read(lambda connection: _listed(connection, scope, source, here))

    def all(self, connection: Connection, scope: Scope, source: str) -> tuple[Landing, ...]:
        """All landings of a source in their order, in the caller's transaction."""
        return _listed(connection, scope, source, _landing.c.version > 0)


def _listed(connection: Connection, scope: Scope, source: str, here: ColumnElement[bool]) -> tuple[Landing, ...]:
    query = select(_landing).where(within(_landing, scope) & (_landing.c.source == source) & here)
    return tuple(map(_read, connection.execute(query.order_by(_landing.c.first))))


def _found(connection: Connection, scope: Scope, source: str, lock: bool = False) -> Position | None:
    query = select(_position).where(_of(scope, source))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Position(row.last, row.place, dict(row.cursor), row.time, row.generation) if row else None


def _of(scope: Scope, source: str) -> ColumnElement[bool]:
    return within(_position, scope) & (_position.c.source == source)


def _read(row: Row[Any]) -> Landing:
    shape = tuple((name, kind) for name, kind in row.shape)
    return Landing(row.source, row.version, row.run, row.first, row.last, row.time, shape)
