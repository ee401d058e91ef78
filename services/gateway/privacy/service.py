"""Filters of personal data; `policies` applies them to requests and records."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.gateway.following import Following
from services.gateway.privacy import domain, events
from services.gateway.privacy.domain import PrivacyFilter
from services.gateway.privacy.store import PrivacyStore
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.pages import Page
from services.kit.privacy import filtering
from services.kit.privacy.policies import Policies, policy_of
from services.kit.resources import undeleted


class PrivacyService:
    """The use cases."""

    def __init__(self, store: PrivacyStore, policies: Policies, now: Callable[[], datetime]) -> None:
        self._store, self.policies, self._now = store, policies, now
        self.following = Following("privacy filters", store.near, store.revision, self.load)

    async def load(self) -> None:
        """Takes all filters from the database."""
        for found in await self._store.everything():
            self._take(found)

    async def create(self, caller: Principal, wanted: PrivacyFilter, once: Once | None) -> PrivacyFilter:
        """Raises already_exists, invalid_value, pattern_unsupported, limit_exceeded."""
        domain.check(wanted)
        await _check_patterns(wanted)
        event = events.filter_changed(wanted, wanted.create_time)
        return self._take(await self._store.create(wanted, event, once))

    async def get(self, caller: Principal, name: str) -> PrivacyFilter:
        """Raises not_found, also for a deleted one."""
        found = await self._store.get(caller.scope.tenant, name)
        domain.live(found)
        return found

    async def list(self, caller: Principal, page_size: int, page_token: str, deleted: bool) -> Page[PrivacyFilter]:
        """By name."""
        return await self._store.page(caller.scope.tenant, page_size, page_token, deleted)

    async def update(self, caller: Principal, name: str, change: dict[str, Any], etag: str) -> PrivacyFilter:
        """Raises not_found, etag_mismatch, invalid_value, pattern_unsupported."""
        if rules := change.get("rules"):
            found = await self._store.get(caller.scope.tenant, name)
            await _check_patterns(replace(found, rules=rules))
        return await self._change(caller, name, lambda found: domain.changed(found, change, etag, self._now()))

    async def delete(self, caller: Principal, name: str, etag: str) -> PrivacyFilter:
        """Raises not_found, etag_mismatch."""
        return await self._change(caller, name, lambda found: domain.deleted(found, etag, self._now()))

    async def undelete(self, caller: Principal, name: str) -> PrivacyFilter:
        """Raises not_found, limit_exceeded."""
        return await self._change(caller, name, lambda found: undeleted(found, self._now()))

    async def _change(
        self, caller: Principal, name: str, change: Callable[[PrivacyFilter], PrivacyFilter]
    ) -> PrivacyFilter:
        return self._take(await self._store.change(caller.scope.tenant, name, change, events.filter_changed))

    def _take(self, found: PrivacyFilter) -> PrivacyFilter:
        self.policies.take([policy_of(events.filter_to_wire(found), found.tenant, found.generation)])
        return found


async def _check_patterns(wanted: PrivacyFilter) -> None:
    """Raises pattern_unsupported or invalid_value that names the rule."""
    for index, rule in enumerate(wanted.rules):
        await asyncio.to_thread(filtering.check, rule.detector, rule.pattern, f"/rules/{index}")
