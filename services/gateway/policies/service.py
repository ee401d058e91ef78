"""What one does with policies. Nothing counts before it was tried, and nothing that counts can lock out who set it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from services.gateway.access.guests import guest
from services.gateway.access.keyring import Keyring
from services.gateway.policies import events
from services.gateway.policies.domain.check import check, check_facts
from services.gateway.policies.domain.compiled import Compiled, peer
from services.gateway.policies.domain.doubts import Kind, doubts
from services.gateway.policies.domain.rules import Active, Example, Facts, Rule, Version
from services.gateway.policies.domain.trace import Trace, trace
from services.gateway.policies.guard import Guard, Refused, calling
from services.gateway.policies.store import PolicyStore
from services.gateway.roles.domain import Grant, here, roles_in
from services.kit import pages
from services.kit.auth import Principal, Scope, grants, matches
from services.kit.db import Once
from services.kit.errors import FailedPrecondition, Failure
from services.kit.pages import Page

log = logging.getLogger(__name__)
POLL = 0.5  # seconds; another version counts everywhere after one, although no event tells of it
ACTIVATE = "policies.activate"
_WEEK, _STEP = timedelta(days=7), timedelta(minutes=30)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_METHOD = "aimass.v1.Policies/ActivatePolicies"


class Wanted(NamedTuple):
    """What a caller makes a version of."""

    description: str
    rules: tuple[Rule, ...]
    examples: tuple[Example, ...]


class Failed(NamedTuple):
    """An example that comes out otherwise, by a rule or by none."""

    example: Example
    rule: str


class Explanation(NamedTuple):
    """What is decided on a request, and why."""

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
        keyring: Callable[[], Keyring],
        kinds: Callable[[], Sequence[Kind]],
        now: Callable[[], datetime],
        refused: Refused = lambda principal, request_id, facts, rule: None,
    ) -> None:
        """`kinds` are the requests that there are; `refused` is told of predictions that a rule refuses."""
        self._store, self._keyring, self._kinds, self._now, self._refused = store, keyring, kinds, now, refused
        self._active: dict[str, Active] = {}
        self._guards: dict[str, Guard] = {}
        self._away = False

    @property
    def guards(self) -> Mapping[str, Guard]:
        """Of the tenants whose policies have a rule."""
        return self._guards

    async def load(self) -> None:
        """Takes what counts from the database."""
        for active, rules in await self._store.counting():
            self._take(active, rules)

    def _take(self, active: Active, rules: Sequence[Rule]) -> None:
        """Another version counts from now on; what was read before a change does not undo it."""
        known = self._active.get(active.tenant)
        if known and known.generation >= active.generation:
            return
        self._active[active.tenant] = active
        if rules:
            self._guards[active.tenant] = Guard(Compiled(rules, active.version), self._now, self._refused)
        else:
            self._guards.pop(active.tenant, None)

    async def reload(self) -> None:
        """The same; keeps what is held when the database cannot be reached."""
        try:
            await self.load()
        except Failure as failure:
            log.warning("policies stay as they were: %s", failure)

    async def watch(self) -> None:
        """Asks the database what counts, for ever. A database that one process holds needs no asking."""
        seen = (0, 0)
        while not self._store.near:
            await asyncio.sleep(POLL)
            try:
                if (revision := await self._store.revision()) != seen:
                    await self.load()
                    seen = revision
                self._away = False
            except Failure as failure:
                if not self._away:
                    log.warning("policies stay as they were: %s", failure)
                self._away = True

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
        size, last = pages.size(page_size), pages.after(page_token, int)
        found = await self._store.versions(caller.scope.tenant, int(last[0]) if last else None, size + 1)
        return pages.cut(found, size, lambda version: (version.version,))

    async def active(self, caller: Principal) -> Active:
        """Which version counts."""
        return await self._store.active(caller.scope.tenant)

    async def test(self, caller: Principal, number: int) -> tuple[Version, list[Failed]]:
        """Tries a version, which may then be activated. Raises not_found."""
        version, now = await self.version(caller, number), self._now()
        await self._store.tested(version.tenant, number, now)
        return replace(version, test_time=now), failed(version, now)

    async def activate(self, caller: Principal, number: int, etag: str) -> Active:
        """Raises not_found, failed_precondition, etag_mismatch."""
        version, now = await self.version(caller, number), self._now()
        if wrong := failed(version, now):
            names = ", ".join(one.example.name for one in wrong)
            raise FailedPrecondition(f"policies version {number} is not what its examples say: {names}")
        if rule := await asyncio.to_thread(locking, version.rules, self._speaking(caller, now)):
            raise FailedPrecondition(f"the rule {rule} would refuse you to activate another version")
        wanted = Active(version.tenant, number, caller.id, now)
        active = await self._store.activate(wanted, etag, events.changed)
        self._take(active, version.rules)
        return active

    def _speaking(self, caller: Principal, now: datetime) -> Facts:
        """A caller who activates policies."""
        found = guest(caller)
        roles, groups = (found.roles, found.groups) if found else (self._roles(caller.id, caller.scope), ())
        project, address = caller.scope.project, peer(calling.get())
        return Facts(caller.id, ACTIVATE, now, _METHOD, "policies/1", project, roles, groups, {}, address)

    def _roles(self, principal: str, scope: Scope) -> tuple[str, ...]:
        return roles_in(self._keyring().given(scope.tenant, principal), scope.project)

    async def explain(self, caller: Principal, asked: Facts, number: int) -> Explanation:
        """What a version decides on a request, 0: the one that counts. Raises invalid_value, not_found."""
        check_facts(asked)
        tenant = caller.scope.tenant
        number = number or (await self.active(caller)).version
        rules = (await self.version(caller, number)).rules if number else ()
        given = self._keyring().given(tenant, asked.principal, asked.roles, asked.groups)
        facts = replace(asked, roles=asked.roles or roles_in(given, asked.project))
        return Explanation(facts, number, permitting(given, facts), tuple(trace(rule, facts) for rule in rules))


def permitting(given: Sequence[Grant], facts: Facts) -> tuple[Grant, ...]:
    """Of what somebody has, what lets him make a request: each with the patterns that do."""
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


def locking(rules: Sequence[Rule], facts: Facts) -> str:
    """The rule that refuses a request now, or at every time of a week once all that begins or ends has; else empty."""
    compiled = Compiled(rules)
    if rule := compiled.refusing(facts):
        return rule
    ends = [end for rule in rules for end in (rule.when.not_before, rule.when.not_after) if end]
    rest = min(max([facts.time, *ends]), _LATEST)
    refused = [compiled.refusing(replace(facts, time=rest + step * _STEP)) for step in range(_WEEK // _STEP)]
    return refused[0] if all(refused) else ""
