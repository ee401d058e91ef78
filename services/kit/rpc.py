"""Guards in front of servicers, for calls over a socket and inside the process alike.

A guarded method checks token, audience, permission, rules of fields and deadline, and answers repeats.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from aimass.v1 import options_pb2
from services.kit import contract, fields, telemetry, tenancy
from services.kit.auth import Identity, Principal, Scope
from services.kit.call_span import call_span
from services.kit.calls import CallTable, Peer, permit
from services.kit.contract import Method
from services.kit.db import Replay
from services.kit.errors import Code, DeadlineExceeded, Failure, Unauthenticated
from services.kit.idempotency import IdempotencyTable, Keyed
from services.kit.tempo import Tempo

log = logging.getLogger(__name__)
REPLAYED = "idempotency-replayed"
SIZE = 4 * 2**20
LARGE = 17 * 2**20  # for tensors and upload chunks: 16 MiB and their frame
OPTIONS = [
    ("grpc.max_receive_message_length", LARGE),
    ("grpc.max_send_message_length", LARGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_retries", 0),
]
# Options of servers that only our own processes call: their keepalive pings are not limited.
PINGED = [("grpc.http2.max_ping_strikes", 0), ("grpc.keepalive_permit_without_calls", 1)]
R = TypeVar("R")


def _same(reply: Any) -> Any:
    return reply


@dataclass
class Call:
    """One call of one method: its caller, deadline, metadata and idempotency key."""

    method: Method
    principal: Principal
    request: Any
    metadata: Mapping[str, str]
    now: Callable[[], datetime]
    keys: IdempotencyTable | None
    deadline: float
    trailers: dict[str, str] = field(default_factory=dict)
    _asked: bool = False

    @property
    def scope(self) -> Scope:
        """Tenant and project: what every query carries."""
        return self.principal.scope

    @property
    def request_id(self) -> str:
        return self.metadata.get("x-request-id", "")

    @property
    def etag(self) -> str:
        """The etag that the caller sent, without quotes; empty for none."""
        return _etag(self.metadata)

    def remaining(self) -> float:
        """Seconds until the caller gives up."""
        return self.deadline - time.monotonic()

    def once(self, to_wire: Callable[[R], Message] = _same) -> Keyed | None:
        """What makes this call's effect happen once, for `Database.run`; None when the caller sent no key.

        `to_wire` makes the reply of what the transaction returns, unless that is the reply.
        """
        self._asked = True
        key = self.metadata.get("idempotency-key", "")
        if not key or self.keys is None:
            return None
        if len(key) > 255:
            raise Failure(Code.INVALID_VALUE, "the idempotency key must have at most 255 characters")
        who = "\0".join((*self.scope, self.principal.id, self.method.path))
        return self.keys.once(who, key, self.request, self.now(), to_wire, self.method.shows_secret)


def _etag(metadata: Mapping[str, str]) -> str:
    return metadata.get("if-match", "").removeprefix("W/").strip('"')


class Guarded:
    """A servicer's method with everything in front of it."""

    def __init__(
        self,
        method: Method,
        servicer: Any,
        identity: Identity,
        audience: str,
        now: Callable[[], datetime],
        keys: IdempotencyTable | None,
        table: CallTable,
    ) -> None:
        self._table = table
        self.method, self._identity, self._audience = method, identity, audience
        self._run = getattr(servicer, method.descriptor.name)  # a missing method fails at start, not at its first call
        self._now, self._keys = now, keys
        self.request_class, self.reply_class = GetMessageClass(method.takes), GetMessageClass(method.gives)
        self.client_streams = bool(method.descriptor.client_streaming)
        self.server_streams = bool(method.descriptor.server_streaming)
        self._name = method.path[1:]
        self._tempo = Tempo()

    def admit(self, request: Any, metadata: Mapping[str, str], timeout: float | None, peer: Peer = None) -> Call:
        """The call, if its caller may make it and the request keeps its rules."""
        kind, _, token = metadata.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Unauthenticated("the call carries no token")
        principal = self._identity.verify(token, self._audience)
        telemetry.belongs(principal.scope, self._audience)
        policy = self.method.policy
        self._table.admit(self.method, principal, peer)
        permit(self.method, principal, None if self.client_streams else request)
        if policy.etag_required and not _etag(metadata):
            raise Failure(Code.ETAG_REQUIRED, "If-Match with the etag of the object is required")
        if self.method.public and not self.client_streams:
            fields.check(request)
        longest = self._table.deadline(self.method)
        deadline = time.monotonic() + (min(longest, timeout) if timeout else longest)
        return Call(self.method, principal, request, metadata, self._now, self._keys, deadline)

    def timely(self, timeout: float | None) -> None:
        """Raises deadline_exceeded for a call that would be answered too late.

        Checked before the request is parsed, so that a hopeless call costs nothing.
        """
        if timeout is not None and not self.method.policy.waits and self._tempo.hopeless(timeout):
            raise DeadlineExceeded(f"{self._name} takes longer than the time that is left")

    async def unary(
        self, request: Any, metadata: Mapping[str, str], timeout: float | None, peer: Peer = None
    ) -> tuple[Any, dict[str, str]]:
        """The reply and its trailers; raises Failure only."""
        with call_span(self._name, self._audience, metadata):
            call = self.admit(request, metadata, timeout, peer)
            began = time.monotonic()
            try:
                async with asyncio.timeout(call.remaining()):
                    with tenancy.of(call.scope.tenant):
                        reply = await self._run(request, call)
                self._tempo.took(time.monotonic() - began)
            except Replay as replay:
                return self.reply_class.FromString(replay.reply), {REPLAYED: "true"}
            keyed = self.method.policy.effect == options_pb2.EFFECT_KEYED
            if keyed and metadata.get("idempotency-key") and not call._asked:
                raise RuntimeError(f"{self._name} is KEYED and did not ask for its key")
            return reply, call.trailers

    async def stream(
        self, request: Any, metadata: Mapping[str, str], timeout: float | None, peer: Peer = None
    ) -> AsyncIterator[Any]:
        """The replies; raises Failure only."""
        with call_span(self._name, self._audience, metadata):
            call = self.admit(request, metadata, timeout, peer)
            async with asyncio.timeout(call.remaining()):
                async for item in tenancy.each(call.scope.tenant, self._run(request, call)):
                    yield item


def guard(
    servicers: Mapping[str, Any],
    identity: Identity,
    audience: str,
    now: Callable[[], datetime],
    keys: IdempotencyTable | None,
    table: CallTable | None = None,
) -> dict[str, Guarded]:
    """Guarded methods by path, of servicers by the full name of their service."""
    table = table or CallTable()
    return {
        method.path: Guarded(method, servicer, identity, audience, now, keys, table)
        for name, servicer in servicers.items()
        for method in contract.methods(name)
    }


def metadata_of(context: Any) -> dict[str, str]:
    """A context's text metadata; binary values are not ours to read."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
