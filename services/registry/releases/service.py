"""The use cases of releases; `handshake` brings a change to its end."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

from aimass.v1.operations_pb2 import Operation
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.kit.pages import Page
from services.registry.database import schema
from services.registry.models.domain import Version
from services.registry.models.service import Models
from services.registry.releases import domain, traffic
from services.registry.releases.domain import Change, Release, Released
from services.registry.releases.store import Store
from services.registry.releases.traffic import Rule

_METHOD = "aimass.v1.Releases/"


class Releases:
    """The use cases: one release for each model."""

    def __init__(self, store: Store, models: Models, patience: timedelta, now: Callable[[], datetime]) -> None:
        """`patience`: how long a change may take."""
        self._store, self._models, self._patience, self._now = store, models, patience, now

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

    async def update_traffic(
        self, scope: Scope, model: str, rules: Sequence[Rule], balancing: str, etag: str
    ) -> Release:
        """The release with other rules of traffic. Raises not_found, invalid_value, etag_mismatch, in_progress."""
        rules = traffic.checked(rules)
        named = traffic.Traffic(tuple(rules)).versions
        try:
            await self.get(scope, model)
            versions = [_released(await self._models.want(scope, model, version)) for version in sorted(named)]

            def decide(there: Release) -> Release:
                changed = traffic.change(there.traffic, model, rules, balancing, etag, self._now())
                return domain.with_traffic(there, changed, versions, self._now())

            return domain.found(await self._store.change(scope, model, decide), model)
        finally:  # what was wanted and is not shared now is free again
            await self._follow(scope, model)

    def all(self) -> AsyncIterator[tuple[Scope, Release]]:
        """Every release of every tenant."""
        return self._store.all()

    def _change(self, operation: str, reason: str) -> Change:
        now = self._now()
        return Change(operation, reason, now, now + self._patience)

    async def _target(self, scope: Scope, model: str, version: int) -> Released:
        """A version that is to serve; it and those with a share stay. Raises not_found, failed_precondition."""
        release = await self._store.get(scope, model)
        try:
            for other in release.shared if release else ():
                await self._want_shared(scope, model, other.version)
            return _released(await self._models.want(scope, model, version))
        except Failure:
            if release:
                await self._follow(scope, model)
            raise

    async def _want_shared(self, scope: Scope, model: str, version: int) -> None:
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
            await self._follow(scope, model)
            await schema.operations.tell()

    async def _follow(self, scope: Scope, model: str) -> None:
        await self._models.follow(scope, model, *domain.places(await self._store.get(scope, model)))


def _released(version: Version) -> Released:
    made_of = version.contents
    return Released(
        version.version, made_of.digest, made_of.graph_digest, made_of.signature, made_of.serving, made_of.labels
    )
