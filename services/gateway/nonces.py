"""Replay protection of signed requests: which nonces were used, also when some of them were lost."""

import hashlib
import time
from collections.abc import Callable

from services.kit.cache import Cache
from services.kit.errors import Code, Failure, Unavailable

WINDOW = 300.0  # seconds for which a signature is valid, unless the caller gives another time
SKEW = 5.0  # seconds by which clocks may differ
_STEP = 1.0  # seconds: two clocks are never read at the same moment, so a smaller difference is no step of one of them


class Nonces:
    """Nonces of signers, stored for as long as a signature is valid.

    No request is accepted twice: if nonces may have been lost, because the cache is unavailable, was emptied or
    restarted, or a clock was set back, requests from before count as seen. Requests with an idempotency key are
    accepted even then, since the database gives them one effect.
    """

    def __init__(
        self,
        cache: Cache,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        window: float = WINDOW,
        skew: float = SKEW,
    ):
        """`now` returns Unix seconds, `ticks` seconds of a monotonic clock."""
        self._cache, self._now, self._ticks, self._window, self._skew = cache, now, ticks, window, skew
        self._latest = self._doubt = 0.0
        self._step = max(skew, _STEP)
        self._ahead = now() - ticks()

    async def accept(self, signer: str, nonce: str, created: float, keyed: bool) -> None:
        """Accepts a request with a valid signature; `created` is in Unix seconds, `keyed`: it has an idempotency key.

        Raises signature_stale, replayed, and unavailable if it is not known whether it was seen.
        """
        now = self._now()
        self._mark(now)
        if not now - self._window <= created <= now + self._skew:
            raise _stale("the signature is too old, or from the future")
        try:
            fresh = await self._cache.add(_key(signer, nonce), self._window + self._skew + 2 * self._step)
        except Unavailable as failure:
            since = self._cache.away_since
            if keyed and since is not None and created > since + self._skew:
                return
            raise _unsure(failure.retry_after) from None
        if not fresh:
            raise Failure(Code.REPLAYED, "the request was seen before")
        if created <= self._cache.born + self._skew:
            raise _stale("the signature is from before nonces were lost: sign the request again")
        if created <= self._doubt and not keyed:
            raise _unsure(max(self._doubt - now, 0.0))

    def _mark(self, now: float) -> None:
        """Notes a clock that was set back: signatures from before stay valid for longer than nonces are stored."""
        ahead = now - self._ticks()
        if ahead < self._ahead - self._step:
            self._doubt = self._latest + 2 * self._skew  # the newest that may have been accepted by then
            self._ahead = ahead
        self._ahead = max(self._ahead, ahead)
        self._latest = max(self._latest, now)


def _key(signer: str, nonce: str) -> str:
    name = f"{len(signer)}:{signer}{nonce}".encode("utf-8", "surrogatepass")
    return f"nonce:{hashlib.sha256(name).hexdigest()}"


def _stale(detail: str) -> Failure:
    return Failure(Code.SIGNATURE_STALE, detail)


def _unsure(retry_after: float | None) -> Unavailable:
    return Unavailable("a replay cannot be recognized now: retry, or send an idempotency-key", (), retry_after)
