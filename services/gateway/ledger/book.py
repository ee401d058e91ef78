"""All quotas of the installation in memory: no request asks a database for them."""

from collections.abc import Iterable

from services.gateway.ledger import domain
from services.gateway.ledger.domain import Quota


class Quotabook:
    """Quotas by tenant and subject. None is ever forgotten: a deleted one is known to be deleted."""

    def __init__(self) -> None:
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._subjects: dict[str, frozenset[str]] = {}
        # Grows with each change.
        self.turn = 0

    def take(self, quotas: Iterable[Quota]) -> None:
        """Knows these from now on; what was read before a change does not undo it."""
        for quota in quotas:
            known = self._quotas.get((quota.tenant, quota.quota))
            if known is None or quota.generation > known.generation:
                self._quotas[quota.tenant, quota.quota] = quota
                self.turn += 1
        subjects: dict[str, set[str]] = {}
        for quota in self._quotas.values():
            if quota.delete_time is None:
                subjects.setdefault(quota.tenant, set()).add(quota.subject)
        self._subjects = {tenant: frozenset(found) for tenant, found in subjects.items()}

    def limits(self, tenant: str, project: str, principal: str) -> bool:
        """Whether a quota limits a principal in a project."""
        found = self._subjects.get(tenant)
        return found is not None and not found.isdisjoint(domain.subjects(project, principal))

    def has(self, tenant: str, principal: str) -> bool:
        """Whether a principal has a quota of its own."""
        return principal in self._subjects.get(tenant, ())
