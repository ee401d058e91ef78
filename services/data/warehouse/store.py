"""Where landings are kept, and how far each source has landed."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ColumnElement, Index, Integer, String, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.warehouse.domain import Landing, Position, Shape, Wanted
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

    async def between(self, scope: Scope, source: str, after: int, upto: int) -> tuple[frozenset[str], Shape]:
        """The runs that landed records above a number, up to another, and how the columns of the last one were."""
        here = _landings(scope, source) & (_landing.c.last > after) & (_landing.c.first <= upto)

        def work(connection: Connection) -> tuple[frozenset[str], Shape]:
            runs = frozenset(connection.execute(select(_landing.c.run).where(here)).scalars())
            last = connection.execute(select(_landing).where(here).order_by(_landing.c.first.desc()).limit(1)).first()
            return runs, _read(last).shape if last else ()

        return await self._db.read(work)

    def ends(self, connection: Connection, scope: Scope, source: str, wanted: Wanted) -> tuple[Landing, ...]:
        """The first and the last of the landings that are wanted, in the caller's transaction; if none is, the first of
        all."""
        every = _landings(scope, source)
        here = every & (_landing.c.version >= wanted.first_version)
        if wanted.last_version:
            here &= _landing.c.version <= wanted.last_version
        if wanted.first_time:
            here &= _landing.c.time >= wanted.first_time
        if wanted.last_time:
            here &= _landing.c.time <= wanted.last_time
        orders = ((here, _landing.c.first), (here, _landing.c.first.desc()), (every, _landing.c.first))
        queries = (select(_landing).where(which).order_by(order).limit(1) for which, order in orders)
        first, last, other = (connection.execute(query).first() for query in queries)
        return tuple(_read(row) for row in ((first, last) if first and last else (other,)) if row)


def _landings(scope: Scope, source: str) -> ColumnElement[bool]:
    return within(_landing, scope) & (_landing.c.source == source)


def _found(connection: Connection, scope: Scope, source: str, lock: bool = False) -> Position | None:
    query = select(_position).where(_of(scope, source))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Position(row.last, row.place, dict(row.cursor), row.time, row.generation) if row else None


def _of(scope: Scope, source: str) -> ColumnElement[bool]:
    return within(_position, scope) & (_position.c.source == source)


def _read(row: Row[Any]) -> Landing:
    shape = tuple((name, kind) for name, kind in row.shape)
    return Landing(row.source, row.version, row.run, row.first, row.last, row.time, shape)
