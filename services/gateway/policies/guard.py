"""Checks requests against the active policies of their tenant."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from services.gateway.access import networks
from services.gateway.policies.domain.compiled import Compiled
from services.gateway.policies.domain.doubts import Kind
from services.gateway.policies.domain.rules import Facts
from services.gateway.traffic.domain import INFER, SERVICE
from services.gateway.traffic.domain.routing import Pinned
from services.gateway.traffic.service import Query
from services.kit import contract
from services.kit.auth import Principal
from services.kit.contract import Method
from services.kit.errors import Forbidden

Refused = Callable[[Principal, str, Facts, str], None]
Decided = Callable[[str, Facts, str, int], None]


class Guard:
    """The rules of a tenant, asked for each request: time and place change although the caller does not."""

    def __init__(self, compiled: Compiled, now: Callable[[], datetime], refused: Refused, decided: Decided) -> None:
        """`refused` is told of each prediction that is refused; calls are audited where they are made.

        `decided` is told of each decision.
        """
        self.compiled, self._now, self._refused, self._decided = compiled, now, refused, decided

    def prediction(self, query: Query, pinned: Pinned, method: str = "ModelInfer") -> None:
        """Raises forbidden for a request of the Open Inference Protocol that a rule refuses."""
        facts = self._facts(
            query.caller,
            query.address,
            permission=INFER,
            method=f"{SERVICE}/{method}",
            thing=f"models/{pinned.model}",
            labels=pinned.version.labels,
            rows=max([tensor.shape[0] for tensor in query.inputs if tensor.shape], default=0),
            bytes=sum([len(tensor.raw) for tensor in query.inputs]),
        )
        rule = self.compiled.refusing(facts)
        self._decided(query.caller.scope.tenant, facts, rule, self.compiled.version)
        if rule:
            self._refused(query.caller, query.request_id, facts, rule)
            raise refusal(rule)

    def call(self, method: Method, request: Any, principal: Principal, address: str) -> None:
        """Raises forbidden for a call that a rule refuses."""
        facts = self._facts(
            principal,
            address,
            permission=method.policy.permission,
            method=method.path[1:],
            thing=method.about(request),
            bytes=request.ByteSize(),
            cost=method.policy.cost or 1,
        )
        rule = self.compiled.refusing(facts)
        self._decided(principal.scope.tenant, facts, rule, self.compiled.version)
        if rule:
            raise refusal(rule)

    def _facts(self, principal: Principal, address: str, **more: Any) -> Facts:
        return Facts(
            principal=principal.id,
            time=self._now(),
            project=principal.scope.project,
            roles=principal.roles,
            groups=principal.groups,
            address=networks.host(address),
            **more,
        )


def kinds() -> Sequence[Kind]:
    """The requests that there are."""
    public = [method for method in contract.all_methods().values() if method.public]
    calls = [Kind(m.policy.permission, m.path[1:], m.policy.resource, m.policy.cost or 1) for m in public]
    models = ("ModelInfer", "ModelReady", "ModelMetadata")
    return [*calls, *(Kind(INFER, f"{SERVICE}/{name}", "models/{model}", prediction=True) for name in models)]


def refusal(rule: str) -> Forbidden:
    """The failure for a request that a rule refuses."""
    return Forbidden(f"the policy rule {rule} refuses it")
