"""The use cases of extractions."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.service import DataSets
from services.data.extractions.domain import Cursor, Extraction, Origin, Task
from services.data.extractions.inputs import WAREHOUSE, Input
from services.data.extractions.replays import Asked, Replays, check_asked, check_runs_here
from services.data.extractions.runner import ExtractionRunner
from services.data.extractions.store import ExtractionStore
from services.data.metering.domain import CpuBudget
from services.data.reading.connector_crawl import shown as crawled
from services.data.reading.connectors import connector
from services.data.reading.crawls import CrawlSource
from services.data.reading.kinds import FilesSource
from services.data.rule_sets.service import RuleSets
from services.data.rules.domain import active, check_fit
from services.data.rules.service import Rules
from services.data.sources.service import Sources
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import InvalidValue, Violation
from services.kit.pages import Page
from services.kit.timestamps import uuid7


class Extractions:
    """The use cases."""

    def __init__(
        self,
        store: ExtractionStore,
        rules: Rules,
        rule_sets: RuleSets,
        sources: Sources,
        data_sets: DataSets,
        runner: ExtractionRunner,
        now: Callable[[], datetime],
        replays: Replays,
    ) -> None:
        self._store, self._rules, self._rule_sets, self._sources = store, rules, rule_sets, sources
        self._data_sets, self._runner, self._now = data_sets, runner, now
        self._replays = replays

    @contextlib.asynccontextmanager
    async def again(self, scope: Scope, run: Extraction) -> AsyncIterator[tuple[Task, Input]]:
        """What the last run of a rule did and has read, to be read again, while the context lasts.

        Raises what opening its source does.
        """
        task = await self._store.task(scope, run.extraction)
        async with self._runner.inputs.again(scope, run, task) as found:
            yield task, found

    async def run(
        self,
        principal: Principal,
        scope: Scope,
        rule: str,
        once: Once | None,
        budget: CpuBudget,
        asked: Asked,
    ) -> tuple[Extraction, Operation]:
        """Begins a run of a rule's active version; it goes on beside requests, and after a crash.

        Raises not_found, in_progress, invalid_value, and failed_precondition without an active version, when it changes
        a type, or when its source has become another kind; storage_full; forbidden where rows would lose their masks.
        """
        await self._store.recall(once)
        check_asked(asked)
        self._data_sets.check_space()
        await self._check_target(principal, scope, rule, asked)

        def pin(connection: Connection, operation: str) -> tuple[Extraction, Task]:
            view = self._rules.active(connection, scope, rule)
            source = self._replays.source(connection, scope, view.rule.source, asked)
            check_fit(view.version.definition, source.definition, source.source)
            check_runs_here(source, view.version.compiled)
            version, data_set = view.version, asked.branch or view.rule.data_set
            if asked.aside:
                data_set = self._replays.beside(connection, scope, view.rule)
            made = Extraction(uuid7(), rule, version.version, source.source, data_set, operation, self._now())
            made = replace(made, branch=asked.branch)
            task = Task(source.definition, version.compiled)
            return self._replays.pinned(connection, scope, source, asked, made, task)

        made, operation = await self._store.begin(scope, rule, pin, once, budget)
        self._runner.begin(scope, made)
        return made, operation

    async def run_set(
        self, scope: Scope, rule_set: str, once: Once | None, budget: CpuBudget, asked: Asked
    ) -> tuple[Extraction, Operation]:
        """The same for the active version of a rule set, and all its rules."""
        await self._store.recall(once)
        check_asked(asked)
        self._data_sets.check_space()

        def pin(connection: Connection, operation: str) -> tuple[Extraction, Task]:
            view, compiled = self._rule_sets.active(connection, scope, rule_set)
            source = self._replays.source(connection, scope, view.rule_set.source, asked)
            check_runs_here(source, compiled)
            made = Extraction(uuid7(), "", 0, source.source, view.rule_set.data_set, operation, self._now())
            made = replace(made, rule_set=rule_set, rule_set_version=view.version.version)
            task = Task(source.definition, compiled, view.version.members, view.version.match)
            return self._replays.pinned(connection, scope, source, asked, made, task)

        for member, compiled in await self._rule_sets.pinned(scope, rule_set):
            if asked.origin is Origin.SOURCE:
                await self._data_sets.check_columns(scope, member.data_set, compiled.schema)
        made, operation = await self._store.begin_set(scope, rule_set, pin, once, budget)
        self._runner.begin(scope, made)
        return made, operation

    async def _check_target(self, principal: Principal, scope: Scope, rule: str, asked: Asked) -> None:
        """Rows that are added must fit the data set before any record is read; others replace what is there."""
        found = (await self._rules.get(scope, rule, 0)).rule
        if asked.branch and (await self._data_sets.get(scope, asked.branch)).branch_of != found.data_set:
            rule_ = f"must be a branch of {found.data_set}"
            raise InvalidValue(f"branch {rule_}", [Violation("/branch", rule_)])
        if asked.origin is Origin.WAREHOUSE:
            if asked.aside:
                await self._replays.check_seen(principal, found.data_set)
            return
        compiled = (await self._rules.get(scope, rule, active(found))).version.compiled
        await self._data_sets.check_columns(scope, asked.branch or found.data_set, compiled.schema)

    async def get(self, scope: Scope, extraction: str) -> Extraction:
        """Raises not_found."""
        return await self._store.get(scope, extraction)

    async def cursor(self, scope: Scope, rule: str) -> Cursor:
        """How far a rule has read its source. Raises not_found, unavailable, and what opening the source does."""
        return await self._cursor(scope, (await self._rules.get(scope, rule, 0)).rule.source, rule, "")

    async def set_cursor(self, scope: Scope, rule_set: str) -> Cursor:
        """The same for a rule set."""
        return await self._cursor(scope, (await self._rule_sets.get(scope, rule_set, 0)).rule_set.source, "", rule_set)

    async def _cursor(self, scope: Scope, name: str, rule: str, rule_set: str) -> Cursor:
        source = await self._sources.get(scope, name)
        place = connector(source.definition).identity
        landed = read = 0
        if source.landed:
            position = await self._replays.read_to(scope, name)
            cursor, time, landed = position.cursor_in(place), position.time, position.last
            read = int((await self._store.cursor(scope, rule, WAREHOUSE, rule_set) or {}).get("landed", 0))
        else:
            cursor, time = await self._store.moved(scope, rule, place, rule_set) or ({}, None)
        parts = await self._sources.lag(scope, source, cursor)
        files = isinstance(source.definition, FilesSource)
        # Which they are, and how each is known again, is nobody's but the connector's, and may be a lot.
        shown = {**cursor, "files": len(cursor.get("files", ()))} if files and cursor else cursor
        if isinstance(source.definition, CrawlSource) and cursor:
            shown = crawled(cursor)
        return Cursor(name, shown, time, None if parts is None else tuple(parts), files, landed, read)

    async def list(self, scope: Scope, rule: str, rule_set: str, page_size: int, page_token: str) -> Page[Extraction]:
        """Newest first."""
        return await self._store.list(scope, rule, page_size, page_token, rule_set)
