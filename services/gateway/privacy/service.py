"""What one does with filters of personal data; `policies` is what requests and records go through."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.gateway.privacy import domain, events
from services.gateway.privacy.domain import PrivacyFilter
from services.gateway.privacy.store import PrivacyStore
from services.kit import pages
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import Failure
from services.kit.pages import Page
from services.kit.privacy import filtering
from services.kit.privacy.policies import Policies, policy_of

log = logging.getLogger(__name__)
POLL = 0.5  # seconds; a filter counts everywhere after one, although no event tells of it


class PrivacyService:
    """The use cases."""

    def __init__(self, store: PrivacyStore, policies: Policies, now: Callable[[], datetime]) -> None:
        self._store, self.policies, self._now = store, policies, now
        self._away = False

    async def load(self) -> None:
        """Takes all filters from the database."""
        for found in await self._store.everything():
            self._take(found)

    async def reload(self) -> None:
        """The same, and keeps what is held when the database cannot be reached."""
        try:
            await self.load()
            self._away = False
        except Failure as failure:
            if not self._away:
                log.warning("privacy filters stay as they were: %s", failure)
            self._away = True

    async def watch(self) -> None:
        """Asks the database for changes of other gateways, for ever. One that this process holds needs no asking."""
        seen: tuple[int, ...] = ()
        while not self._store.near:
            await asyncio.sleep(POLL)
            try:
                if (revision := await self._store.revision()) != seen:
                    await self.load()
                    seen, self._away = revision, False
            except Failure as failure:
                if not self._away:
                    log.warning("privacy filters stay as they were: %s", failure)
                self._away = True

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
        size, last = pages.size(page_size), pages.after(page_token, str)
        found = await self._store.page(caller.scope.tenant, str(last[0]) if last else "", size + 1, deleted)
        return pages.cut(found, size, lambda one: (one.privacy_filter,))

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
        return await self._change(caller, name, lambda found: domain.undeleted(found, self._now()))

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
