"""The use cases of expectations, and the look at new versions before they are committed."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.engine import Connection

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, NewVersion
from services.data.datasets.queries import table_requests
from services.data.datasets.service import DataSets
from services.data.expectations import domain
from services.data.expectations.domain import Action, Check, Expectation, Expectations, Kind, Result, said
from services.data.expectations.store import ExpectationStore, keep
from services.data.metering.domain import DEFAULT_QUERY_SECONDS, CpuBudget, unused
from services.data.metering.service import Metering, waited_for
from services.kit import process
from services.kit.auth import Scope
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.pages import Page
from services.kit.timestamps import uuid7
from services.kit.turns import Turns

log = logging.getLogger(__name__)
_WORK = "services.data.expectations.work"
_ITEMS, _RESULTS = TypeAdapter(tuple[Expectation, ...]), TypeAdapter(tuple[Result, ...])


class DataSetExpectations:
    """The use cases."""

    def __init__(
        self,
        store: ExpectationStore,
        data_sets: DataSets,
        metering: Metering,
        limits: process.Limits,
        free: Turns,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._data_sets, self._metering = store, data_sets, metering
        self._limits, self._free, self._now = limits, free, now

    async def set(self, scope: Scope, data_set: str, items: Sequence[Expectation], etag: str) -> Expectations:
        """Raises not_found, invalid_value, etag_required, etag_mismatch."""
        found = await self._data_sets.get(scope, data_set)
        columns = None
        if found.latest_version:
            columns = (await self._data_sets.version(scope, data_set, found.latest_version)).columns
        domain.check(items, columns)
        now = self._now()
        return await self._store.change(scope, data_set, lambda before: domain.changed(before, items, etag, now))

    async def get(self, scope: Scope, data_set: str) -> Expectations:
        """Raises not_found."""
        await self._data_sets.get(scope, data_set)
        return await self._store.get(scope, data_set)

    async def checks(self, scope: Scope, data_set: str, page_size: int, page_token: str) -> Page[Check]:
        """Newest first. Raises not_found."""
        await self._data_sets.get(scope, data_set)
        return await self._store.checks(scope, data_set, page_size, page_token)

    async def learn(
        self, scope: Scope, data_set: str, version: int, seconds: float, budget: CpuBudget, reservation: str
    ) -> tuple[Expectation, ...]:
        """What a version fulfils. Raises not_found, unknown_version, limit_exceeded."""
        usage = unused("", "query", budget, DEFAULT_QUERY_SECONDS)
        location = await self._data_sets.locate(scope, data_set, version)
        found = location.version
        qualities = {quality.column: quality for quality in found.quality.columns}
        columns = [
            {"name": column.name, "type": column.type.value, **_statistics(qualities.get(column.name))}
            for column in found.columns
            if column.name in qualities
        ]
        learn = {"rows": found.rows, "rows_added": found.rows_added, "columns": columns}
        limits = waited_for(self._limits, seconds)
        async with self._free.turn(scope.tenant), self._data_sets.local(scope, location) as local:
            request = {"learn": learn, "tables": table_requests({"t": local})}
            answer = await self._metering.run_once(scope, usage, reservation, _WORK, request, limits)
        return tuple(_ITEMS.validate_python([{"action": Action.WARN, **item} for item in answer["expectations"]]))


def _statistics(quality: Any) -> dict[str, Any]:
    return {name: getattr(quality, name) for name in ("nulls", "distinct", "minimum", "maximum", "numbers")}


class Inspector:
    """Looks at the rows of new versions before they are committed."""

    def __init__(self, store: ExpectationStore, data_sets: DataSets, limits: process.Limits, free: Turns) -> None:
        self._store, self._data_sets, self._limits, self._free = store, data_sets, limits, free

    async def inspected(self, scope: Scope, new: NewVersion, now: datetime) -> NewVersion:
        """Without the rows that are quarantined, and with what came of it. One that was inspected stays as it is.

        Raises failed_precondition for one that is blocked.
        """
        if new.inspected is not None or new.is_old:
            return new
        items = await self._expected(scope, new.data_set)
        if not items or await self._done(scope, new):
            return replace(new, inspected=[])
        answer = await self._look(scope, new, items)
        results = tuple(Result(item, *found) for item, found in zip(items, answer["results"], strict=True))
        check = Check(uuid7(), new.data_set, 0, new.run, results, now)
        if check.action is Action.BLOCK:
            await self._store.refuse(scope, check)
            raise _blocked(check)
        warnings = [
            _warning(result) for result in results if result.failed and result.expectation.action is Action.WARN
        ]
        for warning in warnings:
            log.warning(
                "the run %s adds a version of %s that breaks what is expected: %s", new.run, new.data_set, warning
            )
        new = replace(new, inspected=_RESULTS.dump_python(results, mode="json"), warnings=tuple(warnings))
        return _rewritten(new, answer["rewritten"]) if answer["rewritten"] else new

    async def _expected(self, scope: Scope, data_set: str) -> tuple[Expectation, ...]:
        """Of the rows of a branch also what is expected where it may be merged."""
        items = (await self._store.get(scope, data_set)).items
        if parent := (await self._data_sets.get(scope, data_set)).branch_of:
            items = (*items, *(item for item in (await self._store.get(scope, parent)).items if item not in items))
        return items

    async def _done(self, scope: Scope, new: NewVersion) -> bool:
        """Whether its files are no longer where the child wrote them: the run was kept or committed before."""
        folder = self._data_sets.folder(scope, new.data_set, new.run)
        there = await asyncio.to_thread(folder.is_dir)
        return not there or await self._data_sets.has_run(scope, new.data_set, new.run)

    async def _look(self, scope: Scope, new: NewVersion, items: Sequence[Expectation]) -> dict[str, Any]:
        async with self._free.turn(scope.tenant), AsyncExitStack() as stack:
            old = list[str]()
            if new.append and any(item.kind is Kind.UNIQUE for item in items):
                old = await self._old(scope, new.data_set, stack)
            folder = self._data_sets.folder(scope, new.data_set, new.run)
            request = {
                "data_set": new.data_set,
                "folder": str(folder),
                "files": [str(folder.parent / file.path) for file in new.files],
                "old": old,
                "columns": [(column.name, column.type.value, column.nullable) for column in new.columns],
                "items": _ITEMS.dump_python(tuple(items), mode="json"),
            }
            return await process.run(_WORK, request, self._limits)

    async def _old(self, scope: Scope, data_set: str, stack: AsyncExitStack) -> list[str]:
        """The files that new ones are appended to."""
        try:
            location = await self._data_sets.locate(scope, data_set)
        except Failure as failure:
            if failure.code is Code.UNKNOWN_VERSION:
                return []
            raise
        local = await stack.enter_async_context(self._data_sets.local(scope, location))
        return [f"{local.uri}/{file.path}" for file in local.files]

    def keep(self, connection: Connection, scope: Scope, made: DataSetVersion, new: NewVersion) -> None:
        """What came of the look at a version, in its transaction."""
        if new.inspected:
            results = _RESULTS.validate_python(new.inspected)
            keep(connection, scope, Check(uuid7(), made.data_set, made.version, new.run, results, made.create_time))


def _warning(result: Result) -> str:
    return f"{said(result.expectation)}: {result.found}"


def _blocked(check: Check) -> Failure:
    broken = [r for r in check.results if r.failed and r.expectation.action is Action.BLOCK]
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    return FailedPrecondition(f"{check.data_set} expects that {_warning(broken[0])}{more}")


def _rewritten(new: NewVersion, found: dict[str, Any]) -> NewVersion:
    counts = {**new.quarantined}
    for reason, count in found["quarantined"].items():
        counts[reason] = counts.get(reason, 0) + count
    return replace(
        new,
        files=parquet.from_json(found["files"]),
        quarantine=(*new.quarantine, *parquet.from_json(found["quarantine"])),
        quarantined=counts,
        statistics=statistics.from_json(found["statistics"]),
    )
