"""Where rule sets and their versions are kept."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import JSON, Column, Index, Integer, String, and_, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.rule_sets import domain
from services.data.rule_sets.domain import Match, Member, RuleSet, RuleSetVersion, RuleSetView
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_rule_set = scoped(
    "rule_set",
    schema.metadata,
    Column("rule_set", String(63), primary_key=True),
    Column("source", String(63), nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("active_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
    Index("rule_set_data_set", "tenant", "project", "data_set", unique=True),
)
_version = scoped(
    "rule_set_version",
    schema.metadata,
    Column("rule_set", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("mode", String(16), nullable=False),
    Column("members", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)
_FIELDS = [column.name for column in _rule_set.columns if column.name not in ("tenant", "project")]
_MEMBERS = TypeAdapter(tuple[Member, ...])
# The version of a set that is made in a transaction, together with what it needs of other slices.
Make = Callable[[Connection, RuleSet], RuleSetVersion]
# What a change of a set does to its rules; the version is the active one, if there is one.
Follow = Callable[[Connection, RuleSet, RuleSetVersion | None], None]


class RuleSetStore:
    """The tables of rule sets."""

    def __init__(self, db: Database, tell: Callable[[Scope, RuleSetView], Event]) -> None:
        """`tell` makes the event of a change."""
        self._db, self._tell = db, tell
        self.recall, self.read = db.recall, db.read

    async def create(self, scope: Scope, rule_set: RuleSet, make: Make, once: Once | None) -> RuleSetView:
        """Keeps a new set with the version that `make` makes. Raises already_exists for its name and its data set."""

        def work(connection: Connection) -> RuleSetView:
            if _load(connection, scope, rule_set.rule_set):
                raise AlreadyExists(f"the rule set {rule_set.rule_set} exists already")
            if other := self.reports(connection, scope, rule_set.data_set):
                raise AlreadyExists(f"the data set {rule_set.data_set} has the reports of the rule set {other}")
            connection.execute(insert(_rule_set).values(**scope._asdict(), **asdict(rule_set)))
            return self._told(connection, scope, rule_set, make(connection, rule_set))

        return await self._db.run(work, once)

    async def extend(self, scope: Scope, name: str, now: datetime, make: Make, once: Once | None) -> RuleSetView:
        """Adds the version that `make` makes. Raises not_found."""

        def work(connection: Connection) -> RuleSetView:
            after = domain.extended(_existing(connection, scope, name), now)
            _save(connection, scope, after)
            return self._told(connection, scope, after, make(connection, after))

        return await self._db.run(work, once)

    async def change(
        self, scope: Scope, name: str, decide: Callable[[RuleSet], RuleSet], follow: Follow, deleted: bool = False
    ) -> RuleSetView:
        """Replaces a set by what `decide` makes of it, and has its rules `follow`; with `deleted`, also a deleted one.

        Raises not_found.
        """

        def work(connection: Connection) -> RuleSetView:
            before = _load(connection, scope, name) if deleted else _existing(connection, scope, name)
            if before is None:
                raise NotFound(f"there is no rule set {name}")
            after = decide(before)
            view = RuleSetView(after, _load_version(connection, scope, name, after.latest_version))
            if after != before:
                _save(connection, scope, after)
                active = after.active_version
                follow(connection, after, _load_version(connection, scope, name, active) if active else None)
                schema.outbox.add(connection, [self._tell(scope, view)])
            return view

        return await self._db.run(work)

    async def get(self, scope: Scope, name: str, version: int) -> RuleSetView:
        """A set with a version, the newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> RuleSetView:
            found = _existing(connection, scope, name)
            return RuleSetView(found, _load_version(connection, scope, name, version or found.latest_version))

        return await self._db.read(work)

    def active(self, connection: Connection, scope: Scope, name: str) -> RuleSetView:
        """A set with its active version, in the caller's transaction. Raises not_found, failed_precondition."""
        found = _existing(connection, scope, name)
        return RuleSetView(found, _load_version(connection, scope, name, domain.active(found)))

    def reports(self, connection: Connection, scope: Scope, data_set: str) -> str:
        """Which set writes its reports to a data set, in the caller's transaction; empty: none."""
        query = select(_rule_set.c.rule_set).where(within(_rule_set, scope) & (_rule_set.c.data_set == data_set))
        return connection.execute(query).scalar() or ""

    async def list(self, scope: Scope, page_size: int, page_token: str, deleted: bool) -> Page[RuleSetView]:
        """By name, each with its newest version."""
        newest = and_(
            within(_version, scope),
            _version.c.rule_set == _rule_set.c.rule_set,
            _version.c.version == _rule_set.c.latest_version,
        )
        versions = [_version.c[name].label(f"version_{name}") for name in ("mode", "members", "create_time")]
        query = select(_rule_set, *versions).join(_version, newest).where(within(_rule_set, scope))
        if not deleted:
            query = query.where(_rule_set.c.delete_time.is_(None))
        return await listed(self._db, query, _rule_set.c.rule_set, _read_view, page_size, page_token)

    def _told(self, connection: Connection, scope: Scope, rule_set: RuleSet, version: RuleSetVersion) -> RuleSetView:
        """Keeps a version and says that the set has changed."""
        values = {
            "rule_set": rule_set.rule_set,
            "version": version.version,
            "mode": version.match.value,
            "members": _MEMBERS.dump_python(version.members, mode="json"),
            "create_time": version.create_time,
        }
        connection.execute(insert(_version).values(**scope._asdict(), **values))
        view = RuleSetView(rule_set, version)
        schema.outbox.add(connection, [self._tell(scope, view)])
        return view


def _existing(connection: Connection, scope: Scope, name: str) -> RuleSet:
    found = _load(connection, scope, name)
    if found is None or found.delete_time:
        raise NotFound(f"there is no rule set {name}")
    return found


def _load(connection: Connection, scope: Scope, name: str) -> RuleSet | None:
    row = connection.execute(select(_rule_set).where(within(_rule_set, scope) & (_rule_set.c.rule_set == name))).first()
    return _read(row) if row else None


def _load_version(connection: Connection, scope: Scope, name: str, version: int) -> RuleSetVersion:
    here = within(_version, scope) & (_version.c.rule_set == name) & (_version.c.version == version)
    row = connection.execute(select(_version).where(here)).first()
    if row is None:
        raise Failure(Code.UNKNOWN_VERSION, f"{name} has no version {version}")
    return RuleSetVersion(version, Match(row.mode), _MEMBERS.validate_python(row.members), row.create_time)


def _save(connection: Connection, scope: Scope, after: RuleSet) -> None:
    here = within(_rule_set, scope) & (_rule_set.c.rule_set == after.rule_set)
    connection.execute(update(_rule_set).where(here).values(**asdict(after)))


def _read(row: Row[Any]) -> RuleSet:
    return RuleSet(**{name: getattr(row, name) for name in _FIELDS})


def _read_view(row: Row[Any]) -> RuleSetView:
    members = _MEMBERS.validate_python(row.version_members)
    version = RuleSetVersion(row.latest_version, Match(row.version_mode), members, row.version_create_time)
    return RuleSetView(_read(row), version)
