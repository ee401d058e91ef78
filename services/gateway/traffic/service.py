"""Predictions: which version answers, asked for together with others, counted."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from services.gateway.charging import Charge
from services.gateway.ledger.account import Hold
from services.gateway.ledger.spending import Spending
from services.gateway.limiting.domain import PREDICTIONS
from services.gateway.overload.priority import Priority
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.traffic.answers import Question
from services.gateway.traffic.coalescing import Coalescer
from services.gateway.traffic.domain import routing
from services.gateway.traffic.domain.routing import Pinned
from services.gateway.traffic.domain.tensors import Fit, Tensor, check, scores
from services.gateway.traffic.engines import Item, Unloaded
from services.gateway.traffic.lanes import Asker, Target, Waiting
from services.gateway.traffic.store import TrafficStore
from services.gateway.traffic.substitutes import Substitutes
from services.gateway.traffic.table import Table
from services.kit.auth import Principal, Scope
from services.kit.errors import Failure, NotFound
from services.kit.telemetry import Record, child

_SCORED = 1024  # rows of one request whose scores are told to the log centre


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
    # What it has taken from buckets.
    charge: Charge | None = None
    # Whom the policies of his tenant are asked about, and where he calls from.
    caller: Principal | None = None
    address: str = ""

    @property
    def tokens(self) -> int:
        """What its caller states."""
        return self.charge.tokens if self.charge else 0


class Prediction(NamedTuple):
    """An answer, and what gave it."""

    pinned: Pinned
    outputs: list[Tensor]
    # What answered in place of the version that was asked, as callers see it; empty: it did itself.
    degraded: str = ""


class Begun:
    """A request that was asked. Who asked is told of its outputs, of Unloaded or of another failure."""

    __slots__ = ("_asker", "_hold", "pinned", "query", "rows", "started", "trace", "waiting")

    def __init__(self, pinned: Pinned, query: Query, trace: str, rows: int, asker: Asker, hold: Hold | None) -> None:
        """`hold` is what it has taken from the ledger: spent with its outputs, and else given back."""
        self.pinned, self.query, self.trace, self.rows = pinned, query, trace, rows
        self.started = time.perf_counter()
        self._asker: Asker | None = asker
        self._hold = hold
        self.waiting: Waiting

    def told(self, outputs: list[Tensor]) -> None:
        asker, self._asker = self._asker, None
        if asker:
            if self._hold is not None:
                self._hold.spend()
            asker.told(outputs)

    def failed(self, error: BaseException) -> None:
        if asker := self.ended():
            asker.failed(error)

    def ended(self) -> Asker | None:
        """It came to nothing; gives who does not know yet."""
        asker, self._asker = self._asker, None
        if asker and self._hold is not None:
            self._hold.release()
        return asker


class Guard(Protocol):
    """The policies of a tenant."""

    def prediction(self, query: Query, pinned: Pinned, method: str = "ModelInfer") -> None:
        """Raises forbidden for a request of the Open Inference Protocol that they refuse."""


class Traffic(Table):
    """Predictions through the table of routes."""

    def __init__(
        self,
        store: TrafficStore,
        coalescer: Coalescer,
        record: Callable[[Record], None],
        instance: str,
        now: Callable[[], datetime],
        substitutes: Substitutes,
    ) -> None:
        """`instance` is this gateway."""
        super().__init__(store, instance, now)
        self._coalescer, self._record, self.substitutes = coalescer, record, substitutes
        # The policies of the tenants that have some.
        self.guards: Mapping[str, Guard] = {}
        # What counts what is used; without it nothing is.
        self.spending: Spending | None = None
        # Filters texts of inputs and outputs.
        self.cleaner: Cleaner | None = None

    def look(self, principal: Principal, pinned: Pinned, address: str, method: str) -> None:
        """Raises forbidden for who may not look at a model by the policies of his tenant."""
        if guard := self.guards.get(principal.scope.tenant):
            guard.prediction(Query("", 0.0, (), caller=principal, address=address), pinned, method)

    def _guard(self, scope: Scope, pinned: Pinned, query: Query) -> None:
        if guard := self.guards.get(scope.tenant):
            guard.prediction(query, pinned)

    def screen(self, scope: Scope, pinned: Pinned, deadline: float, priority: Priority) -> None:
        """Refuses what cannot be answered now before it is read. Raises overloaded, deadline_exceeded."""
        if not pinned.version.replaceable:  # else somebody may answer who has to read it
            self._coalescer.screen(Target(scope, pinned.model, pinned.version.number), deadline, priority)

    async def predict(self, scope: Scope, pinned: Pinned, query: Query) -> Prediction:
        """The outputs for one request.

        Raises forbidden, invalid_value that names the input, rate_limited, quota_exceeded, or what the engine says.
        """
        self._guard(scope, pinned, query)
        cleaner, tenant = self.cleaner, scope.tenant
        if cleaner is None or not cleaner.watches(tenant):
            return await self._found(scope, pinned, query)
        # Before what is kept, asked or counted of it: whoever answers sees the filtered texts.
        inputs = await cleaner.inputs(tenant, pinned.model, query.inputs)
        found = await self._found(scope, pinned, query._replace(inputs=inputs, fit=None))
        return found._replace(outputs=await cleaner.outputs(tenant, pinned.model, found.outputs))

    async def _found(self, scope: Scope, pinned: Pinned, query: Query) -> Prediction:
        try:
            return await self._predict(scope, pinned, query)
        except Failure as failure:
            return await self.instead(scope, pinned, query, failure)

    async def instead(self, scope: Scope, pinned: Pinned, query: Query, failure: Failure) -> Prediction:
        """The answer of who may answer for a version that failed. Raises the failure when nobody may or can."""
        if not self.substitutes.wanted(pinned, failure):
            raise failure
        started, trace, hold = time.perf_counter(), child(query.traceparent, query.request_id), None
        rows = _item(pinned, query, trace).rows
        if self.spending is not None:
            hold = await self.spending.wait(scope, query.principal, pinned.model, rows, query.tokens)

        async def ask(other: Pinned) -> list[Tensor]:
            self._guard(scope, other, query)
            return await self._ask(scope, other, _item(other, query._replace(fit=None), trace), query.priority)

        found = None
        try:
            found = await self.substitutes.find(_question(scope, pinned, query), pinned, self._routes, ask)
        finally:
            if hold is not None:
                hold.spend() if found else hold.release()
        if found is None:
            raise failure
        took = (time.perf_counter() - started) * 1000
        self._tell(scope, found.pinned, query, trace, rows, found.outputs, took, found.step)
        return Prediction(found.pinned, found.outputs, found.step)

    async def _predict(self, scope: Scope, pinned: Pinned, query: Query) -> Prediction:
        started, trace = time.perf_counter(), child(query.traceparent, query.request_id)
        item, hold = _item(pinned, query, trace), None
        if query.charge and query.charge.concerns(PREDICTIONS, pinned.model):
            await query.charge.take(PREDICTIONS, pinned.model, item.rows)
        if self.spending is not None:
            hold = await self.spending.wait(scope, query.principal, pinned.model, item.rows, query.tokens)
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

    def begin(self, scope: Scope, pinned: Pinned, query: Query, asker: Asker) -> Begun | None:
        """The same in two parts, for who has no task to wait in.

        None for what only `predict` can do.
        """
        self._guard(scope, pinned, query)
        if query.charge and query.charge.concerns(PREDICTIONS, pinned.model):
            return None
        trace = child(query.traceparent, query.request_id)
        item, hold = _item(pinned, query, trace), None
        if self.spending is not None:
            hold = self.spending.take(scope, query.principal, pinned.model, item.rows, query.tokens)
            if hold is None:
                return None
        try:
            if pinned.away:
                raise routing.absent(pinned.model, pinned.version)
            begun = Begun(pinned, query, trace, item.rows, asker, hold)
            target = Target(scope, pinned.model, pinned.version.number)
            begun.waiting = self._coalescer.submit(target, item, begun, query.priority)
        except BaseException:
            if hold is not None:
                hold.release()
            raise
        return begun

    def drop(self, begun: Begun) -> bool:
        """Its asker has gone, and is told nothing; False if he was told already."""
        if waits := begun.ended() is not None:
            self._coalescer.cancel(begun.waiting)
        return waits

    def end(self, scope: Scope, begun: Begun, outputs: list[Tensor], seconds: float) -> None:
        """Tells of what was begun and answered, which took some seconds."""
        self._tell(scope, begun.pinned, begun.query, begun.trace, begun.rows, outputs, seconds * 1000)

    async def again(self, scope: Scope, begun: Begun) -> Prediction:
        """What was begun and is Unloaded, by what answers now."""
        return await self.predict(scope, self._pin_again(scope, begun.pinned), begun.query)

    async def _outputs(self, scope: Scope, pinned: Pinned, query: Query, item: Item) -> tuple[Pinned, list[Tensor]]:
        """What answered, and what it said."""
        try:
            return pinned, await self._ask(scope, pinned, item, query.priority)
        except Unloaded:
            pinned = self._pin_again(scope, pinned)
        self._guard(scope, pinned, query)
        try:
            return pinned, await self._ask(scope, pinned, _item(pinned, query, item.traceparent), query.priority)
        except Unloaded:
            raise NotFound(f"{pinned.model} has no version {pinned.version.number} that is loaded") from None

    async def _ask(self, scope: Scope, pinned: Pinned, item: Item, priority: Priority) -> list[Tensor]:
        if pinned.away:
            raise routing.absent(pinned.model, pinned.version)
        target = Target(scope, pinned.model, pinned.version.number)
        return await self._coalescer.infer(target, item, priority)

    def _tell(
        self,
        scope: Scope,
        pinned: Pinned,
        query: Query,
        trace: str,
        rows: int,
        outputs: Sequence[Tensor],
        duration_ms: float,
        degraded: str = "",
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
        if degraded:
            attributes["degraded"] = degraded
        elif pinned.version.replaceable and not (self.cleaner and self.cleaner.alters(scope.tenant, pinned.model)):
            self.substitutes.keep(_question(scope, pinned, query), pinned.version, outputs)
        self._record(Record("prediction", pinned.model, "", scope, attributes, service="gateway", trace=trace))


def _question(scope: Scope, pinned: Pinned, query: Query) -> Question:
    return Question(scope, pinned.version.digest, query.inputs, query.outputs)


def _item(pinned: Pinned, query: Query, trace: str) -> Item:
    """Raises invalid_value that names what does not fit the version."""
    rows = (query.fit.check if query.fit else check)(pinned.version.signature, query.inputs, query.outputs)
    return Item(query.request_id, query.deadline, query.inputs, query.outputs, trace, rows)
