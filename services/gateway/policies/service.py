"""Policies: a version is active only after its test, and none can lock out the caller that activates it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from services.gateway.access import networks
from services.gateway.access.caller import address, guest
from services.gateway.access.keyring import Keyring
from services.gateway.following import Following
from services.gateway.policies import events
from services.gateway.policies.domain.check import check, check_facts
from services.gateway.policies.domain.compiled import Compiled
from services.gateway.policies.domain.doubts import Kind, doubts
from services.gateway.policies.domain.rules import Active, Decision, Example, Facts, Rule, Version
from services.gateway.policies.domain.trace import Trace, trace
from services.gateway.policies.guard import Guard, Refused
from services.gateway.policies.recorder import EVERY, Recorder
from services.gateway.policies.store.decisions import DecisionStore
from services.gateway.policies.store.versions import PolicyStore
from services.gateway.roles.domain import Grant, here, roles_in
from services.gateway.traffic.domain import INFER
from services.kit import pages
from services.kit.auth import Principal, Scope, grants, matches
from services.kit.db import Once
from services.kit.errors import FailedPrecondition
from services.kit.pages import Page

ACTIVATE = "policies.activate"
_WEEK, _STEP = timedelta(days=7), timedelta(minutes=30)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_METHOD = "aimass.v1.Policies/ActivatePolicies"


class Wanted(NamedTuple):
    """The content of a new version."""

    description: str
    rules: tuple[Rule, ...]
    examples: tuple[Example, ...]


class Failed(NamedTuple):
    """An example that comes out otherwise, by a rule or by none."""

    example: Example
    rule: str


class Change(NamedTuple):
    """A decision that would be another, by a rule or by none."""

    decision: Decision
    rule: str


class Trial(NamedTuple):
    """The result of a test of a version: failed examples, and decisions that would change."""

    version: Version
    failed: list[Failed]
    decisions: int
    newly_refused: int
    newly_allowed: int
    changes: Page[Change]


class Explanation(NamedTuple):
    """The decision on a request, and its reasons."""

    facts: Facts
    version: int
    permitted_by: tuple[Grant, ...]
    rules: tuple[Trace, ...]

    @property
    def rule(self) -> str:
        """The first that refuses; empty: none does."""
        return next((one.rule.name for one in self.rules if one.refuses), "")


class Policies:
    """The use cases; `guards` is what requests are checked against."""

    def __init__(
        self,
        store: PolicyStore,
        decisions: DecisionStore,
        recorder: Recorder,
        keyring: Callable[[], Keyring],
        kinds: Callable[[], Sequence[Kind]],
        now: Callable[[], datetime],
        refused: Refused = lambda principal, request_id, facts, rule: None,
    ) -> None:
        """`recorder` keeps a sample of what is decided; `kinds` are the requests that there are; `refused` is told of
        predictions that a rule refuses.
        """
        self._store, self._keyring, self._kinds, self._now, self._refused = store, keyring, kinds, now, refused
        self._decisions, self._recorder, recorder.again = decisions, recorder, self._look
        self._active: dict[str, Active] = {}
        self._guards: dict[str, Guard] = {}
        self._own: dict[str, Guard] = {}
        # The tenants whose policies have a rule, the known tenants, and the guard of tenants without rules.
        self._ruled, self._met = set[str](), set[str]()
        self._free = Guard(Compiled(()), now, refused, self._decided)
        self.following = Following("policies", store.near, store.revision, self.load)

    @property
    def guards(self) -> Mapping[str, Guard]:
        """The guards of predictions: of tenants with rules, and of others while their decisions are sampled."""
        return self._guards

    def of(self, tenant: str) -> Guard:
        """The guard of calls of a tenant: unlike predictions, all of them are sampled."""
        return self._own.get(tenant, self._free)

    def _decided(self, tenant: str, facts: Facts, rule: str, version: int) -> None:
        hot = facts.permission == INFER
        if not self._recorder.take(tenant, facts, rule, version, hot) and tenant not in self._ruled:
            self._guards.pop(tenant, None)

    def _look(self, tenants: Iterable[str]) -> None:
        """Looks at the decisions of tenants again."""
        for tenant in tenants:
            self._guards.setdefault(tenant, self.of(tenant))

    def meet(self) -> None:
        """Looks at the decisions of tenants that are new."""
        if len(self._met) != self._keyring().tenants:
            new = self._keyring().names() - self._met
            self._met |= new
            self._look(new)

    async def load(self) -> None:
        """Takes the active versions from the database."""
        for active, rules in await self._store.counting():
            self._take(active, rules)

    def _take(self, active: Active, rules: Sequence[Rule]) -> None:
        """Another version is active from now on; what was read before a change does not undo it."""
        known = self._active.get(active.tenant)
        if known and known.generation >= active.generation:
            return
        self._active[active.tenant] = active
        guard = Guard(Compiled(rules, active.version), self._now, self._refused, self._decided)
        self._guards[active.tenant] = self._own[active.tenant] = guard
        (self._ruled.add if rules else self._ruled.discard)(active.tenant)

    async def look(self) -> None:
        """Looks at the decisions of tenants that are new, for ever."""
        while True:
            self.meet()
            await asyncio.sleep(EVERY)

    async def create(self, caller: Principal, wanted: Wanted, once: Once | None) -> Version:
        """Raises invalid_value, limit_exceeded."""
        await self._store.recall(once)
        check(wanted.rules, wanted.examples)
        now, tenant = self._now(), caller.scope.tenant
        found = await asyncio.to_thread(doubts, wanted.rules, self._kinds(), now)

        def make(number: int) -> Version:
            return Version(tenant, number, wanted.description, wanted.rules, wanted.examples, found, caller.id, now)

        return await self._store.create(tenant, make, once)

    async def version(self, caller: Principal, number: int) -> Version:
        """Raises not_found."""
        return await self._store.version(caller.scope.tenant, number)

    async def versions(self, caller: Principal, page_size: int, page_token: str) -> Page[Version]:
        """Newest first."""
        return await self._store.versions(caller.scope.tenant, page_size, page_token)

    async def active(self, caller: Principal) -> Active:
        """Which version is active."""
        return await self._store.active(caller.scope.tenant)

    async def test(self, caller: Principal, number: int, page_size: int, page_token: str) -> Trial:
        """Tries a version, which may then be activated. Raises not_found."""
        size, last = pages.size(page_size), pages.after(page_token, str)
        version, now = await self.version(caller, number), self._now()
        decided = await self._decisions.newest(version.tenant)
        changed = await asyncio.to_thread(changes, version.rules, decided)
        await self._store.tested(version.tenant, number, now)
        shown = [one for one in changed if not last or one.decision.decision < str(last[0])][: size + 1]
        page = pages.cut(shown, size, lambda one: (one.decision.decision,))
        refused = sum(bool(one.rule) for one in changed)
        tried, allowed = replace(version, test_time=now), len(changed) - refused
        return Trial(tried, failed(version, now), len(decided), refused, allowed, page)

    async def decisions(self, caller: Principal, page_size: int, page_token: str) -> Page[Decision]:
        """Newest first."""
        return await self._decisions.page(caller.scope.tenant, page_size, page_token)

    async def activate(self, caller: Principal, number: int, etag: str) -> Active:
        """Raises not_found, failed_precondition, etag_mismatch."""
        version, now = await self.version(caller, number), self._now()
        if wrong := failed(version, now):
            names = ", ".join(one.example.name for one in wrong)
            raise FailedPrecondition(f"policies version {number} fails its examples: {names}")
        if rule := await asyncio.to_thread(locking, version.rules, self._activation(caller, now)):
            raise FailedPrecondition(f"the rule {rule} would refuse you to activate another version")
        wanted = Active(version.tenant, number, caller.id, now)
        active = await self._store.activate(wanted, etag, events.changed)
        self._take(active, version.rules)
        return active

    def _activation(self, caller: Principal, now: datetime) -> Facts:
        """The request of a caller that activates policies."""
        found = guest(caller)
        roles, groups = (found.roles, found.groups) if found else (self._roles(caller.id, caller.scope), ())
        project, where = caller.scope.project, networks.host(address())
        return Facts(caller.id, ACTIVATE, now, _METHOD, "policies/1", project, roles, groups, {}, where)

    def _roles(self, principal: str, scope: Scope) -> tuple[str, ...]:
        return roles_in(self._keyring().given(scope.tenant, principal), scope.project)

    async def recorded(self, caller: Principal, decision: str) -> Facts:
        """A request that was decided on. Raises not_found."""
        return (await self._decisions.one(caller.scope.tenant, decision)).facts

    async def explain(self, caller: Principal, asked: Facts, number: int) -> Explanation:
        """The decision of a version on a request; 0: the active one. Raises invalid_value, not_found."""
        check_facts(asked)
        tenant = caller.scope.tenant
        number = number or (await self.active(caller)).version
        rules = (await self.version(caller, number)).rules if number else ()
        given = self._keyring().given(tenant, asked.principal, asked.roles, asked.groups)
        facts = replace(asked, roles=asked.roles or roles_in(given, asked.project))
        return Explanation(facts, number, permitting(given, facts), tuple(trace(rule, facts) for rule in rules))


def permitting(given: Sequence[Grant], facts: Facts) -> tuple[Grant, ...]:
    """The grants that permit a request, each with the patterns that do."""
    found = []
    for grant in here(given, facts.project):
        patterns = tuple(pattern for pattern in grant.permissions if grants(pattern, facts.permission))
        if patterns and (not grant.objects or any(matches(one, facts.thing) for one in grant.objects if facts.thing)):
            found.append(grant._replace(permissions=patterns))
    return tuple(found)


def failed(version: Version, now: datetime) -> list[Failed]:
    """The examples that come out otherwise; those without a time are for now."""
    compiled, found = Compiled(version.rules), []
    for example in version.examples:
        rule = compiled.refusing(replace(example.facts, time=now) if example.timeless else example.facts)
        if example.allowed == bool(rule):
            found.append(Failed(example, rule))
    return found


def changes(rules: Sequence[Rule], decided: Sequence[Decision]) -> list[Change]:
    """The decisions that would be others by some rules, in their order."""
    compiled = Compiled(rules)
    now = [Change(decision, compiled.refusing(decision.facts)) for decision in decided]
    return [change for change in now if bool(change.rule) != bool(change.decision.rule)]


def locking(rules: Sequence[Rule], facts: Facts) -> str:
    """The rule that refuses a request now, or at every time of a week once all that begins or ends has; else empty."""
    compiled = Compiled(rules)
    if rule := compiled.refusing(facts):
        return rule
    ends = [end for rule in rules for end in (rule.when.not_before, rule.when.not_after) if end]
    rest = min(max([facts.time, *ends]), _LATEST)
    refused = [compiled.refusing(replace(facts, time=rest + step * _STEP)) for step in range(_WEEK // _STEP)]
    return refused[0] if all(refused) else ""
