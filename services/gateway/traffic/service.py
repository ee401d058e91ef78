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
from services.gateway.traffic.domain.tensors import Fit, check, scores
from services.gateway.traffic.engines import Item, Unloaded
from services.gateway.traffic.lanes import Receiver, Target, Waiting
from services.gateway.traffic.substitutes import Substitutes
from services.gateway.traffic.table import Table
from services.kit.auth import Principal, Scope
from services.kit.errors import Failure, NotFound
from services.kit.outbox import Publisher
from services.kit.telemetry import Record, child
from services.kit.tensors import Tensor

_SCORED = 1024  # rows of one request whose scores are recorded


class Query(NamedTuple):
    """One prediction request. `deadline` is on the monotonic clock."""

    request_id: str
    deadline: float
    inputs: Sequence[Tensor]
    # Names of the outputs that are wanted; all if empty.
    outputs: Sequence[str]
    caller: Principal
    # The caller's address.
    address: str = ""
    # The caller's trace, if there is one.
    traceparent: str = ""
    # The result of an earlier check of inputs that differ from these in their values only.
    fit: Fit | None = None
    priority: Priority = Priority.INTERACTIVE
    # What it has taken from buckets.
    charge: Charge | None = None

    @property
    def tokens(self) -> int:
        """The tokens that its caller states."""
        return self.charge.tokens if self.charge else 0


class Prediction(NamedTuple):
    """An answer, and what gave it."""

    pinned: Pinned
    outputs: list[Tensor]
    # What answered in place of the requested version, as callers see it; empty: the version itself.
    degraded: str = ""


class Submitted:
    """A request that waits for its answer without a task. Its receiver gets the outputs, Unloaded or a failure."""

    __slots__ = ("_hold", "_receiver", "pinned", "query", "rows", "started", "trace", "waiting")

    def __init__(self, pinned: Pinned, query: Query, trace: str, rows: int, receiver: Receiver, hold: Hold) -> None:
        """`hold` is what it has taken from the ledger: spent with its outputs, and else given back."""
        self.pinned, self.query, self.trace, self.rows = pinned, query, trace, rows
        self.started = time.perf_counter()
        self._receiver: Receiver | None = receiver
        self._hold = hold
        self.waiting: Waiting

    def answered(self, outputs: list[Tensor]) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver:
            self._hold.spend()
            receiver.answered(outputs)

    def failed(self, error: BaseException) -> None:
        if receiver := self.ended():
            receiver.failed(error)

    def ended(self) -> Receiver | None:
        """Ends it without an answer; returns its receiver, None when it had ended before."""
        receiver, self._receiver = self._receiver, None
        if receiver:
            self._hold.release()
        return receiver


class Guard(Protocol):
    """The policies of a tenant."""

    def prediction(self, query: Query, pinned: Pinned, method: str = "ModelInfer") -> None:
        """Raises forbidden for a request of the Open Inference Protocol that they refuse."""


class Traffic(Table):
    """Predictions through the table of routes."""

    def __init__(
        self,
        publisher: Publisher,
        coalescer: Coalescer,
        record: Callable[[Record], None],
        instance: str,
        now: Callable[[], datetime],
        substitutes: Substitutes,
        spending: Spending,
        cleaner: Cleaner,
        guards: Mapping[str, Guard],
    ) -> None:
        """`instance` is this gateway; `guards` are the policies of the tenants that have some."""
        super().__init__(publisher, instance, now)
        self._coalescer, self._record, self.substitutes = coalescer, record, substitutes
        self._spending, self.cleaner, self.guards = spending, cleaner, guards

    def inspect(self, caller: Principal, pinned: Pinned, address: str, method: str) -> None:
        """Raises forbidden where the policies of its tenant refuse a caller the description of a model."""
        self._guard(pinned, Query("", 0.0, (), (), caller, address), method)

    def _guard(self, pinned: Pinned, query: Query, method: str = "ModelInfer") -> None:
        if guard := self.guards.get(query.caller.scope.tenant):
            guard.prediction(query, pinned, method)

    def screen(self, scope: Scope, pinned: Pinned, deadline: float, priority: Priority) -> None:
        """Refuses what cannot be answered now before its body is read. Raises overloaded, deadline_exceeded."""
        if not pinned.version.replaceable:  # else a substitute may answer, which needs the body
            self._coalescer.screen(Target(scope, pinned.model, pinned.version.number), deadline, priority)

    async def predict(self, pinned: Pinned, query: Query) -> Prediction:
        """The outputs for one request.

        Raises forbidden, invalid_value that names the input, rate_limited, quota_exceeded, or what the engine raises.
        """
        self._guard(pinned, query)
        cleaner, tenant = self.cleaner, query.caller.scope.tenant
        if not cleaner.watches(tenant):
            return await self._answer(pinned, query)
        # Filtered before it is sent, kept or counted: the engine and the substitutes see the filtered texts.
        inputs = await cleaner.inputs(tenant, pinned.model, query.inputs)
        found = await self._answer(pinned, query._replace(inputs=inputs, fit=None))
        return found._replace(outputs=await cleaner.outputs(tenant, pinned.model, found.outputs))

    async def _answer(self, pinned: Pinned, query: Query) -> Prediction:
        try:
            return await self._predict(pinned, query)
        except Failure as failure:
            return await self.instead(pinned, query, failure)

    async def instead(self, pinned: Pinned, query: Query, failure: Failure) -> Prediction:
        """The answer of a substitute for a version that failed. Raises the failure when there is none."""
        if not self.substitutes.wanted(pinned, failure):
            raise failure
        scope = query.caller.scope
        started, trace = time.perf_counter(), child(query.traceparent, query.request_id)
        rows = _item(pinned, query, trace).rows
        hold = await self._spending.wait(scope, query.caller.id, pinned.model, rows, query.tokens)

        async def ask(other: Pinned) -> list[Tensor]:
            self._guard(other, query)
            return await self._ask(other, query, _item(other, query._replace(fit=None), trace))

        found = None
        try:
            found = await self.substitutes.find(_question(pinned, query), pinned, self._routes, ask)
        finally:
            hold.spend() if found else hold.release()
        if found is None:
            raise failure
        took = (time.perf_counter() - started) * 1000
        self._record_prediction(found.pinned, query, trace, rows, found.outputs, took, found.step)
        return Prediction(found.pinned, found.outputs, found.step)

    async def _predict(self, pinned: Pinned, query: Query) -> Prediction:
        started, trace = time.perf_counter(), child(query.traceparent, query.request_id)
        item = _item(pinned, query, trace)
        if query.charge and query.charge.concerns(PREDICTIONS, pinned.model):
            await query.charge.take(PREDICTIONS, pinned.model, item.rows)
        caller = query.caller
        hold = await self._spending.wait(caller.scope, caller.id, pinned.model, item.rows, query.tokens)
        try:
            pinned, outputs = await self._outputs(pinned, query, item)
        except BaseException:
            hold.release()
            raise
        hold.spend()
        self._record_prediction(pinned, query, trace, item.rows, outputs, (time.perf_counter() - started) * 1000)
        return Prediction(pinned, outputs)

    def submit(self, pinned: Pinned, query: Query, receiver: Receiver) -> Submitted | None:
        """The same without a task: the receiver gets the answer, and passes it to `record_answer`.

        None for what only `predict` can do.
        """
        self._guard(pinned, query)
        if query.charge and query.charge.concerns(PREDICTIONS, pinned.model):
            return None
        trace, scope = child(query.traceparent, query.request_id), query.caller.scope
        item = _item(pinned, query, trace)
        hold = self._spending.take(scope, query.caller.id, pinned.model, item.rows, query.tokens)
        if hold is None:
            return None
        try:
            if pinned.away:
                raise routing.absent(pinned.model, pinned.version)
            submitted = Submitted(pinned, query, trace, item.rows, receiver, hold)
            target = Target(scope, pinned.model, pinned.version.number)
            submitted.waiting = self._coalescer.submit(target, item, submitted, query.priority)
        except BaseException:
            hold.release()
            raise
        return submitted

    def cancel(self, submitted: Submitted) -> bool:
        """Ends a request whose caller has gone; False if it was answered already."""
        if waits := submitted.ended() is not None:
            self._coalescer.cancel(submitted.waiting)
        return waits

    def record_answer(self, submitted: Submitted, outputs: list[Tensor], seconds: float) -> None:
        """Records the prediction of a submitted request, which took some seconds."""
        query = submitted.query
        self._record_prediction(submitted.pinned, query, submitted.trace, submitted.rows, outputs, seconds * 1000)

    async def again(self, submitted: Submitted) -> Prediction:
        """The answer of what serves now to a submitted request that is Unloaded."""
        query = submitted.query
        return await self.predict(self._pin_again(query.caller.scope, submitted.pinned), query)

    async def _outputs(self, pinned: Pinned, query: Query, item: Item) -> tuple[Pinned, list[Tensor]]:
        """The version that answered, and its outputs."""
        try:
            return pinned, await self._ask(pinned, query, item)
        except Unloaded:
            pinned = self._pin_again(query.caller.scope, pinned)
        self._guard(pinned, query)
        try:
            return pinned, await self._ask(pinned, query, _item(pinned, query, item.traceparent))
        except Unloaded:
            raise NotFound(f"{pinned.model} has no version {pinned.version.number} that is loaded") from None

    async def _ask(self, pinned: Pinned, query: Query, item: Item) -> list[Tensor]:
        if pinned.away:
            raise routing.absent(pinned.model, pinned.version)
        target = Target(query.caller.scope, pinned.model, pinned.version.number)
        return await self._coalescer.infer(target, item, query.priority)

    def _record_prediction(
        self,
        pinned: Pinned,
        query: Query,
        trace: str,
        rows: int,
        outputs: Sequence[Tensor],
        duration_ms: float,
        degraded: str = "",
    ) -> None:
        scope = query.caller.scope
        attributes = {
            "request_id": query.request_id,
            "principal": query.caller.id,
            "model": pinned.model,
            "version": pinned.version.number,
            "status": 200,
            "duration_ms": duration_ms,
            "rows": rows,
            "scores": scores(outputs, _SCORED),
        }
        if degraded:
            attributes["degraded"] = degraded
        elif pinned.version.replaceable and not self.cleaner.alters(scope.tenant, pinned.model):
            self.substitutes.keep(_question(pinned, query), pinned.version, outputs)
        self._record(Record("prediction", pinned.model, "", scope, attributes, service="gateway", trace=trace))


def _question(pinned: Pinned, query: Query) -> Question:
    return Question(query.caller.scope, pinned.version.digest, query.inputs, query.outputs)


def _item(pinned: Pinned, query: Query, trace: str) -> Item:
    """Raises invalid_value that names what does not fit the version."""
    rows = (query.fit.check if query.fit else check)(pinned.version.signature, query.inputs, query.outputs)
    return Item(query.request_id, query.deadline, query.inputs, query.outputs, trace, rows)
