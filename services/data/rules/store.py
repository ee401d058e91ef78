"""Where rules and their versions are kept."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, Integer, String, and_, insert, select, update
from sqlalchemy.engine import Connection, Row

from services.data.database import schema
from services.data.reading.kinds import compiled_from_json, compiled_to_json, rule_from_json, to_json
from services.data.rules import domain
from services.data.rules.domain import Draft, Rule, RuleVersion, RuleView
from services.kit import resources
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, FailedPrecondition, Failure, NotFound
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
    Column("rule_set", String(63), nullable=False, server_default=""),
    Index("rule_set_rules", "tenant", "project", "rule_set"),
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
Ran = Callable[[Connection, Scope, str], bool]
Reports = Callable[[Connection, Scope, str], str]
_FIELDS = [column.name for column in _rule.columns if column.name not in ("tenant", "project")]


class RuleStore:
    """The tables of rules."""

    def __init__(self, db: Database, tell: Callable[[Scope, RuleView], Event], ran: Ran, reports: Reports) -> None:
        """`tell` makes the event of a change; `ran` says whether a rule was extracted by itself, `reports` which rule
        set writes its reports to a data set."""
        self._db, self._tell, self._ran, self._reports = db, tell, ran, reports
        self.recall = db.recall

    async def create(self, scope: Scope, made: RuleView, once: Once | None) -> RuleView:
        """Keeps a new rule. Raises already_exists for its name, and for a data set that another rule writes."""

        def work(connection: Connection) -> RuleView:
            rule = made.rule
            if _load(connection, scope, rule.rule):
                raise AlreadyExists(f"the rule {rule.rule} exists already")
            return self._insert(connection, scope, made)

        return await self._db.run(work, once)

    def _insert(self, connection: Connection, scope: Scope, made: RuleView) -> RuleView:
        rule = made.rule
        self.check_free(connection, scope, rule.data_set)
        if name := self._reports(connection, scope, rule.data_set):
            raise AlreadyExists(f"the data set {rule.data_set} has the reports of the rule set {name}")
        connection.execute(insert(_rule).values(**scope._asdict(), **_values(rule)))
        return self._told(connection, scope, rule, made.version)

    def check_free(self, connection: Connection, scope: Scope, data_set: str) -> None:
        """Raises already_exists for a data set that a rule writes."""
        query = select(_rule.c.rule).where(within(_rule, scope) & (_rule.c.data_set == data_set))
        if writer := connection.execute(query).scalar():
            raise AlreadyExists(f"the data set {data_set} is written by the rule {writer}")

    def adopt(
        self, connection: Connection, scope: Scope, rule_set: str, source: str, draft: Draft, now: datetime
    ) -> RuleView:
        """Makes a rule one of a set, and the rule or its version where they are new, in the caller's transaction.

        Raises as `domain.adopted` does, unknown_version, already_exists; failed_precondition for one that was extracted
        by itself: the set would read its records again.
        """
        rule = _load(connection, scope, draft.rule)
        version = rule and _load_version(connection, scope, draft.rule, draft.version or rule.latest_version)
        before = RuleView(rule, version) if rule and version else None
        after = domain.adopted(before, draft, rule_set, source, now)
        if rule is None:
            return self._insert(connection, scope, after)
        if not rule.rule_set and self._ran(connection, scope, rule.rule):
            text = f"the rule {rule.rule} was extracted by itself, and the set would read its records again"
            raise FailedPrecondition(f"{text}: create another rule for it")
        if after.rule != rule:
            _save(connection, scope, after.rule)
        if after.rule.latest_version != rule.latest_version:
            return self._told(connection, scope, after.rule, after.version)
        if after.rule != rule:
            self._tell_of(connection, scope, after.rule)
        return after

    def members(self, connection: Connection, scope: Scope, versions: Mapping[str, int]) -> dict[str, RuleView]:
        """Rules with these versions by name, also deleted ones, in the caller's transaction."""
        return {
            name: RuleView(rule, _load_version(connection, scope, name, version))
            for name, version in versions.items()
            if (rule := _load(connection, scope, name))
        }

    def switch(
        self, connection: Connection, scope: Scope, rule_set: str, versions: Mapping[str, int], now: datetime
    ) -> None:
        """Makes these versions the active ones of a set's rules, and none those of its others, in the caller's
        transaction. Raises failed_precondition for a deleted one."""
        here = within(_rule, scope) & (_rule.c.rule_set == rule_set)
        for rule in map(_read, connection.execute(select(_rule).where(here).order_by(_rule.c.rule)).all()):
            version = versions.get(rule.rule, 0)
            if version:
                domain.check_there(rule)
            if version != rule.active_version:
                after = resources.changed(rule, now, active_version=version)
                _save(connection, scope, after)
                self._tell_of(connection, scope, after)

    def _tell_of(self, connection: Connection, scope: Scope, rule: Rule) -> None:
        view = RuleView(rule, _load_version(connection, scope, rule.rule, rule.latest_version))
        schema.outbox.add(connection, [self._tell(scope, view)])

    async def extend(self, scope: Scope, name: str, decide: Callable[[Rule], RuleView], once: Once | None) -> RuleView:
        """Adds the version that `decide` makes. Raises not_found."""

        return await self._db.run(lambda connection: self.add_version(connection, scope, name, decide), once)

    def add_version(
        self, connection: Connection, scope: Scope, name: str, decide: Callable[[Rule], RuleView]
    ) -> RuleView:
        """`extend` in the caller's transaction. Raises not_found."""
        after = decide(_existing(connection, scope, name))
        _save(connection, scope, after.rule)
        return self._told(connection, scope, after.rule, after.version)

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
