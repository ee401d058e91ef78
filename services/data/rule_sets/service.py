"""The use cases of rule sets."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from services.data.reading.kinds import Compiled
from services.data.rule_sets import domain, trying
from services.data.rule_sets.domain import Match, Member, RuleSet, RuleSetVersion, RuleSetView, Trial
from services.data.rule_sets.store import RuleSetStore
from services.data.rules.domain import Draft, check_drafts, check_fit, check_there, records_tried
from services.data.rules.service import Rules
from services.data.sources.service import Sources
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted


class RuleSets:
    """The use cases."""

    def __init__(self, store: RuleSetStore, rules: Rules, sources: Sources, now: Callable[[], datetime]) -> None:
        self._store, self._rules, self._sources, self._now = store, rules, sources, now

    async def create(
        self,
        scope: Scope,
        name: str,
        source: str,
        data_set: str,
        match: Match,
        drafts: Sequence[Draft],
        once: Once | None,
    ) -> RuleSetView:
        """Makes a set with version 1, and the rules that are new.

        Raises not_found, already_exists, invalid_value, failed_precondition, and what is wrong with a definition.
        """
        await self._store.recall(once)
        check_drafts(drafts)
        ready, now = await self._rules.compiled(scope, source, drafts), self._now()

        def make(connection: Connection, made: RuleSet) -> RuleSetVersion:
            self._rules.check_free(connection, scope, made.data_set)
            return self._version(connection, scope, made, match, ready, now)

        return await self._store.create(scope, RuleSet(name, source, data_set or name, now, now), make, once)

    async def extend(
        self, scope: Scope, name: str, match: Match, drafts: Sequence[Draft], once: Once | None
    ) -> RuleSetView:
        """Adds the next version; it is not active. Raises as `create` does."""
        await self._store.recall(once)
        check_drafts(drafts)
        source = (await self._store.get(scope, name, 0)).rule_set.source
        ready, now = await self._rules.compiled(scope, source, drafts), self._now()

        def make(connection: Connection, made: RuleSet) -> RuleSetVersion:
            return self._version(connection, scope, made, match, ready, now)

        return await self._store.extend(scope, name, now, make, once)

    def _version(
        self,
        connection: Connection,
        scope: Scope,
        made: RuleSet,
        match: Match,
        drafts: Sequence[Draft],
        now: datetime,
    ) -> RuleSetVersion:
        """The newest version of a set, whose rules belong to it from now on."""
        views = [self._rules.adopt(connection, scope, made.rule_set, made.source, draft, now) for draft in drafts]
        members = tuple(Member(view.rule.rule, view.version.version, view.rule.data_set) for view in views)
        return RuleSetVersion(made.latest_version, match, members, now)

    async def get(self, scope: Scope, name: str, version: int) -> RuleSetView:
        """A set with a version, the newest for 0. Raises not_found, unknown_version."""
        return await self._store.get(scope, name, version)

    def active(self, connection: Connection, scope: Scope, name: str) -> tuple[RuleSetView, Compiled]:
        """A set with its active version and what its rules come to, in the caller's transaction.

        Raises not_found, failed_precondition.
        """
        view = self._store.active(connection, scope, name)
        return view, self._compiled(connection, scope, view.version)

    async def pinned(self, scope: Scope, name: str) -> Sequence[tuple[Member, Compiled]]:
        """The rules of the active version, each with what it comes to. Raises as `active` does."""
        view, compiled = await self._store.read(lambda connection: self.active(connection, scope, name))
        return list(zip(view.version.members, compiled.branches, strict=True))

    def _compiled(self, connection: Connection, scope: Scope, version: RuleSetVersion) -> Compiled:
        """Raises failed_precondition when a rule is deleted, or the source has become another kind since."""
        found = self._rules.members(connection, scope, version.versions)
        for view in found.values():
            check_there(view.rule)
            source = self._sources.known(connection, scope, view.rule.source)
            check_fit(view.version.definition, source.definition, source.source)
        return Compiled((), branches=tuple(found[member.rule].version.compiled for member in version.members))

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[RuleSetView]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def test(
        self, scope: Scope, name: str, version: int, records: int, landed_for: Principal | None = None
    ) -> Trial:
        """Tries a version on the first records of its source, or, for a caller, on those that landed last of it.

        Raises not_found, unknown_version, limit_exceeded, failed_precondition, forbidden.
        """
        most = records_tried(records)
        view = await self._store.get(scope, name, version)
        compiled = await self._store.read(lambda connection: self._compiled(connection, scope, view.version))
        source = await self._sources.get(scope, view.rule_set.source)
        tried = await self._sources.tries(scope, source, compiled, most, landed_for)
        return await asyncio.to_thread(trying.tried, view.version, tried)

    async def activate(self, scope: Scope, name: str, version: int, etag: str) -> RuleSetView:
        """Makes a version the one that extractions use, with the versions of all its rules.

        Raises not_found, unknown_version, etag_mismatch; failed_precondition when a rule of it is deleted.
        """
        now = self._now()
        return await self._store.change(
            scope, name, lambda found: domain.activated(found, version, etag, now), self._following(scope, now)
        )

    async def delete(self, scope: Scope, name: str, etag: str) -> RuleSetView:
        """Hides a set; none of its rules is active then. Raises not_found, etag_mismatch."""
        now = self._now()
        return await self._store.change(
            scope, name, lambda found: deleted(found, name, etag, now), self._following(scope, now)
        )

    async def undelete(self, scope: Scope, name: str) -> RuleSetView:
        """Brings a set back. Raises not_found; failed_precondition when a rule of its active version is deleted."""
        now = self._now()
        return await self._store.change(
            scope, name, lambda found: undeleted(found, now), self._following(scope, now), deleted=True
        )

    def _following(self, scope: Scope, now: datetime) -> Callable[[Connection, RuleSet, RuleSetVersion | None], None]:
        """Has the rules be active as their set is."""

        def follow(connection: Connection, after: RuleSet, active: RuleSetVersion | None) -> None:
            versions = {} if after.delete_time or active is None else active.versions
            self._rules.switch(connection, scope, after.rule_set, versions, now)

        return follow
