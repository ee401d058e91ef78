"""Where rules and their versions are kept."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import JSON, Column, Index, Integer, String, and_, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.reading.kinds import compiled_from_json, compiled_to_json, rule_from_json, to_json
from services.data.rules import domain
from services.data.rules.domain import Rule, RuleVersion, RuleView
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_rule = scoped(
    "rule",
    schema.metadata,
    Column("rule", String(63), primary_key=True),
    Column("source", String(63), nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("active_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
    Index("rule_data_set", "tenant", "project", "data_set", unique=True),
)
_version = scoped(
    "rule_version",
    schema.metadata,
    Column("rule", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("compiled", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)
_FIELDS = [column.name for column in _rule.columns if column.name not in ("tenant", "project")]


class RuleStore:
    """The tables of rules."""

    def __init__(self, db: Database, tell: Callable[[Scope, RuleView], Event]) -> None:
        """`tell` makes the event of a change."""
        self._db, self._tell = db, tell
        self.recall = db.recall

    async def create(self, scope: Scope, made: RuleView, once: Once | None) -> RuleView:
        """Keeps a new rule. Raises already_exists for its name, and for a data set that another rule writes."""

        def work(connection: Connection) -> RuleView:
            rule = made.rule
            if _load(connection, scope, rule.rule):
                raise AlreadyExists(f"the rule {rule.rule} exists already")
            query = select(_rule.c.rule).where(within(_rule, scope) & (_rule.c.data_set == rule.data_set))
            if writer := connection.execute(query).scalar():
                raise AlreadyExists(f"the data set {rule.data_set} is written by the rule {writer}")
            connection.execute(insert(_rule).values(**scope._asdict(), **_values(rule)))
            return self._told(connection, scope, rule, made.version)

        return await self._db.run(work, once)

    async def extend(self, scope: Scope, name: str, decide: Callable[[Rule], RuleView], once: Once | None) -> RuleView:
        """Adds the version that `decide` makes. Raises not_found."""

        def work(connection: Connection) -> RuleView:
            after = decide(_existing(connection, scope, name))
            _save(connection, scope, after.rule)
            return self._told(connection, scope, after.rule, after.version)

        return await self._db.run(work, once)

    async def change(self, scope: Scope, name: str, decide: Callable[[Rule], Rule], deleted: bool = False) -> RuleView:
        """Replaces a rule by what `decide` makes of it; with `deleted`, also a deleted one. Raises not_found."""

        def work(connection: Connection) -> RuleView:
            before = _load(connection, scope, name) if deleted else _existing(connection, scope, name)
            if before is None:
                raise NotFound(f"there is no rule {name}")
            after = decide(before)
            view = RuleView(after, _load_version(connection, scope, name, after.latest_version))
            if after != before:
                _save(connection, scope, after)
                schema.outbox.add(connection, [self._tell(scope, view)])
            return view

        return await self._db.run(work)

    async def get(self, scope: Scope, name: str, version: int) -> RuleView:
        """A rule with a version, the newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> RuleView:
            rule = _existing(connection, scope, name)
            return RuleView(rule, _load_version(connection, scope, name, version or rule.latest_version))

        return await self._db.read(work)

    def active(self, connection: Connection, scope: Scope, name: str) -> RuleView:
        """A rule with its active version, in the caller's transaction. Raises not_found, failed_precondition."""
        rule = _existing(connection, scope, name)
        return RuleView(rule, _load_version(connection, scope, name, domain.active(rule)))

    async def list(self, scope: Scope, page_size: int, page_token: str, deleted: bool) -> Page[RuleView]:
        """By name, each with its newest version."""
        newest = and_(
            within(_version, scope), _version.c.rule == _rule.c.rule, _version.c.version == _rule.c.latest_version
        )
        versions = [_version.c[name].label(f"version_{name}") for name in ("definition", "compiled", "create_time")]
        query = select(_rule, *versions).join(_version, newest).where(within(_rule, scope))
        if not deleted:
            query = query.where(_rule.c.delete_time.is_(None))
        return await listed(self._db, query, _rule.c.rule, _read_view, page_size, page_token)

    def _told(self, connection: Connection, scope: Scope, rule: Rule, version: RuleVersion) -> RuleView:
        """Keeps a version and says that the rule has changed."""
        values = {
            "rule": rule.rule,
            "version": version.version,
            "definition": to_json(version.definition),
            "compiled": compiled_to_json(version.compiled),
            "create_time": version.create_time,
        }
        connection.execute(insert(_version).values(**scope._asdict(), **values))
        view = RuleView(rule, version)
        schema.outbox.add(connection, [self._tell(scope, view)])
        return view


def _existing(connection: Connection, scope: Scope, name: str) -> Rule:
    rule = _load(connection, scope, name)
    if rule is None or rule.delete_time:
        raise NotFound(f"there is no rule {name}")
    return rule


def _load(connection: Connection, scope: Scope, name: str) -> Rule | None:
    row = connection.execute(select(_rule).where(within(_rule, scope) & (_rule.c.rule == name))).first()
    return _read(row) if row else None


def _load_version(connection: Connection, scope: Scope, name: str, version: int) -> RuleVersion:
    here = within(_version, scope) & (_version.c.rule == name) & (_version.c.version == version)
    row = connection.execute(select(_version).where(here)).first()
    if row is None:
        raise Failure(Code.UNKNOWN_VERSION, f"{name} has no version {version}")
    return RuleVersion(version, rule_from_json(row.definition), compiled_from_json(row.compiled), row.create_time)


def _save(connection: Connection, scope: Scope, rule: Rule) -> None:
    here = within(_rule, scope) & (_rule.c.rule == rule.rule)
    connection.execute(update(_rule).where(here).values(**_values(rule)))


def _values(rule: Rule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in _FIELDS}


def _read(row: Row[Any]) -> Rule:
    return Rule(**{name: getattr(row, name) for name in _FIELDS})


def _read_view(row: Row[Any]) -> RuleView:
    definition, compiled = rule_from_json(row.version_definition), compiled_from_json(row.version_compiled)
    return RuleView(_read(row), RuleVersion(row.latest_version, definition, compiled, row.version_create_time))
