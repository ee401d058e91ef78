"""The table of routes: the releases of the registry, and the versions that instances have loaded."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from services.gateway.traffic import events
from services.gateway.traffic.domain import routing
from services.gateway.traffic.domain.routing import Pinned, Release, Route
from services.gateway.traffic.domain.sharing import GOLDEN, Caller
from services.kit.auth import Scope
from services.kit.balancing import Balancer, Way
from services.kit.errors import NotFound, Unavailable
from services.kit.member import Member
from services.kit.outbox import Publisher

_NOTHING = Route()
PATIENCE = 10.0  # seconds that a version waits for more instances once one has it


class Loaded(NamedTuple):
    """A version that an instance has loaded."""

    scope: Scope
    model: str
    version: int


class Table:
    """The table."""

    def __init__(self, publisher: Publisher, instance: str, now: Callable[[], datetime]) -> None:
        """`instance` is this gateway."""
        self._publisher, self._instance, self._now = publisher, instance, now
        self._routes: dict[tuple[Scope, str], Route] = {}
        # Pins by the version that requests named, for as long as the route stays.
        self._pins: dict[tuple[Scope, str], dict[str, Pinned]] = {}
        # The last point of each sharing rule of a model. One point for all rules would be exact only for all requests
        # together.
        self._turns: dict[tuple[Scope, str], dict[int, float]] = {}
        # The balancers of models whose release names one.
        self._balancers: dict[tuple[Scope, str], Balancer[Member]] = {}
        # The inference instances that can be called.
        self._instances: frozenset[str] = frozenset()
        self._touched: set[tuple[str, Loaded]] = set()
        # Since when a version that is loaded somewhere waits for more instances, on the monotonic clock.
        self._late: dict[tuple[Scope, str, int], float] = {}
        # Set when the table turned out to be wrong, so that it is asked for again.
        self.stale = asyncio.Event()
        # It has been whole once. Before, a model that it does not have may be there all the same.
        self.whole = False

    def route(self, scope: Scope, model: str, version: str) -> Pinned:
        """What answers a request: the release decides unless a version is named.

        Raises not_found, or unavailable for what is still being loaded or not known yet.
        """
        known = self._pins.get((scope, model))
        return (known and known.get(version)) or self._look_up((scope, model), version, instead=False)

    def pin(self, scope: Scope, model: str, version: str, caller: str, header: Callable[[str], str | None]) -> Pinned:
        """What answers a prediction: as `route`, and by the model's rules for who calls with which headers.

        One that is not loaded is `away`, if others may answer for it. Raises as `route` does.
        """
        key = (scope, model)
        known = self._pins.get(key)
        pinned = (known and known.get(version)) or self._look_up(key, version, instead=True)
        if not pinned.shared:
            return pinned
        return routing.share(self._routes[key], pinned, Caller(caller, header), partial(self._turn, key))

    def _look_up(self, key: tuple[Scope, str], version: str, instead: bool) -> Pinned:
        """`instead` as for `routing.pin`."""
        try:
            pinned = routing.pin(self._routes.get(key), key[1], version, instead)
            if not pinned.away:
                self._pins.setdefault(key, {})[version] = pinned
            return pinned
        except NotFound:
            if self.whole:
                raise
        raise Unavailable(f"{key[1]} is not known yet: the table of releases is awaited", retry_after=1)

    def _put(self, key: tuple[Scope, str], route: Route) -> None:
        self._routes[key] = route
        self._pins.pop(key, None)

    def _turn(self, key: tuple[Scope, str], rule: int) -> float:
        """Numbers from 0 to 1, spread as evenly as can be, for each rule by itself."""
        turns = self._turns.setdefault(key, {})
        turn = turns[rule] = (turns.get(rule, 0.5) + GOLDEN) % 1.0
        return turn

    def _forget_turns(self, key: tuple[Scope, str]) -> None:
        """Drops the points of rules that are gone."""
        release, turns = self._routes[key].release, self._turns.pop(key, {})
        rules = len(release.rules) if release and release.desired else 0
        if kept := {rule: turn for rule, turn in turns.items() if rule < rules}:
            self._turns[key] = kept

    def balancer(self, scope: Scope, model: str) -> Balancer[Member] | None:
        """The balancer of a model; None: the default one."""
        return self._balancers.get((scope, model))

    def versions(self, scope: Scope, model: str) -> list[int]:
        """The numbers of a model's versions that are loaded."""
        route = self._routes.get((scope, model), _NOTHING)
        return sorted(number for number in route.ready if number in route.known)

    def having(self, scope: Scope, model: str, version: int) -> frozenset[str]:
        """The instances that have a version loaded."""
        return self._routes.get((scope, model), _NOTHING).ready.get(version, frozenset())

    def lacking(self) -> set[Loaded]:
        """The versions that answer and that no instance has loaded."""
        there = ((key, route.answering) for key, route in self._routes.items())
        answering = (Loaded(*key, version.number) for key, version in there if version)
        return {one for one in answering if self.lacks(one)}

    def lacks(self, one: Loaded) -> bool:
        """Whether it answers, and no instance has it loaded."""
        route = self._routes.get((one.scope, one.model), _NOTHING)
        return bool(route.answering and route.answering.number == one.version and not route.ready.get(one.version))

    def lost(self, scope: Scope, model: str, version: int, instance: str) -> None:
        """An instance turned out not to have a version."""
        if route := self._routes.get((scope, model)):
            self._put((scope, model), routing.load(route, version, instance, False))
        self.stale.set()

    def _pin_again(self, scope: Scope, pinned: Pinned) -> Pinned:
        """What answers now that the pinned version is gone; a version that was named has no substitute."""
        key, number = (scope, pinned.model), pinned.version.number
        self._put(key, routing.lose(self._routes[key], number))
        self.stale.set()
        return self._look_up(key, str(number) if pinned.named else "", instead=True)

    async def release_changed(self, scope: Scope, release: Release, instances: frozenset[str]) -> None:
        """Takes in what the registry wants; `instances` are expected to load what is new in it."""
        await self._replace(scope, release.model, lambda route: routing.hear(route, release, instances))
        self._balance((scope, release.model))
        self._forget_turns((scope, release.model))

    def _balance(self, key: tuple[Scope, str]) -> None:
        release, there = self._routes[key].release, self._balancers.get(key)
        if release is None or not release.balancing:
            self._balancers.pop(key, None)
        elif there is None or there.way != release.balancing:
            self._balancers[key] = Balancer(Way(release.balancing))

    async def engine_changed(self, loaded: Loaded, instance: str, ready: bool, failed: bool = False) -> None:
        """Takes in that an instance has loaded a version, could not, or has let go of it."""
        if instance not in self._instances:
            self.stale.set()  # the next snapshot finds it
            return
        self._touched.add((instance, loaded))
        scope, model, version = loaded

        def change(route: Route) -> Route:
            return routing.fail(route, version, instance) if failed else routing.load(route, version, instance, ready)

        await self._replace(scope, model, change)

    def begin_snapshot(self) -> None:
        """From now on what is heard of versions is newer than the snapshot that is about to be asked for."""
        self._touched.clear()

    async def take_snapshot(self, instance: str, engines: Iterable[Loaded]) -> None:
        """Takes in everything that an instance has loaded: what the table has of it beside is gone."""
        self._instances |= {instance}
        taken: dict[tuple[Scope, str], set[int]] = {key: set() for key in self._routes}
        for scope, model, version in engines:
            taken.setdefault((scope, model), set()).add(version)
        for (scope, model), ready in taken.items():
            await self._replace(scope, model, self._correction(scope, model, instance, ready))

    def _correction(self, scope: Scope, model: str, instance: str, ready: set[int]) -> Callable[[Route], Route]:
        def correct(route: Route) -> Route:
            for number in {*route.ready, *ready}:
                if (instance, Loaded(scope, model, number)) not in self._touched:
                    route = routing.load(route, number, instance, number in ready)
            return route

        return correct

    async def only(self, instances: frozenset[str]) -> None:
        """Takes in that there are no other instances than these."""
        self._instances = instances
        for (scope, model), route in list(self._routes.items()):
            gone = frozenset().union(route.wanted, *route.ready.values()) - instances
            if gone:
                await self._replace(scope, model, partial(routing.leave, instances=gone))

    async def hurry(self, now: float) -> None:
        """Switches to versions that are loaded somewhere and have waited long enough for more instances."""
        waiting = {
            (*key, route.release.generation): key
            for key, route in self._routes.items()
            if route.release and routing.late(route)
        }
        self._late = {one: self._late.get(one, now) for one in waiting}
        for one, since in self._late.items():
            if now - since >= PATIENCE:
                await self._replace(*waiting[one], routing.hurry)

    async def _replace(self, scope: Scope, model: str, change: Callable[[Route], Route]) -> None:
        """Puts a new route in place, then tells the registry what is applied by it."""
        key = (scope, model)
        route = change(self._routes.get(key, _NOTHING))
        self._put(key, route)
        if generation := routing.unreported(route):
            version = route.answering.number if route.answering else 0
            applied = events.release_applied(scope, self._instance, model, generation, version, self._now())
            await self._publisher.tell([applied])
            self._put(key, routing.report(self._routes[key], generation))
