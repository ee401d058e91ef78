"""Quotas, prices, and reports of usage."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from services.gateway.following import Following
from services.gateway.ledger import domain, events
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import GROUPS, TENANT, Price, PriceList, Question, Quota, Standing, Sum
from services.gateway.ledger.domain.prices import check_prices
from services.gateway.ledger.store.quotas import Quotas
from services.gateway.ledger.store.report import Report
from services.gateway.roles.domain import Grant, Holder, lacking
from services.kit import pages
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import Forbidden, NotFound, invalid
from services.kit.pages import Page
from services.kit.resources import undeleted


class Ledger:
    """The use cases; `book` has all quotas in memory."""

    def __init__(
        self,
        store: Quotas,
        report: Report,
        now: Callable[[], datetime],
        holds: Callable[[Principal], Holder],
        administers: Callable[[Principal], bool],
    ) -> None:
        """`holds` gives what a caller may, `administers` whether it administers the installation."""
        self._store, self._report, self._now = store, report, now
        self._holds, self._administers = holds, administers
        self.book = Quotabook()
        self.following = Following("quotas", store.near, store.revision, self.load)

    async def load(self) -> None:
        """Takes all quotas from the database."""
        self.book.take(await self._store.everything())

    async def create(self, caller: Principal, wanted: Quota, once: Once | None) -> Standing:
        """Raises already_exists, invalid_value, forbidden, not_found for a tenant that is not the caller's to see."""
        await self._store.recall(once)
        tenant = self._tenant(caller, wanted.tenant)
        domain.check(wanted)
        self._may(caller, tenant, wanted.subject, "quotas.create")
        made = replace(wanted, tenant=tenant)
        event = events.quota_changed(made, made.create_time)
        return self._noted(await self._store.create(made, event, once))

    async def get(self, caller: Principal, tenant: str, name: str) -> Standing:
        """Raises not_found, also for a deleted one."""
        found = await self._store.get(self._tenant(caller, tenant), name)
        domain.live(found.quota)
        return found

    async def list(
        self, caller: Principal, tenant: str, page_size: int, page_token: str, deleted: bool
    ) -> Page[Standing]:
        """By name."""
        size, last = pages.size(page_size), pages.after(page_token, str)
        after = str(last[0]) if last else ""
        found = await self._store.list(self._tenant(caller, tenant), after, size + 1, deleted)
        return pages.cut(found, size, lambda standing: (standing.quota.quota,))

    async def resize(self, caller: Principal, tenant: str, name: str, amount: int, etag: str) -> Standing:
        """Sets another amount. Raises not_found, etag_mismatch, invalid_value, forbidden."""
        now = self._now()
        return await self._change(
            caller, tenant, name, "quotas.update", lambda quota: domain.resized(quota, amount, etag, now)
        )

    async def delete(self, caller: Principal, tenant: str, name: str, etag: str) -> Standing:
        """Raises not_found, etag_mismatch, forbidden."""
        now = self._now()
        return await self._change(caller, tenant, name, "quotas.delete", lambda quota: domain.deleted(quota, etag, now))

    async def undelete(self, caller: Principal, tenant: str, name: str) -> Standing:
        """Raises not_found, forbidden."""
        now = self._now()
        return await self._change(caller, tenant, name, "quotas.delete", lambda quota: undeleted(quota, now))

    async def _change(
        self, caller: Principal, tenant: str, name: str, permission: str, change: Callable[[Quota], Quota]
    ) -> Standing:
        def checked(quota: Quota) -> Quota:
            self._may(caller, quota.tenant, quota.subject, permission)
            return change(quota)

        return self._noted(await self._store.change(self._tenant(caller, tenant), name, checked, events.quota_changed))

    async def usage(self, caller: Principal, asked: Question, everywhere: bool, size: int, token: str) -> Page[Sum]:
        """Sums by key. Raises invalid_value, forbidden for projects that the caller has no permission in."""
        tenant = self._tenant(caller, asked.tenant)
        unknown = next((index for index, name in enumerate(asked.group_by) if name not in GROUPS), None)
        if unknown is not None:
            raise invalid(f"/group_by/{unknown}", f"must be one of {', '.join(GROUPS)}")
        if everywhere or tenant != caller.scope.tenant:
            self._everywhere(caller, "usage.list")
            project = ""
        else:
            project = caller.scope.project
        last = pages.after(token, *([str] * (1 + len(GROUPS))))
        after = [str(part) for part in last or ()]
        size = pages.size(size)
        found = await self._report.sums(replace(asked, tenant=tenant, project=project), after, size + 1)
        return pages.cut(found, size, lambda one: one.key)

    async def add_prices(
        self,
        caller: Principal,
        currency: str,
        valid_from: datetime | None,
        prices: tuple[Price, ...],
        once: Once | None,
    ) -> PriceList:
        """Raises forbidden, invalid_value."""
        await self._store.recall(once)
        if not self._administers(caller):
            raise Forbidden("prices are created by administrators of the installation")
        now = self._now()
        made = PriceList(0, currency, valid_from or now, prices, now)
        check_prices(made, now)
        make = partial(_numbered, made)
        return await self._store.add_prices(make, events.prices_created, once)

    async def prices(self, page_size: int, page_token: str) -> Page[PriceList]:
        """By version."""
        return await self._store.prices(page_size, page_token)

    def _tenant(self, caller: Principal, named: str) -> str:
        tenant = named or caller.scope.tenant
        if tenant != caller.scope.tenant and not self._administers(caller):
            raise NotFound(f"there is no tenant {tenant}")
        return tenant

    def _may(self, caller: Principal, tenant: str, subject: str, permission: str) -> None:
        """Raises forbidden for a quota that is not the caller's to set."""
        if self.book.has(caller.scope.tenant, caller.id):
            raise Forbidden("a caller with a quota of its own cannot change quotas")
        if self._administers(caller):
            return
        if subject == TENANT:
            raise Forbidden("the quota of a tenant is set by administrators of the installation")
        kind, _, name = subject.partition(":")
        self._everywhere(caller, permission, (name,) if kind == "project" else ())

    def _everywhere(self, caller: Principal, permission: str, projects: tuple[str, ...] = ()) -> None:
        if lacking(self._holds(caller).grants, Grant((permission,), projects)):
            raise Forbidden(f"{permission} is not permitted in {projects[0] if projects else 'all projects'}")

    def _noted(self, standing: Standing) -> Standing:
        self.book.take([standing.quota])
        return standing


def _numbered(made: PriceList, version: int) -> PriceList:
    return replace(made, version=version)
