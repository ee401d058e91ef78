"""What can be done with releases, and what drives a change to its end.

Stages of versions belong to the slice `models`. They follow the release in transactions of their own: before the one
that ends a change, so that whoever waits for its operation sees them, and after it, so that they say what was decided.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.kit.operations import Operations
from services.kit.pages import Page
from services.registry.models.domain import Version
from services.registry.models.service import Models
from services.registry.releases import domain, traffic
from services.registry.releases.domain import Change, Party, Release, Released
from services.registry.releases.store import Store
from services.registry.releases.traffic import Rule

log = logging.getLogger(__name__)
_METHOD = "aimass.v1.Releases/"
_LOOK = 1.0  # seconds between looks for changes that take too long


class Releases:
    """The release of every model. `patience`: how long a change may take; the parties: who must have switched, and who
    may say that a version cannot be loaded."""

    def __init__(
        self,
        store: Store,
        models: Models,
        operations: Operations,
        patience: timedelta,
        gateways: Callable[[], Party],
        engines: Callable[[], Party],
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._models, self._operations = store, models, operations
        self._patience, self._gateways, self._engines, self._now = patience, gateways, engines, now
        # The instances that could not load what a change under way wants, and what the last one said.
        self._failed: dict[tuple[Scope, str, int], dict[str, str]] = {}
        # Generations under way whose version an instance has loaded: it is not the version that is at fault.
        self._loaded = set[tuple[Scope, str, int]]()

    async def promote(
        self, scope: Scope, model: str, version: int, reason: str, etag: str, once: Once | None
    ) -> Operation:
        """Raises not_found, in_progress, etag_mismatch, failed_precondition."""
        await self._store.recall(once)
        target = await self._target(scope, model, version)

        def decide(release: Release | None, operation: str) -> Release:
            return domain.begin(release, model, target, etag, self._change(operation, reason or "promoted"))

        return await self._begin(scope, model, "PromoteVersion", decide, once)

    async def roll_back(self, scope: Scope, model: str, reason: str, once: Once | None) -> Operation:
        """Raises not_found, in_progress, failed_precondition."""
        await self._store.recall(once)
        await self._models.get(scope, model)
        before = domain.rollback_target(await self._store.get(scope, model), model)
        target = await self._target(scope, model, before.version)

        def decide(release: Release | None, operation: str) -> Release:
            change = self._change(operation, reason or "rolled back")
            began = domain.begin(release, model, target, "", change)
            if domain.rollback_target(release, model) != target:
                raise Failure(Code.CONFLICT, f"the release of {model} has changed since")
            return began

        return await self._begin(scope, model, "RollbackRelease", decide, once)

    async def withdraw(self, scope: Scope, model: str, reason: str, once: Once | None) -> Operation:
        """Raises not_found, in_progress."""
        await self._store.recall(once)
        await self._models.get(scope, model)

        def decide(release: Release | None, operation: str) -> Release:
            return domain.begin(release, model, None, "", self._change(operation, reason or "withdrawn"))

        return await self._begin(scope, model, "WithdrawRelease", decide, once)

    async def get(self, scope: Scope, model: str) -> Release:
        """Raises not_found."""
        return domain.found(await self._store.get(scope, model), model)

    async def page(self, scope: Scope, page_size: int, page_token: str) -> Page[Release]:
        """By model."""
        return await self._store.page(scope, page_size, page_token)

    async def share(self, scope: Scope, model: str, rules: Sequence[Rule], balancing: str, etag: str) -> Release:
        """The release with other rules of traffic. Raises not_found, invalid_value, etag_mismatch, in_progress."""
        rules = traffic.checked(rules)
        named = traffic.Traffic(tuple(rules)).versions
        try:
            await self.get(scope, model)
            versions = [_released(await self._models.want(scope, model, version)) for version in sorted(named)]

            def decide(there: Release) -> Release:
                changed = traffic.change(there.traffic, model, rules, balancing, etag, self._now())
                return domain.share(there, changed, versions, self._now())

            return domain.found(await self._store.change(scope, model, decide), model)
        finally:  # what was wanted and is not shared now is free again
            await self._models.follow(scope, model, *_places(await self._store.get(scope, model)))

    def all(self) -> AsyncIterator[tuple[Scope, Release]]:
        """Every release of every tenant."""
        return self._store.all()

    async def loaded(self, scope: Scope, model: str, version: int, generation: int, instance: str) -> None:
        """An instance has loaded what a generation wants: noted as progress."""
        release = await self._store.get(scope, model)
        if release and domain.waits_for(release, version, generation):
            self._loaded.add((scope, model, generation))
            await self._operations.progress(scope, release.operation, 0.6, "switching", f"loaded by {instance}")

    async def applied(self, scope: Scope, model: str, gateway: str, generation: int, once: Once | None) -> None:
        """A gateway has switched. When all have, the change is done."""

        def decide(release: Release) -> Release:
            return domain.apply(release, gateway, generation, self._gateways(), self._now())

        await self._decide(scope, model, decide, once)

    async def _decide(
        self, scope: Scope, model: str, decide: Callable[[Release], Release], once: Once | None = None
    ) -> None:
        before = await self._store.get(scope, model)
        if before and (after := decide(before)) != before:
            if not after.operation:
                await self._models.follow(scope, model, *_places(after))
            await self._end(scope, await self._store.change(scope, model, decide, once))

    async def failed(
        self, scope: Scope, model: str, version: int, generation: int, instance: str, reason: str, once: Once | None
    ) -> None:
        """An instance cannot load the version of a generation. When none can, what served goes on serving."""
        release = await self._store.get(scope, model)
        if release is None or not domain.waits_for(release, version, generation):
            return
        others = {key: said for key, said in self._failed.items() if key[:2] != (scope, model)}
        failed = self._failed.get((scope, model, generation), {}) | {instance: reason}
        self._failed = others | {(scope, model, generation): failed}
        if self._engines().living is None and self._hopeless(scope, model, generation):
            await self._fail(scope, model, generation, FailedPrecondition(reason[:900]), once)
        else:  # the table of who lives may lack somebody at this moment: `watch` looks again
            log.warning("%s in %s is not loaded by %s: %s", model, scope.tenant, instance, reason)

    def _hopeless(self, scope: Scope, model: str, generation: int) -> bool:
        """All instances have said that they cannot load the version of a generation."""
        key = (scope, model, generation)
        failed = self._failed.get(key, {})
        return bool(failed) and key not in self._loaded and self._engines().all_of(failed)

    async def cancelled(self, scope: Scope, operation: str) -> None:
        """Somebody wants a change to stop: what served goes on serving."""
        if release := await self._store.of_operation(scope, operation):
            reason = FailedPrecondition("the change was cancelled")
            await self._fail(scope, release.model, release.generation, reason, None, cancelled=True)

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
            log.warning("the release of %s in %s goes back: %s", model, scope.tenant, failure.detail)
            await self._end(scope, await self._store.change(scope, model, decide, once, failure, cancelled))

    async def resume(self) -> None:
        """After a start: changes that were under way have their full time again, and stages say what releases say."""
        deadline = self._now() + self._patience
        for scope, release in await self._store.under_way():
            await self._store.change(scope, release.model, lambda there: domain.extend(there, deadline))
            await self._follow(scope, release)
        if await self._store.lead():
            await self._free()

    async def _free(self) -> None:
        """Versions that are wanted for nothing may be deleted again: only a process that died leaves such."""
        for scope, model in await self._models.wanted():
            if release_now := await self._store.get(scope, model):
                await self._follow(scope, release_now)
            else:
                await self._models.follow(scope, model, 0, ())

    async def watch(self) -> None:
        """Ends changes that wait for nobody any more, fails those that take too long; runs until the process stops."""
        while True:
            await asyncio.sleep(min(_LOOK, self._patience.total_seconds() / 4))
            try:
                await self._give_up()
                if not self._store.leads():
                    if not await self._store.lead():
                        continue
                    await self._free()
                await self._settle()
                for scope, release in await self._store.under_way(overdue_at=self._now()):
                    text = f"no gateway switched within {self._patience.total_seconds():g} s"
                    failure = Failure(Code.DEADLINE_EXCEEDED, text)
                    await self._fail(scope, release.model, release.generation, failure, None)
            except Failure as failure:
                log.warning("changes of releases are not watched: %s", failure)

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

    def _change(self, operation: str, reason: str) -> Change:
        now = self._now()
        return Change(operation, reason, now, now + self._patience)

    async def _target(self, scope: Scope, model: str, version: int) -> Released:
        """A version that is to serve; it and those with a share stay. Raises not_found, failed_precondition."""
        release = await self._store.get(scope, model)
        try:
            for other in release.shared if release else ():
                await self._share(scope, model, other.version)
            return _released(await self._models.want(scope, model, version))
        except Failure:
            if release:
                await self._follow(scope, await self.get(scope, model))
            raise

    async def _share(self, scope: Scope, model: str, version: int) -> None:
        try:
            await self._models.want(scope, model, version)
        except NotFound as failure:  # deleted while the model was withdrawn
            raise FailedPrecondition(f"{failure.detail}, and it has a share of the traffic") from None

    async def _begin(
        self,
        scope: Scope,
        model: str,
        method: str,
        decide: Callable[[Release | None, str], Release],
        once: Once | None,
    ) -> Operation:
        try:
            return await self._store.begin(scope, model, _METHOD + method, decide, once)
        finally:
            # Also when it was refused: the version that was wanted for it must be free again.
            release = await self._store.get(scope, model)
            await self._models.follow(scope, model, *_places(release))
            await self._operations.tell()

    async def _end(self, scope: Scope, release: Release | None) -> None:
        if release:
            await self._follow(scope, release)
        await self._operations.tell()

    async def _follow(self, scope: Scope, release: Release) -> None:
        await self._models.follow(scope, release.model, *_places(release))


def _places(release: Release | None) -> tuple[int, frozenset[int]]:
    """The version that serves, 0 for none, and those that are wanted beside it."""
    return domain.number(release.serving) if release else 0, domain.wanted(release)


def _released(version: Version) -> Released:
    made_of = version.contents
    digests = made_of.digest, made_of.graph_digest
    return Released(version.version, *digests, made_of.signature, made_of.serving, made_of.labels)
