"""Brings a change of a release to its end: instances load, gateways switch, time runs out, processes die.

Stages of versions belong to the slice `models`. They follow the release in transactions of their own: before the one
that ends a change, so that whoever waits for its operation sees them, and after it, so that they say what was decided.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure
from services.registry.database import schema
from services.registry.models.service import Models
from services.registry.releases import domain
from services.registry.releases.domain import Participants, Release
from services.registry.releases.store import Store

log = logging.getLogger(__name__)
_LEAD = "releases"  # the lease of the process that ends changes which take too long
_LOOK = 1.0  # seconds between looks for changes that take too long


class Handshake:
    """A change ends when all gateways have switched, and fails when no inference instance can load its version."""

    def __init__(
        self,
        store: Store,
        models: Models,
        patience: timedelta,
        gateways: Callable[[], Participants],
        engines: Callable[[], Participants],
        now: Callable[[], datetime],
    ) -> None:
        """`patience`: how long a change may take."""
        self._store, self._models = store, models
        self._patience, self._gateways, self._engines, self._now = patience, gateways, engines, now
        # The instances that could not load what a change under way wants, and what the last one said.
        self._failed: dict[tuple[Scope, str, int], dict[str, str]] = {}
        # Generations under way whose version an instance has loaded: it is not the version that is at fault.
        self._loaded = set[tuple[Scope, str, int]]()

    async def loaded(self, scope: Scope, model: str, version: int, generation: int, instance: str) -> None:
        """An instance has loaded what a generation wants: noted as progress."""
        release = await self._store.get(scope, model)
        if release and domain.waits_for(release, version, generation):
            self._loaded.add((scope, model, generation))
            await schema.operations.progress(scope, release.operation, 0.6, "switching", f"loaded by {instance}")

    async def applied(self, scope: Scope, model: str, gateway: str, generation: int, once: Once | None) -> None:
        """A gateway has switched. When all have, the change is done."""

        def decide(release: Release) -> Release:
            return domain.apply(release, gateway, generation, self._gateways(), self._now())

        await self._decide(scope, model, decide, once)

    async def failed(
        self, scope: Scope, model: str, version: int, generation: int, instance: str, reason: str, once: Once | None
    ) -> None:
        """An instance cannot load the version of a generation. When none can, what served goes on serving."""
        release = await self._store.get(scope, model)
        if release is None or not domain.waits_for(release, version, generation):
            return
        others = {key: failure for key, failure in self._failed.items() if key[:2] != (scope, model)}
        failed = self._failed.get((scope, model, generation), {}) | {instance: reason}
        self._failed = others | {(scope, model, generation): failed}
        if self._engines().living is None and self._hopeless(scope, model, generation):
            await self._fail(scope, model, generation, FailedPrecondition(reason[:900]), once)
        else:  # the table of who lives may lack somebody at this moment: `watch` looks again
            log.warning("%s of tenant %s could not be loaded by %s: %s", model, scope.tenant, instance, reason)

    async def cancelled(self, scope: Scope, operation: str) -> None:
        """Somebody wants a change to stop: what served goes on serving."""
        if release := await self._store.of_operation(scope, operation):
            reason = FailedPrecondition("the change was cancelled")
            await self._fail(scope, release.model, release.generation, reason, None, cancelled=True)

    async def resume(self) -> None:
        """After a start: changes that were under way have their full time again, and stages say what releases say."""
        deadline = self._now() + self._patience
        for scope, release in await self._store.under_way():
            await self._store.change(scope, release.model, lambda there: domain.extend(there, deadline))
            await self._follow(scope, release)
        if await schema.tenure.take([_LEAD]):
            await self._free()

    async def watch(self) -> None:
        """Ends changes that wait for nobody any more, fails those that take too long; runs until the process stops."""
        while True:
            await asyncio.sleep(min(_LOOK, self._patience.total_seconds() / 4))
            try:
                await self._give_up()
                if not schema.tenure.holds(_LEAD):
                    if not await schema.tenure.take([_LEAD]):
                        continue
                    await self._free()
                await self._settle()
                for scope, release in await self._store.under_way(overdue_at=self._now()):
                    text = f"no gateway switched within {self._patience.total_seconds():g} s"
                    failure = Failure(Code.DEADLINE_EXCEEDED, text)
                    await self._fail(scope, release.model, release.generation, failure, None)
            except Failure as failure:
                log.warning("changes of releases cannot be checked: %s", failure)

    async def _decide(
        self, scope: Scope, model: str, decide: Callable[[Release], Release], once: Once | None = None
    ) -> None:
        before = await self._store.get(scope, model)
        if before and (after := decide(before)) != before:
            if not after.operation:
                await self._models.follow(scope, model, *domain.places(after))
            await self._end(scope, await self._store.change(scope, model, decide, once))

    def _hopeless(self, scope: Scope, model: str, generation: int) -> bool:
        """All instances have said that they cannot load the version of a generation."""
        key = (scope, model, generation)
        failed = self._failed.get(key, {})
        return bool(failed) and key not in self._loaded and self._engines().all_of(failed)

    async def _fail(
        self,
        scope: Scope,
        model: str,
        generation: int,
        failure: Failure,
        once: Once | None,
        cancelled: bool = False,
    ) -> None:
        def decide(release: Release) -> Release:
            return domain.fail(release, generation, failure.detail, self._now())

        before = await self._store.get(scope, model)
        if before and decide(before) != before:
            log.warning("the change of the release of %s in tenant %s failed: %s", model, scope.tenant, failure.detail)
            await self._end(scope, await self._store.change(scope, model, decide, once, failure, cancelled))

    async def _free(self) -> None:
        """Versions that are wanted for nothing may be deleted again: only a process that died leaves such."""
        for scope, model in await self._models.wanted():
            await self._models.follow(scope, model, *domain.places(await self._store.get(scope, model)))

    async def _give_up(self) -> None:
        """Fails changes whose version no instance can load. Only the process that heard the instances knows of them."""
        if not (self._failed or self._loaded):
            return
        asked = self._loaded | self._failed.keys()
        waiting = {(scope, release.model, release.generation) for scope, release in await self._store.under_way()}
        ended = asked - waiting  # what was said while this was read is of changes that may have begun since
        self._failed = {key: failed for key, failed in self._failed.items() if key not in ended}
        self._loaded -= ended
        for key, failed in list(self._failed.items()):
            if self._hopeless(*key):
                reason = list(failed.values())[-1]
                await self._fail(*key, FailedPrecondition(reason[:900]), None)

    async def _settle(self) -> None:
        """Where it is known who lives: those that died are not waited for."""
        if self._gateways().living is None:
            return
        for scope, release in await self._store.under_way():
            await self._decide(scope, release.model, lambda there: domain.settle(there, self._gateways(), self._now()))

    async def _end(self, scope: Scope, release: Release | None) -> None:
        if release:
            await self._follow(scope, release)
        await schema.operations.tell()

    async def _follow(self, scope: Scope, release: Release) -> None:
        await self._models.follow(scope, release.model, *domain.places(release))
