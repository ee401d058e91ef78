"""All limits of the installation in memory: no request asks a database for them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from services.gateway.limiting.domain import KEY, MODEL, REQUESTS, ROUTE, TENANT, Rule
from services.gateway.limits import Limit, Taking
from services.kit.auth import Principal

K = TypeVar("K")
V = TypeVar("V")
_KNOWN = 10_000  # callers and things whose buckets are remembered


class Counted(NamedTuple):
    """A bucket that a request takes from: as many tokens as it has of what is counted."""

    key: str
    limit: Limit
    counts: str


class Levels:
    """The limits of one tenant, by what has to be known of a request."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule, _limit(rule)) for rule in rules]
        self._first: dict[tuple[str, str], tuple[Taking, ...]] = {}
        self._then: dict[tuple[str, str, str, str], tuple[Counted, ...]] = {}

    def first(self, caller: Principal) -> tuple[Taking, ...]:
        """What a request takes when only its caller is known."""
        key = (caller.id, caller.scope.project)
        if (found := self._first.get(key)) is None:
            found = tuple(Taking(one.key, one.limit, 1.0) for one in self._find(caller, "", "", early=True))
            _remember(self._first, key, found)
        return found

    def then(self, caller: Principal, route: str, model: str) -> tuple[Counted, ...]:
        """The other buckets it takes from, once route and model are known; no model: it asks for none."""
        key = (caller.id, caller.scope.project, route, model)
        if (found := self._then.get(key)) is None:
            found = tuple(self._find(caller, route, model, early=False))
            _remember(self._then, key, found)
        return found

    def _find(self, caller: Principal, route: str, model: str, early: bool) -> Iterable[Counted]:
        project = caller.scope.project
        things = {KEY: caller.id, TENANT: "", ROUTE: route, MODEL: model}
        for rule, limit in self._rules:
            level, counts, thing = rule.terms.level, rule.terms.counts, things[rule.terms.level]
            if (level in (KEY, TENANT) and counts == REQUESTS) is not early or not (thing or level == TENANT):
                continue
            if rule.covers(project, thing):
                # Models of two projects are two, though they have one name.
                where = f"{project}/{thing}" if level == MODEL else thing
                yield Counted(f"{rule.tenant}/{rule.limit}/{level}/{counts}/{where}", limit, counts)


class Limitbook:
    """Limits by tenant. None is ever forgotten: a deleted one is known to be deleted."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, Rule]] = {}
        self._levels: dict[str, Levels] = {}

    def take(self, rules: Iterable[Rule]) -> None:
        """Knows these from now on; what was read before a change does not undo it."""
        touched = set()
        for rule in rules:
            of = self._rules.setdefault(rule.tenant, {})
            known = of.get(rule.limit)
            if known is None or rule.generation > known.generation:
                of[rule.limit] = rule
                touched.add(rule.tenant)
        for tenant in touched:
            if live := [rule for rule in self._rules[tenant].values() if not rule.delete_time]:
                self._levels[tenant] = Levels(live)
            else:
                self._levels.pop(tenant, None)

    def levels(self, tenant: str) -> Levels | None:
        """A tenant's limits; None for one that has none."""
        return self._levels.get(tenant)


def _limit(rule: Rule) -> Limit:
    terms = rule.terms
    return Limit(terms.rate, terms.burst, f"{terms.level}/{rule.limit}", terms.counts)


def _remember(known: dict[K, V], key: K, found: V) -> None:
    if len(known) >= _KNOWN:
        known.clear()
    known[key] = found
