"""Roles and bindings. No caller hands out permissions that it lacks."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from services.gateway.roles import builtin, domain, events
from services.gateway.roles.book import Rolebook
from services.gateway.roles.domain import Binding, Grant, Holder, Role, RoleChange
from services.gateway.roles.store import RoleStore
from services.kit import pages
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import AlreadyExists, Forbidden, InvalidValue, NotFound, Violation, invalid
from services.kit.pages import Page
from services.kit.resources import undeleted


class Holders(Protocol):
    """Principals that can have roles: keys, and users and groups of issuers."""

    def holds(self, caller: Principal) -> Holder:
        """What a caller may hand out."""

    def holder(self, tenant: str, principal: str) -> Holder | None:
        """A principal of a tenant, if there is one."""

    def settle(self, tenant: str = "") -> None:
        """What the principals of a tenant may is another from now on; empty: of all tenants."""


class Roles:
    """The use cases; `book` is what keys are settled by."""

    def __init__(self, store: RoleStore, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self.book = Rolebook()
        self.holders: Holders | None = None

    async def load(self) -> None:
        """Takes all roles and bindings from the database."""
        self.book.take(*await self._store.everything())

    async def revision(self) -> tuple[int, ...]:
        """Other numbers whenever a role or a binding has changed."""
        return await self._store.revision()

    async def create(self, caller: Principal, name: str, wanted: RoleChange, once: Once | None) -> Role:
        """Raises already_exists, invalid_value, forbidden."""
        await self._store.recall(once)
        permissions = tuple(dict.fromkeys(wanted.permissions or ()))
        domain.check_permissions(permissions)
        if name in builtin.roles():
            raise AlreadyExists(f"{name} is built in")
        self._hand_out(caller, Grant(permissions))
        now = self._now()
        role = Role(name, caller.scope.tenant, wanted.description or "", permissions, now, now)
        return self._noted(await self._store.create_role(role, events.role_changed(role, now), once))

    async def get(self, caller: Principal, name: str) -> Role:
        """Raises not_found, also for a deleted one."""
        role = builtin.roles().get(name) or await self._store.role(caller.scope.tenant, name)
        domain.live(role)
        return role

    async def list(self, caller: Principal, page_size: int, page_token: str, show_deleted: bool) -> Page[Role]:
        """By name, with those that are built in."""
        size, last = pages.size(page_size), pages.after(page_token, str)
        after = str(last[0]) if last else ""
        made = await self._store.roles(caller.scope.tenant, after, size + 1, show_deleted)
        known = [role for name, role in builtin.roles().items() if name > after]
        return pages.cut(sorted([*made, *known], key=lambda role: role.role), size, lambda role: (role.role,))

    async def update(self, caller: Principal, name: str, change: RoleChange, etag: str) -> Role:
        """Raises not_found, failed_precondition, etag_mismatch, invalid_value, forbidden."""
        self._of_tenant(name)

        def work(role: Role) -> Role:
            new = domain.changed(role, change, etag, self._now())
            self._widen(caller, tuple(p for p in new.permissions if p not in role.permissions))
            return new

        return await self._change(caller, name, work)

    async def delete(self, caller: Principal, name: str, etag: str) -> Role:
        """Its holders lose it. Raises not_found, failed_precondition, etag_mismatch."""
        self._of_tenant(name)
        return await self._change(caller, name, lambda role: domain.deleted(role, etag, self._now()))

    async def undelete(self, caller: Principal, name: str) -> Role:
        """Its holders have it again. Raises not_found, failed_precondition, forbidden."""
        self._of_tenant(name)

        def work(role: Role) -> Role:
            self._widen(caller, role.permissions if role.delete_time else ())
            return undeleted(role, self._now())

        return await self._change(caller, name, work)

    async def bind(self, caller: Principal, wanted: Binding, once: Once | None) -> Binding:
        """Raises already_exists, invalid_value, forbidden, limit_exceeded."""
        await self._store.recall(once)
        domain.check_places(wanted.projects, wanted.objects)
        self._give(caller, wanted)
        event = events.binding_changed(wanted, wanted.create_time)
        return self._bound(await self._store.create_binding(wanted, event, once))

    async def binding(self, caller: Principal, name: str) -> Binding:
        """Raises not_found, also for a deleted one."""
        found = await self._store.binding(caller.scope.tenant, name)
        if found.delete_time:
            raise NotFound(f"there is no binding {name}")
        return found

    async def bindings(self, caller: Principal, page_size: int, page_token: str, show_deleted: bool) -> Page[Binding]:
        """By name."""
        return await self._store.bindings(caller.scope.tenant, page_size, page_token, show_deleted)

    async def unbind(self, caller: Principal, name: str, etag: str) -> Binding:
        """Takes the role back. Raises not_found, etag_mismatch."""
        now = self._now()
        return await self._rebind(caller, name, now, lambda binding: domain.unbound(binding, etag, now))

    async def bind_again(self, caller: Principal, name: str) -> Binding:
        """Gives the role again. Raises not_found, forbidden, invalid_value, limit_exceeded."""

        def work(binding: Binding) -> Binding:
            if binding.delete_time:
                self._give(caller, binding)
            return domain.bound_again(binding)

        return await self._rebind(caller, name, self._now(), work)

    def named(self, tenant: str, names: Sequence[str]) -> tuple[Role, ...]:
        """Roles that a tenant has. Raises invalid_value for one that it has not."""
        found = []
        for index, name in enumerate(names):
            role = self.book.role(tenant, name)
            if role is None:
                raise InvalidValue(f"there is no role {name}", [Violation(f"/roles/{index}", "must be a role")])
            found.append(role)
        return tuple(found)

    @property
    def _holders(self) -> Holders:
        assert self.holders, "set by AccessService"
        return self.holders

    def _give(self, caller: Principal, binding: Binding) -> None:
        """Raises invalid_value, forbidden for a binding that the caller may not make."""
        found = self._holders.holder(binding.tenant, binding.principal)
        if found is None:
            rule = "must be a key of the tenant (key:abcd1234), or of an issuer of it (user:corp:ann, group:corp:staff)"
            raise invalid("/principal", rule)
        role = self.book.role(binding.tenant, binding.role)
        if role is None:
            raise InvalidValue(f"there is no role {binding.role}", [Violation("/role", "must be a role")])
        self._hand_out(caller, Grant(role.permissions, binding.projects, binding.objects))
        ends = self._holders.holds(caller).ends
        if ends and (found.ends is None or found.ends > ends):
            raise Forbidden("a key that expires cannot give what outlives it")

    def _widen(self, caller: Principal, more: tuple[str, ...]) -> None:
        if more and self._holders.holds(caller).ends:
            raise Forbidden("a key that expires cannot give what outlives it")
        self._hand_out(caller, Grant(more))

    def _hand_out(self, caller: Principal, wanted: Grant) -> None:
        if lacks := domain.lacking(self._holders.holds(caller).grants, wanted):
            raise Forbidden(f"the caller lacks {lacks} and cannot hand it out")

    @staticmethod
    def _of_tenant(name: str) -> None:
        if found := builtin.roles().get(name):
            domain.own(found)

    async def _change(self, caller: Principal, name: str, change: Callable[[Role], Role]) -> Role:
        return self._noted(await self._store.change_role(caller.scope.tenant, name, change, events.role_changed))

    async def _rebind(
        self, caller: Principal, name: str, now: datetime, change: Callable[[Binding], Binding]
    ) -> Binding:
        tenant = caller.scope.tenant
        return self._bound(await self._store.change_binding(tenant, name, now, change, events.binding_changed))

    def _noted(self, role: Role) -> Role:
        self.book.take([role], [])
        self._holders.settle(role.tenant)
        return role

    def _bound(self, binding: Binding) -> Binding:
        self.book.take([], [binding])
        self._holders.settle(binding.tenant)
        return binding
