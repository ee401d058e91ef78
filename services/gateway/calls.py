"""Forwards calls from outside to the service that owns the method: in the caller's name, within the deadline."""

import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol

from google.protobuf.message import Message

from aimass.v1 import options_pb2
from services.gateway.access.caller import calling
from services.gateway.access.service import AccessService
from services.gateway.charging import Charge
from services.gateway.ledger.longwork import Carry, LongWork
from services.gateway.ledger.storage import Storage
from services.gateway.narrowing import acting
from services.gateway.overload import gate as gates
from services.gateway.overload.gate import Gate, Passage
from services.gateway.overload.priority import HEADER, lowered, priority
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.retries import ATTEMPT, Retries
from services.kit import contract
from services.kit.app import Runtime
from services.kit.auth import Principal
from services.kit.calls import permit
from services.kit.contract import ANY, Method
from services.kit.errors import Code, Disconnected, Failure, Forbidden, InvalidValue, NotFound, invalid
from services.kit.rpc import REPLAYED

# Metadata of callers that is passed to services; everything else is dropped.
PASSED = ("idempotency-key", "if-match", "traceparent", HEADER)
# Of these, what the gateway sets itself: the channel adds the trace of its span, and priorities end here.
_OURS = ("traceparent", HEADER)
_FIELD = re.compile(r"{\w+}")
_PLAIN = re.compile(r"[ -~]*\Z")


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller, and the metadata of its call."""

    principal: Principal
    request_id: str
    address: str = ""
    # Metadata by the names of PASSED.
    metadata: Mapping[str, str] = field(default_factory=dict)
    # What the call has taken from buckets.
    charge: Charge | None = None

    @property
    def trace(self) -> dict[str, str]:
        """The trace and the request id that its span goes on with."""
        return {"traceparent": self.metadata.get("traceparent", ""), "x-request-id": self.request_id}


def admitted(method: Method, audience: str, request: Message, caller: Caller) -> Caller:
    """The caller as the service sees it. Raises forbidden without the permission."""
    permit(method, caller.principal, request)
    return replace(caller, principal=acting(caller.principal, audience, method, request))


class Guard(Protocol):
    """The policies of a tenant."""

    def call(self, method: Method, request: Message, principal: Principal, address: str) -> None:
        """Raises forbidden for a call that they refuse."""


class Calls:
    """Forwards calls from the doors to the services."""

    def __init__(
        self,
        runtime: Runtime,
        access: AccessService,
        retries: Retries,
        guard: Callable[[str], Guard],
        longwork: LongWork,
        storage: Storage,
        cleaner: Cleaner,
    ) -> None:
        """`guard` gives the policies of a tenant; `longwork` reserves quotas for calls that start long work, `storage`
        asks whether more may be kept; `cleaner` filters requests, answers, and what is written down of them.
        """
        self._runtime, self._access, self._retries = runtime, access, retries
        self._guard, self._longwork, self._storage, self._cleaner = guard, longwork, storage, cleaner
        self._stubs: dict[tuple[str, str], Any] = {}
        # By service: what bounds its calls under way.
        self.gates: dict[str, Gate] = {}

    def methods(self) -> list[Method]:
        """The public methods whose owners this installation has."""
        directory = self._runtime.directory
        return [m for m in contract.all_methods().values() if m.public and (m.owner == ANY or directory.knows(m.owner))]

    def costly(self, verb: str, path: str) -> bool:
        """Whether a request over HTTP is for what the contract calls costly."""
        return any(verb == rule_verb and rule.fullmatch(path) for rule_verb, rule in self._costly)

    def keyed(self, verb: str, path: str) -> bool:
        """Whether repeats of a request over HTTP are known by an idempotency key."""
        return any(verb == rule_verb and rule.fullmatch(path) for rule_verb, rule in self._keyed)

    @cached_property
    def _costly(self) -> list[tuple[str, re.Pattern[str]]]:
        return self._routes(lambda method: method.policy.costly)

    @cached_property
    def _keyed(self) -> list[tuple[str, re.Pattern[str]]]:
        return self._routes(lambda method: method.policy.effect == options_pb2.EFFECT_KEYED)

    def _routes(self, of: Callable[[Method], bool]) -> list[tuple[str, re.Pattern[str]]]:
        found = [method for method in self.methods() if method.verb and of(method)]
        return [(method.verb, re.compile(_FIELD.sub("[^/]+", method.route))) for method in found]

    def built(self, method: Method) -> bool:
        """Whether the owner has the method, as far as can be known from here."""
        local = self._runtime.directory.local.get(method.owner)
        return local is None or method.path in local.methods

    def owner(self, method: Method, request: Message) -> str:
        """The service that a call is for. Raises not_found or invalid_value when a request names none."""
        if method.owner != ANY:
            return method.owner
        if "operation" in method.takes.fields_by_name:
            operation = str(getattr(request, "operation", ""))
            owner = operation.partition("-")[0]
            if not self._runtime.directory.knows(owner):
                raise NotFound(f"there is no operation {operation[:64]}")
            return owner
        owner = str(getattr(request, "service", ""))
        if not self._runtime.directory.knows(owner):
            owners = sorted({known.owner for known in contract.all_methods().values()} - {ANY})
            known = ", ".join(filter(self._runtime.directory.knows, owners))
            raise invalid("/service", f"must be one of {known}")
        return owner

    async def unary(
        self, method: Method, request: Message, caller: Caller, timeout: float | None, decode: Callable[[bytes], Any]
    ) -> tuple[Any, bool]:
        """The reply, and whether it is the repeated answer to an idempotency key. Raises Failure."""
        outcome = "internal"
        try:
            with calling(caller.principal, caller.address):
                reply, trailers = await self._answer(method, self.owner(method, request), request, caller, timeout)
            reply = await self._cleaner.answer(method, reply, caller.principal.scope.tenant)
            decoded = decode(reply)
            outcome = "ok"
            return decoded, any(key == REPLAYED for key, _ in trailers)
        except Failure as failure:
            outcome = failure.code.text
            self._cleaner.failure(caller.principal.scope.tenant, failure)
            raise
        finally:
            await self._audit(method, request, caller, outcome)

    async def _answer(
        self, method: Method, owner: str, request: Message, caller: Caller, timeout: float | None
    ) -> tuple[bytes, Any]:
        """The reply as bytes, and its trailers. A call that got lost is repeated where that does no harm."""
        caller = self._admitted(method, owner, request, caller)
        if caller.charge:
            await caller.charge.take(method.path[1:], costly=method.policy.costly)
        send = partial(self._sent, method, owner, request, caller, timeout)
        if method.policy.stores:
            await self._storage.admit(caller.principal)
        if method.policy.HasField("reserves"):
            return await self._longwork.around(method, request, caller.principal, send)
        return await send()

    async def _sent(
        self,
        method: Method,
        owner: str,
        request: Message,
        caller: Caller,
        timeout: float | None,
        carry: Carry | None = None,
    ) -> tuple[bytes, Any]:
        await self._cleaner.request(method, request, caller.principal.scope.tenant)
        sent, until = request.SerializeToString(), time.monotonic() + _within(method, timeout)
        start, attempt = self._stub(owner, method, "unary_unary"), 1
        self._retries.asked()
        while True:
            metadata = self._metadata(owner, caller, attempt, await carry() if carry else "")
            try:
                async with self._through(owner, method, caller, until):
                    call = start(sent, timeout=max(until - time.monotonic(), 0.001), metadata=metadata)
                    return await call, await call.trailing_metadata() or ()
            except Disconnected:
                if not repeatable(method, caller.metadata) or not await self._retries.again(attempt, until):
                    raise
                attempt += 1

    async def stream(
        self, method: Method, request: Message, caller: Caller, timeout: float | None, decode: Callable[[bytes], Any]
    ) -> AsyncIterator[Any]:
        """The replies. Raises Failure. A stream that broke before its first reply is begun again where that is safe."""
        owner = self.owner(method, request)
        try:
            caller = self._admitted(method, owner, request, caller)
        except Forbidden as failure:
            await self._audit(method, request, caller, failure.code.text)
            raise
        if caller.charge:
            await caller.charge.take(method.path[1:], costly=method.policy.costly)
        self._cleaner.check_readable(method, caller.principal.scope.tenant)
        await self._cleaner.request(method, request, caller.principal.scope.tenant)
        async with self._longwork.held(method, request, caller.principal) as held:
            found = self._streamed(method, owner, request, caller, timeout, held.carry)
            async with contextlib.aclosing(found) as items:
                async for item in items:
                    yield decode(item)

    async def _streamed(
        self, method: Method, owner: str, request: Message, caller: Caller, timeout: float | None, carry: Carry
    ) -> AsyncGenerator[bytes]:
        sent, until = request.SerializeToString(), time.monotonic() + _within(method, timeout)
        start, attempt, begun = self._stub(owner, method, "unary_stream"), 1, False
        self._retries.asked()
        while True:
            metadata = self._metadata(owner, caller, attempt, await carry())
            try:
                async with self._through(owner, method, caller, until) as passage:
                    async for item in start(sent, timeout=max(until - time.monotonic(), 0.001), metadata=metadata):
                        if not begun and passage:
                            passage.end()  # an open stream takes no room in the gate
                        begun = True
                        yield await self._cleaner.answer(method, item, caller.principal.scope.tenant)
                return
            except Disconnected:
                safe = repeatable(method, caller.metadata) and not begun
                if not safe or not await self._retries.again(attempt, until):
                    raise
                attempt += 1
            except Failure as failure:
                self._cleaner.failure(caller.principal.scope.tenant, failure)
                raise

    def _admitted(self, method: Method, owner: str, request: Message, caller: Caller) -> Caller:
        """The caller as the service sees it. Raises forbidden without the permission, or where a policy refuses it."""
        found = admitted(method, owner, request, caller)
        self._guard(caller.principal.scope.tenant).call(method, request, caller.principal, caller.address)
        return found

    def _through(
        self, owner: str, method: Method, caller: Caller, until: float
    ) -> contextlib.AbstractAsyncContextManager[Passage | None]:
        """The gate of a service. Raises overloaded, deadline_exceeded."""
        first = lowered(priority(method), caller.metadata.get(HEADER, ""))
        if method.policy.waits:
            return contextlib.nullcontext()
        if (gate := self.gates.get(owner)) is None:
            gate = self.gates[owner] = Gate(owner, gates.SERVICE)
        return gate.call(method.path, first, until)

    def _stub(self, owner: str, method: Method, kind: str) -> Any:
        key = (owner, method.path)
        if key not in self._stubs:
            self._stubs[key] = getattr(self._runtime.channel(owner), kind)(method.path, None, None)
        return self._stubs[key]

    def _metadata(self, owner: str, caller: Caller, attempt: int, reservation: str = "") -> tuple[tuple[str, str], ...]:
        own = (*self._runtime.metadata(owner, caller.principal, caller.request_id),)
        if reservation:
            own = (*own, ("reservation", reservation))
        passed = ((key, value) for key, value in caller.metadata.items() if key not in _OURS)
        return (*own, *passed) if attempt == 1 else (*own, *passed, (ATTEMPT, str(attempt)))

    async def _audit(self, method: Method, request: Message, caller: Caller, outcome: str) -> None:
        if method.policy.audit or outcome == Code.FORBIDDEN.text:
            resource = self._cleaner.text(caller.principal.scope.tenant, method.resource(request)[:300])
            details = {"outcome": outcome, "address": caller.address}
            await self._access.trail.add(caller.principal, caller.request_id, method.path[1:], resource, **details)


def repeatable(method: Method, given: Mapping[str, str]) -> bool:
    """Whether a second call has no further effect."""
    effect = method.policy.effect
    if effect == options_pb2.EFFECT_IDEMPOTENT:
        return "if-match" not in given  # the first call has changed the etag, so the second would be refused
    return effect == options_pb2.EFFECT_SAFE or (effect == options_pb2.EFFECT_KEYED and "idempotency-key" in given)


def passed_metadata(read: Callable[[str], str]) -> dict[str, str]:
    """The metadata of PASSED; `read` gives a header. Raises invalid_value for one that is not plain text."""
    found = {name: value for name in PASSED if (value := read(name))}
    for name, value in found.items():
        if not _PLAIN.match(value) or len(value) > 1024:
            raise InvalidValue(f"{name} must be at most 1024 characters of plain ASCII")
    return found


def _within(method: Method, timeout: float | None) -> float:
    return min(method.deadline, timeout) if timeout else method.deadline
