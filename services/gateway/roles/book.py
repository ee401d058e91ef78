"""All roles and bindings of the installation in memory: no request asks a database for them."""

from collections.abc import Iterable, Sequence

from services.gateway.roles import builtin
from services.gateway.roles.domain import Binding, Grant, Role


class Rolebook:
    """Roles and bindings by tenant. None is ever forgotten: a deleted one is known to be deleted."""

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str], Role] = {}
        self._bindings: dict[str, dict[str, dict[str, Binding]]] = {}

    def take(self, roles: Iterable[Role], bindings: Iterable[Binding]) -> None:
        """Knows these from now on; what was read before a change does not undo it."""
        for role in roles:
            known = self._roles.get((role.tenant, role.role))
            if known is None or role.generation >= known.generation:
                self._roles[role.tenant, role.role] = role
        for binding in bindings:
            of = self._bindings.setdefault(binding.tenant, {}).setdefault(binding.principal, {})
            bound = of.get(binding.binding)
            if bound is None or binding.generation >= bound.generation:
                of[binding.binding] = binding

    def role(self, tenant: str, name: str) -> Role | None:
        """A role that a tenant has and that is not deleted."""
        found = builtin.roles().get(name) or self._roles.get((tenant, name))
        return found if found and not found.delete_time else None

    def grants(
        self, tenant: str, principal: str, roles: Sequence[str], groups: Sequence[str] = ()
    ) -> tuple[Grant, ...]:
        """The grants of a principal by its roles, by its bindings, and by those of its groups."""
        found = [Grant(role.permissions, role=name) for name in roles if (role := self.role(tenant, name))]
        of = self._bindings.get(tenant, {})
        for binding in [binding for name in (principal, *groups) if name in of for binding in of[name].values()]:
            role = None if binding.delete_time else self.role(tenant, binding.role)
            if role:
                found.append(Grant(role.permissions, binding.projects, binding.objects, role.role, binding.binding))
        return tuple(found)
