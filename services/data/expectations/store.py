"""Where expectations and what came of them are kept."""

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, Integer, String, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.expectations.domain import Check, Expectation, Expectations, Result
from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.listing import listed
from services.kit.pages import Page

_expectations = scoped(
    "expectations",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("items", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
_check = scoped(
    "expectation_check",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("check", String(36), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("run", String(64), nullable=False),
    Column("results", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)
_ITEMS, _RESULTS = TypeAdapter(tuple[Expectation, ...]), TypeAdapter(tuple[Result, ...])


class ExpectationStore:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, scope: Scope, data_set: str) -> Expectations:
        """None of them where none were set."""
        return await self._db.read(lambda connection: _find(connection, scope, data_set))

    async def change(self, scope: Scope, data_set: str, decide: Callable[[Expectations], Expectations]) -> Expectations:
        """Raises what `decide` raises."""

        def work(connection: Connection) -> Expectations:
            before = _find(connection, scope, data_set)
            after = decide(before)
            if after == before:
                return after
            values = {"generation": after.generation, "update_time": after.update_time}
            values["items"] = _ITEMS.dump_python(after.items, mode="json")
            if before.generation:
                here = within(_expectations, scope) & (_expectations.c.data_set == data_set)
                connection.execute(update(_expectations).where(here).values(values))
            else:
                connection.execute(insert(_expectations).values(**scope._asdict(), data_set=data_set, **values))
            return after

        return await self._db.run(work)

    async def checks(self, scope: Scope, data_set: str, page_size: int, page_token: str) -> Page[Check]:
        """Newest first."""
        query = select(_check).where(within(_check, scope) & (_check.c.data_set == data_set))
        return await listed(self._db, query, _check.c.check, _read, page_size, page_token, newest_first=True)

    async def refuse(self, scope: Scope, check: Check) -> None:
        """Keeps a check that no version came of."""
        await self._db.run(lambda connection: keep(connection, scope, check))


def keep(connection: Connection, scope: Scope, check: Check) -> None:
    """Keeps a check, in the transaction of its version."""
    results = _RESULTS.dump_python(check.results, mode="json")
    connection.execute(insert(_check).values({**scope._asdict(), **vars(check), "results": results}))


def _find(connection: Connection, scope: Scope, data_set: str) -> Expectations:
    here = within(_expectations, scope) & (_expectations.c.data_set == data_set)
    row = connection.execute(select(_expectations).where(here)).first()
    if row is None:
        return Expectations(data_set)
    return Expectations(data_set, _ITEMS.validate_python(row.items), row.generation, row.update_time)


def _read(row: Row[Any]) -> Check:
    results = _RESULTS.validate_python(row.results)
    return Check(row.check, row.data_set, row.version, row.run, results, row.create_time)
