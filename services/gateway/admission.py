"""Authentication and rate limiting of requests, the same for both doors."""

import base64
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.gateway.access import networks
from services.gateway.access.domain import ApiKey
from services.gateway.access.keyring import Elsewhere, Keyring
from services.gateway.access.origin import Origin
from services.gateway.charging import Charge, enough, stated
from services.gateway.grpc_call import GrpcCall
from services.gateway.issuers.distrust import TokenRefused, UnknownKey, refused
from services.gateway.limiting.book import Levels
from services.gateway.limits import Buckets, Limit, Limiter
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.receipts import ASKS, Receipt, Receipts
from services.gateway.screening import request_id
from services.gateway.signatures import FIELDS, Head, Refused, Signatures, Signed
from services.kit.auth import Principal
from services.kit.errors import Code, Failure, InvalidValue, Unauthenticated

if TYPE_CHECKING:
    from services.gateway.issuers.bearers import Bearers

log = logging.getLogger(__name__)
# Before the name of a key, in place of its secret: no secret begins so.
CERTIFIED = "certificate "
_KEY = re.compile(r"[a-z0-9]{8}\Z")
_NOWHERE = Origin()
_LIMITS = ("/v1/limits", "/aimass.v1.Limits/")
_FEW = 0.1  # of a limit, for attempts without a valid key while gateways count alone


class Admission:
    """Checks credentials and takes from buckets."""

    def __init__(
        self,
        keyring: Callable[[], Keyring],
        default: Limit,
        limiter: Limiter,
        levels: Callable[[str], Levels | None],
        signatures: Signatures,
        receipts: Receipts,
        cleaner: Cleaner,
        ours: Callable[[bytes], bool],
        bearers: "Bearers | None" = None,
    ) -> None:
        """`default` is the limit of a caller that has none of its own, `levels` gives a tenant's limits, if any.

        `ours` says whether a host is one of this gateway's names. Without `bearers` no token of an issuer is taken.
        """
        self._signatures, self._receipts, self._bearers = signatures, receipts, bearers
        self._keyring, self._default, self._levels, self._ours = keyring, default, levels, ours
        self._limiter, self._cleaner = limiter, cleaner
        self._failures = Buckets()
        self._few = Limit(default.rate * _FEW, max(1.0, default.burst * _FEW))
        self._limits: dict[str, tuple[ApiKey, Limit]] = {}

    def identify(
        self,
        authorization: str,
        project: str,
        basic: bool = False,
        signed: Signed | None = None,
        origin: Origin = _NOWHERE,
    ) -> Principal:
        """The principal of a credential in a project; HTTP Basic has the key as password. `origin` is the other end.

        What is `signed` needs no other credential; one that is there has to be the same key. Raises unauthenticated,
        signature_invalid, forbidden, invalid_name; UnknownKey for a token that may be taken after `learn`.
        """
        if signed and not authorization:
            key, principal = signed.held.key, self._keyring().speaker(signed.held, project or "default", origin)
        else:
            secret = _secret(authorization, basic)
            if self._bearers and "." in secret:
                if signed:
                    raise Refused("another credential than its key is shown")
                return self._bearers.identify(secret, project or "default")
            ring, named = self._keyring(), secret.removeprefix(CERTIFIED)
            find = ring.identify if named == secret else ring.certified
            key, principal = find(named, project or "default", origin)
            if signed and signed.held.key is not key:
                raise Refused("another key than the one that is shown signed it")
        if key.signing and key.signing.required and not signed:
            raise Refused("its key needs a signature")
        known = self._limits.get(principal.id)
        if known is None or known[0] is not key:
            self._learn(principal.id, key)
        return principal

    async def learn(self, failure: UnknownKey) -> None:
        """Asks a token's issuer for its keys. Raises unavailable."""
        assert self._bearers
        await self._bearers.learn(failure)

    def signed(self, head: Head) -> Signed:
        """The key that has signed a head. Raises signature_invalid, signature_stale."""
        return self._signatures.check(head)

    async def settle(self, signed: Signed, content: bytes, keyed: bool) -> None:
        """Accepts a signed request once. Raises as `Signatures.settle`."""
        await self._signatures.settle(signed, content, keyed)

    def lasting(self, principal: Principal) -> ApiKey | None:
        """The key of an identified principal, if it identifies every such request until the key changes."""
        key = self._keyring().lasting(principal)
        return key if key and not key.addresses and not key.certificates else None

    def holds(self, key: ApiKey) -> bool:
        """Whether a key is still what it was when it was identified, and works."""
        return self._keyring().holds(key)

    def _learn(self, principal: str, key: ApiKey) -> None:
        if len(self._limits) > 100_000:
            self._limits.clear()
        own = key.rate_limit
        self._limits[principal] = key, Limit(own.rate, own.burst) if own else self._default

    def charge(self, principal: Principal, about: str = "") -> Charge:
        """The charge of a request, which takes from the buckets that concern it; nothing is taken yet.

        `about` is the path of the request. Calls about limits by a principal that may set them take from its own
        bucket only: else a limit that is spent could not be raised.
        """
        _, limit = self._limits.get(principal.id, (None, self._default))
        levels = self._levels(principal.scope.tenant)
        if levels and about.startswith(_LIMITS) and principal.may("limits.write"):
            levels = None
        return Charge(self._limiter, levels, principal, limit)

    def count_failure(self, address: str) -> None:
        """Notes an attempt without a valid key. Raises rate_limited for an address that makes too many of them.

        Valid keys are accepted from there all the same. A gateway that shares no buckets counts no failures.
        """
        if self._limiter.near:
            return
        limit = self._few if self._limiter.degraded else self._default
        standing = self._failures.take(address, limit)
        if not standing.admitted:
            raise Failure(Code.RATE_LIMITED, "too many attempts without a valid key", retry_after=standing.retry_after)

    async def admit(
        self, call: GrpcCall, cost: int = 1, costly: bool = False, keyed: bool = False
    ) -> tuple[Principal, str]:
        """A gRPC call's caller and request id; `keyed`: its repeats are known by an idempotency key.

        Raises unauthenticated, signature_invalid, forbidden, rate_limited, unavailable; for a call that asks for a
        receipt also as `Receipts.asked`.
        """
        metadata = call.metadata
        named = request_id({b"x-request-id": metadata.get("x-request-id", "").encode()})
        where = Origin(networks.host(call.peer), call.certificate)
        try:
            signed = self._signed_call(call) if any(name in metadata for name in FIELDS) else None
            authorization, project = metadata.get("authorization", ""), metadata.get("x-project", "")
            try:
                principal = self.identify(authorization, project, signed=signed, origin=where)
            except UnknownKey as failure:
                await self.learn(failure)
                principal = self.identify(authorization, project, signed=signed, origin=where)
            call.principal = principal
            call.request_id = named = self._cleaner.named(principal.scope.tenant, named)
            call.charge = charge = self.charge(principal, call.path)
            enough(charge.begin(cost, costly) or await charge.wait(cost, costly), costly)
            charge.size, charge.tokens = len(call.content), stated(metadata.get("x-tokens", ""))
            if signed:
                await self.settle(signed, call.content, keyed and "idempotency-key" in metadata)
            if ASKS in metadata:
                call.receipt = await self._receipt(call)
        except Unauthenticated as failure:
            log_refused(failure, named)
            self.count_failure(call.peer.rpartition(":")[0])
            raise
        return principal, named

    def cleaned(self, call: GrpcCall, failure: Failure) -> Failure:
        """A failure as the caller of a gRPC call sees it: without personal data that a filter takes out."""
        return self._cleaner.failure(call.principal.scope.tenant, failure) if call.principal else failure

    def text(self, call: GrpcCall, text: str) -> str:
        """A text of a gRPC call as it is logged."""
        return self._cleaner.text(call.principal.scope.tenant, text) if call.principal and text else text

    def _signed_call(self, call: GrpcCall) -> Signed:
        """A call is signed as the HTTP/2 request that it is; its host, which gRPC keeps for itself, is said again."""
        host = call.metadata.get("signed-authority", "")
        if not self._ours(host.encode("latin-1", "replace")):
            raise Refused("it is for another host")
        return self.signed(Head("POST", host, call.path, "", call.metadata))

    async def _receipt(self, call: GrpcCall) -> Receipt:
        host = call.metadata.get("signed-authority", "")
        if not self._ours(host.encode("latin-1", "replace")):
            raise InvalidValue("a receipt needs signed-authority, which names the host of the call")
        found = await self._receipts.asked(Head("POST", host, call.path, "", call.metadata), call.content)
        found.metadata["x-request-id"] = call.request_id
        return found


def log_refused(failure: Failure, request: str) -> None:
    """Logs why a credential is refused: the caller is not told."""
    if isinstance(failure, Refused):
        log.info("a signature is refused: %s", failure.reason, extra={"request_id": request})
    elif isinstance(failure, Elsewhere):
        log.info("a key is refused: %s", failure.reason, extra={"request_id": request})
    elif isinstance(failure, TokenRefused):
        refused.inc()
        log.info("a token is refused: %s", failure.reason, extra={"request_id": request})


def _secret(authorization: str, basic: bool) -> str:
    """The key in a credential, or the name of one that a certificate is shown for. Raises unauthenticated."""
    kind, _, rest = authorization.partition(" ")
    secret = rest.strip()
    if kind.lower() == "certificate" and _KEY.match(secret):
        return f"{CERTIFIED}{secret}"
    if basic and kind.lower() == "basic":
        secret = _password(secret)
    elif kind.lower() != "bearer":
        secret = ""
    if not secret or not secret.isascii():
        raise Unauthenticated("a key is needed" if not authorization else "the key is not valid")
    return secret


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:  # binascii.Error and UnicodeDecodeError are; for what is not ASCII it raises one that is neither
        return ""
