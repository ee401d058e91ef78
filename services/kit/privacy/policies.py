"""A tenant's filters, by what they are for: methods, models, streams of log records."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aimass.v1 import privacy_pb2 as pb
from services.kit.privacy.filtering import Action, Filter, Rule, Rules, joined

_ACTIONS = {
    pb.PRIVACY_ACTION_MASK: Action.MASK,
    pb.PRIVACY_ACTION_HASH: Action.HASH,
    pb.PRIVACY_ACTION_REFUSE: Action.REFUSE,
}
_REMEMBERED = 10_000  # places whose joined filters are cached
_NONE = Rules(())
Place = tuple[str, str, str]  # a tenant, what kind of place it is, and which


@dataclass(frozen=True)
class Policy:
    """A privacy filter of a tenant."""

    tenant: str
    name: str
    generation: int
    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    answers: bool = False
    rules: Rules = _NONE
    deleted: bool = False


def policy_of(wire: pb.PrivacyFilter, tenant: str, generation: int) -> Policy:
    """The filter of a message."""
    rules = tuple(Rule(r.detector, _ACTIONS[r.action], r.pattern) for r in wire.rules if r.action in _ACTIONS)
    return Policy(
        tenant,
        wire.privacy_filter,
        generation,
        methods=tuple(wire.methods),
        models=tuple(wire.models),
        streams=tuple(wire.streams),
        answers=wire.answers,
        rules=Rules(rules),
        deleted=wire.HasField("delete_time"),
    )


class Policies:
    """All filters of the installation, in memory. For a tenant without filters a call costs one look-up."""

    def __init__(self, derive: Callable[[str], bytes]) -> None:
        """`derive` gives the key for a purpose, the same in every process of the installation."""
        self._derive = derive
        self._policies: dict[str, dict[str, Policy]] = {}
        # The filters that are not deleted, by tenant.
        self._live: dict[str, tuple[Policy, ...]] = {}
        self._found: dict[Place, Filter | None] = {}
        self._keys: dict[str, bytes] = {}

    def take(self, policies: Iterable[Policy]) -> None:
        """Adds filters; an older generation does not replace a newer one."""
        for policy in policies:
            of = self._policies.setdefault(policy.tenant, {})
            known = of.get(policy.name)
            if known is None or policy.generation > known.generation:
                of[policy.name] = policy
                self._settle(policy.tenant)

    def _settle(self, tenant: str) -> None:
        live = tuple(policy for policy in self._policies[tenant].values() if not policy.deleted)
        self._found.clear()
        if live:
            self._live[tenant] = live
        else:
            self._live.pop(tenant, None)

    def method(self, tenant: str, name: str) -> Filter | None:
        """The filter of requests of a method, such as `Models/CreateModel`."""
        return self._filter((tenant, "method", name)) if tenant in self._live else None

    def model(self, tenant: str, name: str) -> Filter | None:
        """The filter of inputs of a model."""
        return self._filter((tenant, "model", name)) if tenant in self._live else None

    def answer(self, tenant: str, kind: str, name: str) -> Filter | None:
        """The filter of answers of a method or a model."""
        return self._filter((tenant, f"{kind} answer", name)) if tenant in self._live else None

    def stream(self, tenant: str, name: str) -> Filter | None:
        """The filter of log records of a stream, such as `gateway/access`."""
        return self._filter((tenant, "stream", name)) if tenant in self._live else None

    def recorded(self, tenant: str) -> Filter | None:
        """All filters of a tenant together, for what is recorded of its requests."""
        return self._filter((tenant, "", "")) if tenant in self._live else None

    def _filter(self, place: Place) -> Filter | None:
        try:
            return self._found[place]
        except KeyError:
            pass
        tenant, kind, name = place
        rules = joined([policy.rules for policy in self._live.get(tenant, ()) if _covers(policy, kind, name)])
        strict = kind in ("method", "model")
        made = Filter(rules if strict else rules.lenient, lambda: self._key(tenant)) if rules.rules else None
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[place] = made
        return made

    def _key(self, tenant: str) -> bytes:
        if tenant not in self._keys:
            self._keys[tenant] = self._derive(f"privacy/{tenant}")
        return self._keys[tenant]


def _covers(policy: Policy, kind: str, name: str) -> bool:
    """Whether a filter applies to a place; an empty kind: every place."""
    if not kind:
        return True
    if kind.endswith(" answer") and not policy.answers:
        return False
    patterns = {"method": policy.methods, "model": policy.models, "stream": policy.streams}[kind.partition(" ")[0]]
    return any(pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in patterns)
