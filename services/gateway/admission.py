"""Who is it, and may he call now: the same for both doors."""

import base64
import binascii
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from services.gateway.access.domain import ApiKey
from services.gateway.access.keyring import Keyring
from services.gateway.limits import Buckets, Limit, Standing
from services.gateway.screening import request_id
from services.kit.auth import Principal
from services.kit.errors import Code, Failure, Unauthenticated

# Whom the gRPC call of this task was admitted for; its access log line is written when it has ended.
caller: ContextVar[tuple[Principal, str] | None] = ContextVar("caller", default=None)
# Which model and version it asked for, and then which version answered.
asked: ContextVar[tuple[str, str]] = ContextVar("asked", default=("", ""))


class Admission:
    """Checks credentials and takes from buckets."""

    def __init__(self, keyring: Callable[[], Keyring], default: Limit, buckets: Buckets | None = None) -> None:
        """`default` is the limit of keys that have none of their own."""
        self._keyring, self._default = keyring, default
        self._buckets = Buckets() if buckets is None else buckets  # an empty one is false
        self._limits: dict[str, tuple[ApiKey, Limit]] = {}

    def identify(self, authorization: str, project: str, basic: bool = False) -> Principal:
        """Who a credential speaks for, in a project; HTTP Basic has the key as password.

        Raises unauthenticated, forbidden, invalid_name.
        """
        kind, _, rest = authorization.partition(" ")
        secret = rest.strip()
        if basic and kind.lower() == "basic":
            secret = _password(secret)
        elif kind.lower() != "bearer":
            secret = ""
        if not secret or not secret.isascii():
            raise Unauthenticated("a key is needed" if not authorization else "the key is not valid")
        key, principal = self._keyring().identify(secret, project or "default")
        known = self._limits.get(principal.id)
        if known is None or known[0] is not key:
            self._learn(principal.id, key)
        return principal

    def _learn(self, principal: str, key: ApiKey) -> None:
        if len(self._limits) > 100_000:
            self._limits.clear()
        own = key.rate_limit
        self._limits[principal] = key, Limit(own.rate, own.burst) if own else self._default

    def take(self, principal: Principal, cost: float) -> Standing:
        """Takes from the caller's bucket; the standing says whether there was enough."""
        _, limit = self._limits.get(principal.id, (None, self._default))
        return self._buckets.take(principal.id, limit, cost)

    async def admit(self, metadata: Mapping[str, str], cost: int) -> tuple[Principal, str]:
        """A gRPC call's caller and request id. Raises unauthenticated, forbidden, rate_limited."""
        principal = self.identify(metadata.get("authorization", ""), metadata.get("x-project", ""))
        named = request_id({b"x-request-id": metadata.get("x-request-id", "").encode()})
        caller.set((principal, named))
        enough(self.take(principal, cost))
        return principal, named


def enough(standing: Standing) -> None:
    """Raises rate_limited for a call that was not admitted."""
    if not standing.admitted:
        raise Failure(Code.RATE_LIMITED, "the key calls too often", retry_after=standing.retry_after)


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
