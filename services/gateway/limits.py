"""How often a key may call: token buckets, local to the process."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket holds `burst` tokens and regains `rate` of them each second."""

    rate: float
    burst: float


@lru_cache(maxsize=1000)
def policy(limit: Limit, degraded: bool = False) -> bytes:
    """What `RateLimit-Policy` says: as many tokens in as many seconds, and whether this gateway alone counts them."""
    seconds = max(1, math.ceil(min(limit.burst / limit.rate, 1e9)))
    return b"%d;w=%d%s" % (int(limit.burst), seconds, b";degraded" if degraded else b"")


class Standing(NamedTuple):
    """Whether a call was admitted, and what the caller has left."""

    admitted: bool
    limit: int
    remaining: int
    # Seconds until the bucket is full again.
    reset: int
    # Seconds until the call would be admitted; 0 when it was.
    retry_after: float
    policy: bytes
    # Decided without the other gateways, by this one's part of the limit.
    degraded: bool = False

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The RateLimit fields of an answer."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
            (b"ratelimit-policy", self.policy),
        ]


class Limiter(Protocol):
    """Who counts calls by key."""

    # Whether nobody else counts the same keys.
    near: bool

    @property
    def degraded(self) -> bool:
        """The others who count cannot be asked for now."""

    def take(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing | None:
        """Takes `cost` tokens, or none if there are fewer; None where only `wait` can tell.

        While degraded, the part of a limit may be smaller than a call's cost: then the part is what it costs, unless it
        is `costly`.
        """

    async def wait(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing:
        """The same, and asks those who count with us."""

    async def look(self) -> None:
        """Learns who counts with us, before the first call."""

    async def follow(self) -> None:
        """Keeps in touch with them, for ever."""

    async def close(self) -> None:
        """Hands back what was taken ahead."""


class _Bucket:
    __slots__ = ("at", "limit", "policy", "tokens")

    def __init__(self, limit: Limit, at: float) -> None:
        self.limit, self.tokens, self.at, self.policy = limit, limit.burst, at, policy(limit)


class Buckets:
    """A bucket for each key, full when first used."""

    near = True
    degraded = False

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 100_000) -> None:
        """`clock` gives seconds and never goes back; no more than `most` buckets are kept."""
        self._clock, self._most = clock, most
        self._buckets: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    async def look(self) -> None:
        """There is nobody to ask."""

    async def follow(self) -> None:
        """There is nobody to ask."""

    async def close(self) -> None:
        """Nothing was taken ahead."""

    async def wait(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing:
        """There is nobody to ask."""
        return self.take(key, limit, cost)

    def take(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing:
        """Takes `cost` tokens, or none if there are fewer.

        Over any time t, what is admitted costs at most burst + rate * t. A cost above the burst counts as the burst,
        or it could never be paid.
        """
        now, cost = self._clock(), min(cost, limit.burst)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._add(key, limit, now)
        elif bucket.limit is not limit and bucket.limit != limit:
            bucket.limit, bucket.tokens = limit, min(bucket.tokens, limit.burst)
            bucket.policy = policy(limit)
        bucket.tokens = min(limit.burst, bucket.tokens + (now - bucket.at) * limit.rate)
        bucket.at = now
        admitted = bucket.tokens >= cost
        if admitted:
            bucket.tokens -= cost
        missing = 0.0 if admitted else (cost - bucket.tokens) / limit.rate
        full = math.ceil((limit.burst - bucket.tokens) / limit.rate)
        return Standing(admitted, int(limit.burst), int(bucket.tokens), full, missing, bucket.policy)

    def _add(self, key: str, limit: Limit, now: float) -> _Bucket:
        if len(self._buckets) >= self._most:
            self._prune(now)
        bucket = self._buckets[key] = _Bucket(limit, now)
        return bucket

    def _prune(self, now: float) -> None:
        # A bucket that has filled up again is the same as none.
        kept = {k: b for k, b in self._buckets.items() if b.tokens + (now - b.at) * b.limit.rate < b.limit.burst}
        if len(kept) >= self._most:
            kept = dict(sorted(kept.items(), key=lambda pair: pair[1].at)[self._most // 10 :])
        self._buckets = kept
