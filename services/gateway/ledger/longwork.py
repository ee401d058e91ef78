"""Long work in the ledger: reserved when it is asked for, settled when the service that did it says what it used."""

import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aimass.v1 import jobs_pb2, options_pb2
from aimass.v1.data_events_pb2 import WorkEnded
from aimass.v1.operations_pb2 import Operation
from aimass.v1.trainer_events_pb2 import JobChanged
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import TRAINING, Amounts, Claim, Entry
from services.gateway.ledger.store.entries import Entries
from services.kit import fields
from services.kit.auth import Principal, Scope
from services.kit.contract import Method
from services.kit.errors import Code, Failure
from services.kit.inbox import Delivery
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
_UNBOUND = 300.0  # seconds that a reservation waits for its work
_SAYING = 60.0  # seconds that work may take to say what it used, once its caller has waited long enough
_QUEUED = 7 * 24 * 3600.0  # seconds that work may wait for its turns; what ends later is charged all the same
# After these failures it is unknown whether the work exists: its reservation waits.
_UNSURE = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL)
# And after these work that answers may have used something: its end says how much.
_USED = (Code.LIMIT_EXCEEDED, Code.QUERY_INVALID, Code.FAILED_PRECONDITION)
_ENDED = (jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED)
_MOST = 10**15  # milliseconds that are reserved at most: what says more is refused where it is asked for
# Gives what a try of the call carries: the name of what was reserved for it, nothing where nothing was.
Carry = Callable[[], Awaitable[str]]
# Makes the call, and asks before each try.
Send = Callable[[Carry], Awaitable[tuple[bytes, Any]]]


class Held:
    """What is reserved for a call."""

    def __init__(self, entry: Entry | None, again: Callable[[], Awaitable[Entry | None]] | None) -> None:
        """`again` reserves for another try; None: all tries are for the same work."""
        self.entry, self._again, self._tries = entry, again, itertools.count()

    async def carry(self) -> str:
        """What the next try carries. Raises quota_exceeded."""
        if next(self._tries) and self._again:
            self.entry = None  # the try that was lost says by it what it used
            self.entry = await self._again()
        return self.entry.entry if self.entry else ""


class LongWork:
    """Reserves for calls that the contract says it of, and hears how jobs and operations ended."""

    def __init__(self, entries: Entries, book: Quotabook, instance: str) -> None:
        self._entries, self._book, self._instance = entries, book, instance

    async def around(self, method: Method, request: Any, caller: Principal, send: Send) -> tuple[bytes, Any]:
        """The reply of a call that starts long work. Raises quota_exceeded, and what the call raises."""
        async with self.held(method, request, caller) as held:
            reply, trailers = await send(held.carry)
        if held.entry and not method.policy.reserves.answers:
            await self._try(self._entries.bind(held.entry, _reference(Operation.FromString(reply)), _QUEUED))
        return reply, trailers

    @contextlib.asynccontextmanager
    async def held(self, method: Method, request: Any, caller: Principal) -> AsyncIterator["Held"]:
        """Around a call that starts long work, or a stream that is it; for others it holds nothing. Raises
        quota_exceeded.

        A stream whose reader leaves stays reserved until its end is heard of.
        """
        if not method.policy.HasField("reserves"):
            yield Held(None, None)
            return
        answers = method.policy.reserves.answers

        async def again() -> Entry | None:
            return await self._reserve(method, request, caller)

        held = Held(await again(), again if answers else None)
        try:
            yield held
        except Failure as failure:
            if held.entry and failure.code not in (*_UNSURE, *(_USED if answers else ())):
                await self._try(self._entries.settle([(held.entry, Amounts())]))
            raise

    async def _reserve(self, method: Method, request: Any, caller: Principal) -> Entry | None:
        """Raises invalid_value, invalid_name, quota_exceeded; unavailable when quotas cannot be asked."""
        fields.check(request)
        rule, scope = method.policy.reserves, caller.scope
        most = Amounts(cpu_milliseconds=min(max(_seconds(rule, request) * 1000, 0), _MOST))
        model = request.spec.model if rule.kind == TRAINING else ""
        name = uuid7()
        entry = Entry(
            name,
            scope.tenant,
            scope.project,
            caller.id,
            rule.kind,
            model,
            reserved=most,
            reference=name if rule.answers else "",
            owner=self._instance,
        )
        try:
            seconds = max(_UNBOUND, method.deadline + _SAYING) if rule.answers else _UNBOUND
            (found,) = await self._entries.reserve([Claim(entry, most, seconds)])
        except Failure:
            if self._book.limits(scope.tenant, scope.project, caller.id):
                raise
            return None
        if isinstance(found, Failure):
            raise found
        return found

    async def changed(self, message: JobChanged, delivery: Delivery) -> None:
        """A job has changed; one that has ended is settled with what it used."""
        job = message.job
        if job.state in _ENDED and not job.HasField("delete_time"):
            used = Amounts(cpu_milliseconds=job.cpu_milliseconds)
            await self._conclude(delivery.scope, "", TRAINING, job.spec.model, used, job.job)

    async def ended(self, message: WorkEnded, delivery: Delivery) -> None:
        """Other work has ended; its use is charged to its caller, reserved or not."""
        work, used = message.work, Amounts(cpu_milliseconds=message.work.cpu_milliseconds)
        reference = work.operation or work.reservation
        await self._conclude(delivery.scope, work.principal, work.kind, "", used, reference)

    async def _conclude(
        self, scope: Scope, principal: str, kind: str, model: str, used: Amounts, reference: str
    ) -> None:
        entry = Entry(
            uuid7(),
            scope.tenant,
            scope.project,
            principal,
            kind,
            model,
            reserved=Amounts(),
            reference=reference,
            owner=self._instance,
            used=used,
        )
        await self._entries.conclude(entry)

    @staticmethod
    async def _try(work: Awaitable[Any]) -> None:
        """What cannot be written now is mended when the work has ended, or when the reservation's time is over."""
        try:
            await work
        except Failure as failure:
            log.warning("a reservation is left as it is: %s", failure)


def _seconds(rule: options_pb2.Reserved, request: Any) -> int:
    """The most seconds of processors that what a call starts may use."""
    if rule.cpu_seconds:
        return int(getattr(request, rule.cpu_seconds) or rule.cpu_seconds_unset)
    seconds = getattr(request.spec, rule.seconds) or rule.seconds_unset
    return int(seconds * (getattr(request.spec, rule.times) or rule.times_unset) * rule.processors)


def _reference(operation: Operation) -> str:
    """What the work is known by when it ends: a job by itself, all else by its operation."""
    kind, _, name = operation.resource.partition("/")
    return name if kind == "jobs" else operation.operation
