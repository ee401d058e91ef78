"""What was signed is taken once: which nonces were seen, and what holds while nobody can tell."""

import hashlib
import time
from collections.abc import Callable

from services.kit.cache import Cache
from services.kit.errors import Code, Failure, Unavailable

WINDOW = 300.0  # seconds for which a signature is good
SKEW = 5.0  # seconds by which clocks may differ
_STEP = 1.0  # seconds: two looks at two clocks are never at the same moment, so less is no step of one of them


class Nonces:
    """Nonces of signers, remembered for as long as a signature is good.

    Nothing is accepted twice: where the memory has a gap, because the cache is away, was emptied or started again, or a
    clock was set back, a request from before the gap's end counts as seen. What carries an idempotency key has its one
    effect by the database, so it may pass where only the memory is missing.
    """

    def __init__(
        self,
        cache: Cache,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        window: float = WINDOW,
        skew: float = SKEW,
    ):
        """`now` gives Unix seconds, `ticks` seconds that nobody sets."""
        self._cache, self._now, self._ticks, self._window, self._skew = cache, now, ticks, window, skew
        self._latest = self._doubt = 0.0
        self._step = max(skew, _STEP)
        self._ahead = now() - ticks()

    async def accept(self, signer: str, nonce: str, created: float, keyed: bool) -> None:
        """Takes a request whose signature is right; `created` are Unix seconds, `keyed` says it has an idempotency key.

        Raises signature_stale, replayed, and unavailable where it cannot be told whether it was seen.
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
            raise _stale("the signature is older than what is remembered of others")
        if created <= self._doubt and not keyed:
            raise _unsure(max(self._doubt - now, 0.0))

    def _mark(self, now: float) -> None:
        """Sees that the clock was set back: signatures from before that stay good for longer than nonces are kept."""
        ahead = now - self._ticks()
        if ahead < self._ahead - self._step:
            self._doubt = self._latest + 2 * self._skew  # the newest that anybody may have taken by then
            self._ahead = ahead
        self._ahead = max(self._ahead, ahead)
        self._latest = max(self._latest, now)


def _key(signer: str, nonce: str) -> str:
    said = f"{len(signer)}:{signer}{nonce}".encode("utf-8", "surrogatepass")
    return f"nonce:{hashlib.sha256(said).hexdigest()}"


def _stale(detail: str) -> Failure:
    return Failure(Code.SIGNATURE_STALE, detail)


def _unsure(retry_after: float | None) -> Unavailable:
    return Unavailable("a repeat cannot be told from a first request for now: send an idempotency-key", (), retry_after)
