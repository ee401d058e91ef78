"""Limits: their use cases."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from services.gateway.following import Following
from services.gateway.limiting import domain, events
from services.gateway.limiting.book import Limitbook
from services.gateway.limiting.domain import Rule, Terms
from services.gateway.limiting.store import LimitStore
from services.kit.auth import Principal
from services.kit.errors import Code, Failure, Forbidden, InvalidValue, NotFound, Violation
from services.kit.pages import Page

_MOST = 100  # limits of one tenant: each is looked at for each new caller


class Tenants(Protocol):
    """The tenants of the installation."""

    async def tenant(self, caller: Principal, name: str) -> object:
        """A tenant that a caller may see. Raises not_found."""

    def administers(self, caller: Principal) -> bool:
        """Whether a caller administers the installation."""


class Limiting:
    """The use cases; `book` is what requests are checked against."""

    def __init__(
        self, store: LimitStore, tenants: Tenants, routes: Callable[[], Sequence[str]], now: Callable[[], datetime]
    ) -> None:
        """`routes` are what limits of routes can be for."""
        self._store, self._tenants, self._routes, self._now = store, tenants, routes, now
        self.book = Limitbook()
        self.following = Following("limits", store.near, store.revision, self.start)

    async def start(self) -> None:
        """Takes all limits from the database."""
        self.book.take(await self._store.everything())

    async def set(self, caller: Principal, name: str, terms: Terms, tenant: str, etag: str) -> Rule:
        """Raises invalid_value, not_found, forbidden, etag_required, etag_mismatch, limit_exceeded."""
        whose = await self._whose(caller, tenant, imposing=True)
        domain.check(terms)
        if terms.level == domain.ROUTE and not any(domain.matches(terms.object, route) for route in self._routes()):
            rule = "must be, or begin, the name of a route"
            raise InvalidValue(f"there is no route {terms.object}", [Violation("/object", rule)])
        now = self._now()
        wanted = Rule(name, whose, terms, bool(tenant), now, now)

        def change(old: Rule | None, there: int) -> Rule:
            new = domain.settled(old, wanted, etag)
            if there >= _MOST and not tenant and (old is None or old.delete_time):
                raise Failure(Code.LIMIT_EXCEEDED, f"{whose} has {_MOST} limits, and no more are possible")
            return new

        return self._noted(await self._store.change(whose, name, change, events.limit_changed))

    async def get(self, caller: Principal, name: str, tenant: str) -> Rule:
        """Raises not_found, also for a deleted one."""
        rule = await self._store.rule(await self._whose(caller, tenant), name)
        domain.live(rule)
        return rule

    async def list(self, caller: Principal, tenant: str, page_size: int, page_token: str) -> Page[Rule]:
        """By name. Raises not_found."""
        return await self._store.rules(await self._whose(caller, tenant), page_size, page_token)

    async def delete(self, caller: Principal, name: str, tenant: str, etag: str) -> Rule:
        """Raises not_found, forbidden, etag_mismatch."""
        whose = await self._whose(caller, tenant, imposing=True)

        def change(old: Rule | None, there: int) -> Rule:
            if old is None:
                raise NotFound(f"there is no limit {name}")
            return domain.deleted(old, etag, bool(tenant), self._now())

        return self._noted(await self._store.change(whose, name, change, events.limit_changed))

    async def _whose(self, caller: Principal, tenant: str, imposing: bool = False) -> str:
        """The tenant that a call is about: the caller's unless one is named. Raises not_found, forbidden."""
        if not tenant:
            return caller.scope.tenant
        await self._tenants.tenant(caller, tenant)
        if imposing and not self._tenants.administers(caller):
            raise Forbidden("limits are imposed by administrators of the installation")
        return tenant

    def _noted(self, rule: Rule) -> Rule:
        self.book.take([rule])
        return rule
