"""The use cases of rules."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.engine import Connection

from services.data.reading.folders import Place
from services.data.reading.formats import Records
from services.data.reading.kinds import Compiled, Definition, RuleDefinition, SqlRule, SqlSource
from services.data.reading.select import compile_select
from services.data.rules import domain, trying
from services.data.rules.compiling import compile_rule, with_downloads
from services.data.rules.domain import Draft, Rule, RuleVersion, RuleView, Trial
from services.data.rules.store import RuleStore
from services.data.sources.service import Sources
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import Failure, InvalidValue, Violation
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted


class Repaired(NamedTuple):
    """The definition of a repaired version, and what it comes to."""

    definition: RuleDefinition
    compiled: Compiled


class Rules:
    """The use cases."""

    def __init__(self, store: RuleStore, sources: Sources, now: Callable[[], datetime]) -> None:
        self._store, self._sources, self._now = store, sources, now
        # For the slice of rule sets, in its transactions.
        self.adopt, self.members, self.switch, self.check_free = (
            store.adopt,
            store.members,
            store.switch,
            store.check_free,
        )

    async def create(
        self, scope: Scope, name: str, source: str, data_set: str, definition: RuleDefinition, once: Once | None
    ) -> RuleView:
        """Makes a rule with version 1. Raises not_found for its source, already_exists, and what is wrong with it."""
        await self._store.recall(once)
        compiled = await self._compile(scope, source, definition)
        now = self._now()
        rule = Rule(name, source, data_set or name, now, now)
        return await self._store.create(scope, RuleView(rule, RuleVersion(1, definition, compiled, now)), once)

    async def extend(self, scope: Scope, name: str, definition: RuleDefinition, once: Once | None) -> RuleView:
        """Adds the next version; it is not active. Raises not_found, and what is wrong with it."""
        await self._store.recall(once)
        rule = (await self._store.get(scope, name, 0)).rule
        compiled = await self._compile(scope, rule.source, definition)

        def decide(before: Rule) -> RuleView:
            after = domain.extended(before, self._now())
            return RuleView(after, RuleVersion(after.latest_version, definition, compiled, after.update_time))

        return await self._store.extend(scope, name, decide, once)

    async def compiled_for(self, scope: Scope, name: str, definition: RuleDefinition) -> Compiled:
        """What a definition comes to for the source of a rule. Raises not_found, and what is wrong with it."""
        return await self._compile(scope, (await self._store.get(scope, name, 0)).rule.source, definition)

    def repaired(
        self, connection: Connection, scope: Scope, name: str, version: int, made: Repaired, activate: bool
    ) -> RuleView:
        """Adds a repair of a version in the caller's transaction, and activates it if that version still is active.

        Raises not_found.
        """

        def decide(before: Rule) -> RuleView:
            now = self._now()
            after = domain.extended(before, now)
            if activate and before.active_version == version:
                after = replace(after, active_version=after.latest_version)
            return RuleView(after, RuleVersion(after.latest_version, made.definition, made.compiled, now))

        return self._store.add_version(connection, scope, name, decide)

    async def _compile(self, scope: Scope, source: str, definition: RuleDefinition) -> Compiled:
        found = await self._sources.get(scope, source)
        where = found.definition
        if isinstance(where, SqlSource) and where.remote and isinstance(definition, SqlRule):
            table = await self._sources.describe(scope, found)
            compiled = with_downloads(await asyncio.to_thread(compile_select, definition, where, table), definition)
            await self._sources.prepare(scope, found, compiled)
            return compiled
        async with self._sources.place(scope, where, source, most=1) as place:
            return await asyncio.to_thread(compile_rule, definition, where, place)

    async def get(self, scope: Scope, name: str, version: int) -> RuleView:
        """A rule with a version, the newest for 0. Raises not_found, unknown_version."""
        return await self._store.get(scope, name, version)

    def active(self, connection: Connection, scope: Scope, name: str) -> RuleView:
        """A rule with its active version, in the caller's transaction. Raises not_found, failed_precondition."""
        return self._store.active(connection, scope, name)

    async def compiled(self, scope: Scope, source: str, drafts: Sequence[Draft]) -> tuple[Draft, ...]:
        """Rules for a set, with what their definitions come to.

        Raises not_found for the source; invalid_value for a SQL source; and what is wrong with a definition.
        """
        where = (await self._sources.get(scope, source)).definition
        if where.records is Records.ROWS:
            raise InvalidValue(
                "a rule set needs a source of files or pushed records: a sql rule says itself which rows it reads"
            )
        async with self._sources.place(scope, where, source, most=1) as place:
            return await asyncio.to_thread(_compiled, drafts, where, place)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[RuleView]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def test(
        self, scope: Scope, name: str, version: int, records: int, landed_for: Principal | None = None
    ) -> Trial:
        """Tries a version on the first records of its source, or, for a caller, on those that landed last of it.

        Raises not_found, unknown_version, limit_exceeded; failed_precondition where none have landed, forbidden.
        """
        most = domain.records_tried(records)
        view = await self._store.get(scope, name, version)
        source = await self._sources.get(scope, view.rule.source)
        domain.check_fit(view.version.definition, source.definition, source.source)
        compiled = view.version.compiled
        tried = await self._sources.tries(scope, source, compiled, most, landed_for)
        return await asyncio.to_thread(trying.tried, compiled, tried)

    async def activate(self, scope: Scope, name: str, version: int, etag: str) -> RuleView:
        """Makes a version the one that extractions use. Raises not_found, unknown_version, etag_mismatch."""
        return await self._store.change(scope, name, lambda rule: domain.activated(rule, version, etag, self._now()))

    async def delete(self, scope: Scope, name: str, etag: str) -> RuleView:
        """Hides a rule. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda rule: deleted(rule, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> RuleView:
        """Brings a rule back. Raises not_found."""
        return await self._store.change(scope, name, lambda rule: undeleted(rule, self._now()), deleted=True)


def _compiled(drafts: Sequence[Draft], source: Definition, place: Place) -> tuple[Draft, ...]:
    found = []
    for number, draft in enumerate(drafts):
        try:
            made = compile_rule(draft.definition, source, place) if draft.definition else None
        except Failure as failure:
            said = [Violation(f"/rules/{number}/definition", failure.detail)]
            raise Failure(failure.code, f"rules.{number}.definition: {failure.detail}", said) from None
        found.append(replace(draft, compiled=made))
    return tuple(found)
