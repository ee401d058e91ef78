"""Policies in the gateway's database. They belong to a tenant, not to a project: the project is `default`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, Integer, String, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.gateway.database import schema
from services.gateway.policies.domain.rules import Active, Doubt, Example, Rule, Version
from services.kit import tenancy
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.statements import revision_of

_MOST = 10_000  # versions of a tenant
_version = scoped(
    "policy_version",
    schema.metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("description", String(1000), nullable=False),
    Column("rules", JSON, nullable=False),
    Column("examples", JSON, nullable=False),
    Column("doubts", JSON, nullable=False),
    Column("principal", String(400), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("test_time", UtcDateTime),
)
_active = scoped(
    "policy_active",
    schema.metadata,
    Column("version", Integer, nullable=False),
    Column("principal", String(400), nullable=False),
    Column("activate_time", UtcDateTime, nullable=False),
    Column("generation", Integer, nullable=False),
)
_REVISION = revision_of(_active)
_RULES = TypeAdapter(tuple[Rule, ...])
_EXAMPLES = TypeAdapter(tuple[Example, ...])
_DOUBTS = TypeAdapter(tuple[Doubt, ...])
Tell = Callable[[Active, datetime], Event]


class PolicyStore:
    """The only SQL on policies."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    @property
    def near(self) -> bool:
        """No other process changes anything."""
        return self._db.near

    async def counting(self) -> list[tuple[Active, tuple[Rule, ...]]]:
        """The active version of each tenant, with its rules."""
        same = [_version.c[name] == _active.c[name] for name in ("tenant", "project", "version")]
        query = select(_active, _version.c.rules).join(_version, same[0] & same[1] & same[2])

        def work(connection: Connection) -> list[tuple[Active, tuple[Rule, ...]]]:
            return [(_as_active(row), _RULES.validate_python(row.rules)) for row in connection.execute(query)]

        with tenancy.everybody():
            return await self._db.read(work)

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever another version is active somewhere."""
        with tenancy.everybody():
            return await self._db.read(_REVISION)

    async def create(self, tenant: str, make: Callable[[int], Version], once: Once | None) -> Version:
        """A version with the next number. Raises limit_exceeded."""
        here = within(_version, Scope(tenant))

        def work(connection: Connection) -> Version:
            last = connection.execute(select(func.coalesce(func.max(_version.c.version), 0)).where(here)).scalar_one()
            if last >= _MOST:
                raise Failure(Code.LIMIT_EXCEEDED, f"there are {_MOST} versions of policies, and no more are possible")
            made = make(int(last) + 1)
            connection.execute(insert(_version).values(_row(made)))
            return made

        return await self._db.run(work, once)

    async def version(self, tenant: str, number: int) -> Version:
        """Raises not_found."""
        return await self._db.read(lambda connection: _find(connection, tenant, number))

    async def versions(self, tenant: str, page_size: int, page_token: str) -> Page[Version]:
        """Newest first."""
        query, key = select(_version).where(within(_version, Scope(tenant))), _version.c.version
        return await listed(self._db, query, key, _as_version, page_size, page_token, newest_first=True)

    async def active(self, tenant: str) -> Active:
        """Which version is active."""
        return await self._db.read(lambda connection: _find_active(connection, tenant))

    async def tested(self, tenant: str, number: int, now: datetime) -> None:
        """Notes that a version was tried."""
        here = within(_version, Scope(tenant)) & (_version.c.version == number)
        await self._db.run(lambda connection: connection.execute(update(_version).where(here).values(test_time=now)))

    async def activate(self, wanted: Active, etag: str, tell: Tell) -> Active:
        """Activates a version; publishes nothing where it is active already.

        Raises not_found, failed_precondition for one that was not tested, etag_mismatch.
        """

        def work(connection: Connection) -> Active:
            before = _find_active(connection, wanted.tenant)
            if etag and etag not in (str(before.generation), "*"):
                raise Failure(Code.ETAG_MISMATCH, "other policies were activated since")
            if _find(connection, wanted.tenant, wanted.version).test_time is None:
                raise FailedPrecondition(f"policies version {wanted.version} was not tested")
            if before.version == wanted.version:
                return before
            after = Active(**asdict(wanted) | {"generation": before.generation + 1})
            assert after.activate_time
            row = asdict(after) | Scope(after.tenant)._asdict()
            here = within(_active, Scope(after.tenant))
            connection.execute(
                update(_active).where(here).values(row) if before.version else insert(_active).values(row)
            )
            schema.outbox.add(connection, [tell(after, after.activate_time)])
            return after

        return await self._db.run(work)


def _find(connection: Connection, tenant: str, number: int) -> Version:
    query = select(_version).where(within(_version, Scope(tenant)) & (_version.c.version == number))
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no version {number} of policies")
    return _as_version(row)


def _find_active(connection: Connection, tenant: str) -> Active:
    row = connection.execute(select(_active).where(within(_active, Scope(tenant)))).first()
    return _as_active(row) if row else Active(tenant)


def _row(version: Version) -> dict[str, Any]:
    texts: Sequence[tuple[str, TypeAdapter[Any]]] = [("rules", _RULES), ("examples", _EXAMPLES), ("doubts", _DOUBTS)]
    lists = {name: adapter.dump_python(getattr(version, name), mode="json") for name, adapter in texts}
    return {**vars(version), **Scope(version.tenant)._asdict(), **lists}


def _as_version(row: Row[Any]) -> Version:
    return Version(
        row.tenant,
        row.version,
        row.description,
        _RULES.validate_python(row.rules),
        _EXAMPLES.validate_python(row.examples),
        _DOUBTS.validate_python(row.doubts),
        row.principal,
        row.create_time,
        row.test_time,
    )


def _as_active(row: Row[Any]) -> Active:
    return Active(row.tenant, row.version, row.principal, row.activate_time, row.generation)
