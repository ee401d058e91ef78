"""Predictions: which version answers, asked for together with others, counted."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from services.gateway.ledger.spending import Spending
from services.gateway.overload.priority import Priority
from services.gateway.traffic import events
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.domain import routing
from services.gateway.traffic.domain.routing import Pinned, Release, Route
from services.gateway.traffic.domain.tensors import Fit, Tensor, check, scores
from services.gateway.traffic.engines import Item, Unloaded
from services.gateway.traffic.lanes import Target
from services.gateway.traffic.store import TrafficStore
from services.kit.auth import Scope
from services.kit.errors import NotFound, Unavailable
from services.kit.telemetry import Record, child

_SCORED = 1024  # rows of one request whose scores are told to the log centre
_NOTHING = Route()
PATIENCE = 10.0  # seconds that a version waits for more instances once one has it


class Query(NamedTuple):
    """What a caller wants to know. `deadline` is on the monotonic clock."""

    request_id: str
    deadline: float
    inputs: Sequence[Tensor]
    # Names of the outputs that are wanted; all if empty.
    outputs: Sequence[str] = ()
    principal: str = ""
    # The caller's trace, if he is in one.
    traceparent: str = ""
    # What is known of the fitting of inputs that differ from others in their values only.
    fit: Fit | None = None
    priority: Priority = Priority.INTERACTIVE


class Prediction(NamedTuple):
    """An answer, and what gave it."""

    pinned: Pinned
    outputs: list[Tensor]


class Begun(NamedTuple):
    """A request that was asked: `answer` will have its outputs, or Unloaded, or another failure."""

    pinned: Pinned
    query: Query
    trace: str
    rows: int
    started: float
    answer: asyncio.Future[list[Tensor]]


class Loaded(NamedTuple):
    """A version that an instance has loaded."""

    scope: Scope
    model: str
    version: int


class Traffic:
    """The table of routes, and predictions through it."""

    def __init__(
        self,
        store: TrafficStore,
        coalescer: Coalescer,
        record: Callable[[Record], None],
        instance: str,
        now: Callable[[], datetime],
    ) -> None:
        """`instance` is this gateway."""
        self._store, self._coalescer, self._record = store, coalescer, record
        self._instance, self._now = instance, now
        self._routes: dict[tuple[Scope, str], Route] = {}
        # The inference instances that can be asked.
        self._instances: frozenset[str] = frozenset()
        self._touched: set[tuple[str, Loaded]] = set()
        # Since when a version that is loaded somewhere waits for more instances, on the monotonic clock.
        self._late: dict[tuple[Scope, str, int], float] = {}
        # What counts what is used; without it nothing is.
        self.spending: Spending | None = None
        # Set when the table turned out to be wrong, so that it is asked for again.
        self.stale = asyncio.Event()
        # It has been whole once. Before, a model that it does not have may be there all the same.
        self.whole = False

    def route(self, scope: Scope, model: str, version: str) -> Pinned:
        """What answers a request: the release decides unless a version is named.

        Raises not_found, or unavailable for what is still being loaded or not known yet.
        """
        try:
            return routing.pin(self._routes.get((scope, model)), model, version)
        except NotFound:
            if self.whole:
                raise
        raise Unavailable(f"{model} is not known yet: the table of releases is awaited", retry_after=1)

    def versions(self, scope: Scope, model: str) -> list[int]:
        """The numbers of a model's versions that are loaded."""
        route = self._routes.get((scope, model), _NOTHING)
        return sorted(number for number in route.ready if number in route.known)

    def screen(self, scope: Scope, pinned: Pinned, deadline: float, priority: Priority) -> None:
        """Refuses what cannot be answered now before it is read. Raises overloaded, deadline_exceeded."""
        self._coalescer.screen(Target(scope, pinned.model, pinned.version.number), deadline, priority)

    def having(self, scope: Scope, model: str, version: int) -> frozenset[str]:
        """The instances that have a version loaded."""
        return self._routes.get((scope, model), _NOTHING).ready.get(version, frozenset())

    def lost(self, scope: Scope, model: str, version: int, instance: str) -> None:
        """An instance turned out not to have a version."""
        if route := self._routes.get((scope, model)):
            self._routes[scope, model] = routing.load(route, version, instance, False)
        self.stale.set()

    async def predict(self, scope: Scope, pinned: Pinned, query: Query) -> Prediction:
        """The outputs for one request.

        Raises invalid_value that names the input, quota_exceeded, or what the engine says.
        """
        started = time.perf_counter()
        trace = child(query.traceparent)
        item, hold = _item(pinned, query, trace), None
        if self.spending is not None:
            hold = await self.spending.wait(scope, query.principal, pinned.model, item.rows)
        try:
            pinned, outputs = await self._outputs(scope, pinned, query, item)
        except BaseException:
            if hold is not None:
                hold.release()
            raise
        if hold is not None:
            hold.spend()
        self._tell(scope, pinned, query, trace, item.rows, outputs, (time.perf_counter() - started) * 1000)
        return Prediction(pinned, outputs)

    def begin(self, scope: Scope, pinned: Pinned, query: Query) -> Begun | None:
        """The same in two parts, for who has no task to wait in; None for what only `predict` can do.

        Raises invalid_value, quota_exceeded, overloaded.
        """
        started, trace = time.perf_counter(), child(query.traceparent)
        item, hold = _item(pinned, query, trace), None
        if self.spending is not None:
            hold = self.spending.take(scope, query.principal, pinned.model, item.rows)
            if hold is None:
                return None
        try:
            answer = self._coalescer.submit(Target(scope, pinned.model, pinned.version.number), item, query.priority)
        except BaseException:
            if hold is not None:
                hold.release()
            raise
        if hold is not None:
            answer.add_done_callback(hold.ended)
        return Begun(pinned, query, trace, item.rows, started, answer)

    def end(self, scope: Scope, begun: Begun, outputs: list[Tensor]) -> Prediction:
        """Counts what was begun, when its outputs are there."""
        pinned, query, trace, rows, started, _ = begun
        self._tell(scope, pinned, query, trace, rows, outputs, (time.perf_counter() - started) * 1000)
        return Prediction(pinned, outputs)

    async def again(self, scope: Scope, begun: Begun) -> Prediction:
        """What was begun and is Unloaded, by what answers now."""
        return await self.predict(scope, self._pin_again(scope, begun.pinned), begun.query)

    async def _outputs(self, scope: Scope, pinned: Pinned, query: Query, item: Item) -> tuple[Pinned, list[Tensor]]:
        """What answered, and what it said."""
        try:
            return pinned, await self._ask(scope, pinned, item, query.priority)
        except Unloaded:
            pinned = self._pin_again(scope, pinned)
        try:
            return pinned, await self._ask(scope, pinned, _item(pinned, query, item.traceparent), query.priority)
        except Unloaded:
            raise NotFound(f"{pinned.model} has no version {pinned.version.number} that is loaded") from None

    async def _ask(self, scope: Scope, pinned: Pinned, item: Item, priority: Priority) -> list[Tensor]:
        target = Target(scope, pinned.model, pinned.version.number)
        return await self._coalescer.infer(target, item, priority)

    def _pin_again(self, scope: Scope, pinned: Pinned) -> Pinned:
        """What answers now that the pinned version is gone; a version that was named has no substitute."""
        key, number = (scope, pinned.model), pinned.version.number
        self._routes[key] = routing.lose(self._routes[key], number)
        self.stale.set()
        return self.route(scope, pinned.model, str(number) if pinned.named else "")

    def _tell(
        self,
        scope: Scope,
        pinned: Pinned,
        query: Query,
        trace: str,
        rows: int,
        outputs: Sequence[Tensor],
        duration_ms: float,
    ) -> None:
        attributes = {
            "request_id": query.request_id,
            "principal": query.principal,
            "model": pinned.model,
            "version": pinned.version.number,
            "status": 200,
            "duration_ms": duration_ms,
            "rows": rows,
            "scores": scores(outputs, _SCORED),
        }
        self._record(Record("prediction", pinned.model, "", scope, attributes, service="gateway", trace=trace))

    async def release_changed(self, scope: Scope, release: Release, instances: frozenset[str]) -> None:
        """Takes in what the registry wants; `instances` are expected to load what is new in it."""
        await self._replace(scope, release.model, lambda route: routing.hear(route, release, instances))

    async def engine_changed(self, loaded: Loaded, instance: str, ready: bool, failed: bool = False) -> None:
        """Takes in that an instance has loaded a version, could not, or has let go of it."""
        if instance not in self._instances:
            self.stale.set()  # where it is shows when it is asked
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
        route = self._routes[key] = change(self._routes.get(key, _NOTHING))
        if generation := routing.unreported(route):
            version = route.answering.number if route.answering else 0
            applied = events.release_applied(scope, self._instance, model, generation, version, self._now())
            await self._store.tell([applied])
            self._routes[key] = routing.report(self._routes[key], generation)


def _item(pinned: Pinned, query: Query, trace: str) -> Item:
    """Raises invalid_value that names what does not fit the version."""
    rows = (query.fit.check if query.fit else check)(pinned.version.signature, query.inputs, query.outputs)
    return Item(query.request_id, query.deadline, query.inputs, query.outputs, trace, rows)
