"""The use cases of recipes."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from aimass.v1.operations_pb2 import Operation
from services.data.cleaning.domain import RUNNING, Recipe, RecipeVersion, RecipeView, Run
from services.data.cleaning.planning import check_steps, known_zone, planned
from services.data.cleaning.runner import WORK, CleaningRunner, table_request
from services.data.cleaning.steps import Step
from services.data.cleaning.store import RecipeStore
from services.data.datasets.service import DataSets
from services.data.metering.domain import DEFAULT_QUERY_SECONDS, CpuBudget, unused
from services.data.metering.service import Metering, waited_for
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import invalid
from services.kit.pages import Page
from services.kit.process import Limits
from services.kit.resources import deleted, undeleted
from services.kit.timestamps import uuid7
from services.kit.turns import Turns

_ROWS, _MOST = 1_000, 10_000  # of a preview
_LOOKED_AT, _MOST_LOOKED_AT = 10_000, 100_000  # of a proposal


class Recipes:
    """The use cases."""

    def __init__(
        self, store: RecipeStore, data_sets: DataSets, runner: CleaningRunner, now: Callable[[], datetime]
    ) -> None:
        self._store, self._data_sets, self._runner, self._now = store, data_sets, runner, now

    async def create(
        self, scope: Scope, made: tuple[str, str, str, str], steps: Sequence[Step], once: Once | None
    ) -> RecipeView:
        """Of its name, description, data set and output. Raises already_exists, invalid_value."""
        await asyncio.to_thread(check_steps, steps, known_zone)
        now = self._now()
        view = RecipeView(Recipe(*made, now, now), RecipeVersion(1, tuple(steps), now))
        return await self._store.create(scope, view, once)

    async def extend(self, scope: Scope, name: str, steps: Sequence[Step], once: Once | None) -> RecipeView:
        """Adds a version. Raises not_found, invalid_value."""
        await asyncio.to_thread(check_steps, steps, known_zone)
        return await self._store.extend(scope, name, steps, self._now(), once)

    async def get(self, scope: Scope, name: str, version: int) -> RecipeView:
        """The newest version for 0. Raises not_found, unknown_version."""
        return await self._store.get(scope, name, version)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[RecipeView]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def run(
        self,
        principal: Principal,
        name: str,
        versions: tuple[int, int],
        once: Once | None,
        budget: CpuBudget,
    ) -> tuple[Run, Operation]:
        """Keeps a run of a version on a version of its data set, the newest for 0, and begins it.

        Raises not_found, unknown_version, in_progress, invalid_value for steps that do not fit the data set,
        storage_full, and forbidden for who does not see all columns of it.
        """
        await self._store.recall(once)
        self._data_sets.check_space()
        scope = principal.scope
        view = await self._store.get(scope, name, versions[0])
        recipe, version = view.recipe, view.version
        await self._data_sets.check_seen(principal, recipe.data_set)
        found = await self._data_sets.version(scope, recipe.data_set, versions[1])
        planned(version.steps, found.columns)
        wanted = Run(
            run=uuid7(),
            recipe=name,
            version=version.version,
            data_set=recipe.data_set,
            data_set_version=found.version,
            output=recipe.output,
            operation="",
            state=RUNNING,
            create_time=self._now(),
        )
        run, operation = await self._store.begin(scope, wanted, once, budget)
        self._runner.begin(scope, run)
        return run, operation

    async def run_of(self, scope: Scope, name: str, run: str) -> Run:
        """Raises not_found."""
        return await self._store.run(scope, name, run)

    async def runs(self, scope: Scope, name: str, page_size: int, page_token: str) -> Page[Run]:
        """Newest first, without their reports. Raises not_found."""
        return await self._store.runs(scope, name, page_size, page_token)

    async def hidden(self, principal: Principal, data_sets: Sequence[str]) -> frozenset[str]:
        """The columns whose values a caller must not see in one of these data sets, as far as those are there."""
        return await self._data_sets.hidden_in(principal, data_sets)

    async def delete(self, scope: Scope, name: str, etag: str) -> RecipeView:
        """Hides it; a second time changes nothing. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> RecipeView:
        """Brings it back; a second time changes nothing. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()))


class Previews:
    """Shows what steps do to the first rows of a version, and proposes some.

    As many at a time as there are children for; others wait.
    """

    def __init__(self, data_sets: DataSets, metering: Metering, limits: Limits, free: Turns) -> None:
        """`free` is shared with the queries."""
        self._data_sets, self._metering, self._limits, self._free = data_sets, metering, limits, free

    async def preview(
        self,
        principal: Principal,
        place: tuple[str, int],
        steps: Sequence[Step],
        rows: int,
        seconds: float,
        budget: CpuBudget,
        reservation: str,
    ) -> dict[str, Any]:
        """What a child tells of the steps on the first rows of a data set's version, the newest for 0.

        Raises not_found, unknown_version, invalid_value, limit_exceeded; forbidden for who does not see all columns.
        """
        await asyncio.to_thread(check_steps, steps, known_zone)
        more = {"preview": _within(rows, _MOST) or _ROWS, "learned": None}
        return await self._ask(principal, place, steps, more, seconds, budget, reservation)

    async def propose(
        self,
        principal: Principal,
        place: tuple[str, int],
        rows: int,
        seconds: float,
        budget: CpuBudget,
        reservation: str,
    ) -> dict[str, Any]:
        """Steps for a data set's version with the reason for each, from its first rows. Raises as `preview` does."""
        more = {"propose": _within(rows, _MOST_LOOKED_AT) or _LOOKED_AT}
        return await self._ask(principal, place, (), more, seconds, budget, reservation)

    async def _ask(
        self,
        principal: Principal,
        place: tuple[str, int],
        steps: Sequence[Step],
        more: dict[str, Any],
        seconds: float,
        budget: CpuBudget,
        reservation: str,
    ) -> dict[str, Any]:
        usage = unused("", "query", budget, DEFAULT_QUERY_SECONDS)
        await self._data_sets.check_seen(principal, place[0])
        location = await self._data_sets.locate(principal.scope, *place)
        planned(steps, location.version.columns)
        limits = waited_for(self._limits, seconds)
        async with self._free.turn(principal.scope.tenant), self._data_sets.local(principal.scope, location) as local:
            request = table_request(local, steps) | more
            return await self._metering.run_once(principal.scope, usage, reservation, WORK, request, limits)


def _within(rows: int, most: int) -> int:
    if not 0 <= rows <= most:
        raise invalid("/rows", f"must lie between 0 and {most}")
    return rows
