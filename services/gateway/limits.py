"""Token buckets of keys, tenants, routes and models: the port, and the buckets of one process."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

PARKED = 1 / 8  # of a burst that slices of idle gateways may keep from the others
# How the draft of the RateLimit fields calls what is counted; requests go without saying.
_UNITS = {"requests": b"", "bytes": b';qu="content-bytes"'}


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket holds `burst` tokens and regains `rate` of them each second; each stands for one of what it counts."""

    rate: float
    burst: float
    # Its name in answers.
    name: str = "key"
    counts: str = "requests"


class Taking(NamedTuple):
    """The cost of a call in one bucket."""

    key: str
    limit: Limit
    cost: float


class Taken(NamedTuple):
    """A taking, when it was, the bucket, and what it left there less all that was ever given back."""

    key: str
    limit: Limit
    cost: float
    at: float = 0.0
    left: float = 0.0
    bucket: object = None


@lru_cache(maxsize=1000)
def policy(limit: Limit, degraded: bool = False) -> bytes:
    """The value of `RateLimit-Policy`: tokens, seconds, and whether this gateway counts them alone."""
    seconds = max(1, math.ceil(min(limit.burst / limit.rate, 1e9)))
    unit = _UNITS.get(limit.counts, b';qu="%b"' % limit.counts.encode())
    values = limit.name.encode(), int(limit.burst), seconds, unit, b";degraded" if degraded else b""
    return b'"%b";q=%d;w=%d%b%b' % values


def payable(limit: Limit) -> float:
    """The most that one call can cost: what more there is may lie with other gateways."""
    return limit.burst if limit.burst * PARKED < 1 else limit.burst * (1 - PARKED)


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
    of: Limit
    # Decided without the other gateways, by this one's part of the limit.
    degraded: bool = False

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The RateLimit headers of an answer: those of the IETF draft, and the older single ones."""
        name = self.policy.partition(b";")[0]
        return [
            (b"ratelimit", b"%b;r=%d;t=%d" % (name, self.remaining, self.reset)),
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
            (b"ratelimit-policy", self.policy),
        ]

    def lines(self) -> bytes:
        """The same headers as bytes of an answer."""
        name, limit, policy = _written(self.policy, self.limit)
        left, full = self.remaining, self.reset
        return b"ratelimit: %b;r=%d;t=%d%bratelimit-remaining: %d\r\nratelimit-reset: %d%b" % (
            *(name, left, full, limit),
            *(left, full, policy),
        )


@lru_cache(maxsize=1000)
def _written(policy: bytes, limit: int) -> tuple[bytes, bytes, bytes]:
    """The parts that do not change from answer to answer: the name, the limit and the policy."""
    name = policy.partition(b";")[0]
    return name, b"\r\nratelimit-limit: %d\r\n" % limit, b"\r\nratelimit-policy: %b\r\n" % policy


def tightest(standings: Sequence[Standing]) -> Standing:
    """The one that refuses longest, or else has the smallest share left."""
    if all(standing.admitted for standing in standings):
        return min(standings, key=lambda standing: standing.remaining / standing.limit)
    return max((standing for standing in standings if not standing.admitted), key=lambda one: one.retry_after)


class Limiter(Protocol):
    """Token buckets by key."""

    # Whether no other gateway shares the buckets.
    near: bool

    @property
    def degraded(self) -> bool:
        """Whether the other gateways cannot be reached now."""

    def take(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing | None:
        """Takes `cost` tokens, or none if there are fewer; None where only `wait_all` can tell.

        While degraded, the part of a limit may be smaller than a call's cost: then the part is enough, unless it is
        `costly`.
        """

    def take_all(self, takings: Sequence[Taking], costly: bool = False) -> Standing | None:
        """Takes from all buckets, or from none if one has too little; the standing is that of the tightest."""

    async def wait_all(self, takings: Sequence[Taking], costly: bool = False) -> Standing:
        """The same, and asks for tokens that other gateways may hold."""

    def taken(self, takings: Sequence[Taking]) -> Sequence[Taken]:
        """The takings that were just made, in a form that `give_back` takes."""

    def give_back(self, taken: Sequence[Taken]) -> None:
        """Undoes what was taken; what cannot be given back for certain is lost."""

    async def look(self) -> None:
        """Learns which gateways share the buckets, before the first call."""

    async def follow(self) -> None:
        """Stays in touch with them, for ever."""

    async def close(self) -> None:
        """Hands back tokens that were reserved ahead."""


class _Bucket:
    __slots__ = ("at", "limit", "policy", "returned", "tokens")

    def __init__(self, limit: Limit, at: float) -> None:
        self.limit, self.tokens, self.at, self.policy = limit, limit.burst, at, policy(limit)
        self.returned = 0.0

    def fill(self, limit: Limit, now: float) -> None:
        known = self.limit
        self.tokens = min(known.burst, self.tokens + (now - self.at) * known.rate)
        self.at = now
        if known is not limit and known != limit:
            self.limit, self.tokens, self.policy = limit, min(self.tokens, limit.burst), policy(limit)

    def standing(self, admitted: bool, cost: float) -> Standing:
        limit, tokens = self.limit, self.tokens
        missing = 0.0 if admitted else (cost - tokens) / limit.rate
        full = math.ceil((limit.burst - tokens) / limit.rate)
        return Standing(admitted, int(limit.burst), int(tokens), full, missing, self.policy, limit)


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
        """No other gateway shares these buckets."""

    async def follow(self) -> None:
        """No other gateway shares these buckets."""

    async def close(self) -> None:
        """Nothing was reserved ahead."""

    def take(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing:
        """Takes `cost` tokens, or none if there are fewer.

        Over any time t, what is admitted costs at most burst + rate * t. A cost above the burst counts as the burst,
        or it could never be paid.
        """
        now, cost = self._clock(), min(cost, limit.burst)
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room(now, 1)
            bucket = self._buckets[key] = _Bucket(limit, now)
        bucket.fill(limit, now)
        if admitted := bucket.tokens >= cost:
            bucket.tokens -= cost
        return bucket.standing(admitted, cost)

    async def wait_all(self, takings: Sequence[Taking], costly: bool = False) -> Standing:
        """All tokens are here."""
        return self.take_all(takings)

    def take_all(self, takings: Sequence[Taking], costly: bool = False) -> Standing:
        """Each key is there once."""
        now = self._clock()
        if new := sum(key not in self._buckets for key, _, _ in takings):
            self._make_room(now, new)
        found = []
        for key, limit, cost in takings:
            bucket = self._buckets.get(key) or _Bucket(limit, now)
            bucket.fill(limit, now)
            self._buckets[key] = bucket
            found.append((bucket, min(cost, limit.burst)))
        short = [bucket.standing(False, cost) for bucket, cost in found if bucket.tokens < cost]
        if short:
            return tightest(short)
        for bucket, cost in found:
            bucket.tokens -= cost
        return tightest([bucket.standing(True, cost) for bucket, cost in found])

    def taken(self, takings: Sequence[Taking]) -> Sequence[Taken]:
        """The takings with the state of their buckets now."""
        found = [(taking, self._buckets[taking.key]) for taking in takings]
        return [Taken(*taking, bucket.at, bucket.tokens - bucket.returned, bucket) for taking, bucket in found]

    def give_back(self, taken: Sequence[Taken]) -> None:
        """Each bucket has then at most what it would have had.

        Without the taking it may have run over meanwhile: by no more than it has regained since, and was given back.
        """
        now = self._clock()
        for key, limit, cost, at, left, of in taken:
            bucket = self._buckets.get(key)
            if bucket is None or bucket is not of:
                continue  # it was full and is forgotten, or another one by now
            bucket.fill(limit, now)
            room = limit.burst - left - bucket.returned - (now - at) * limit.rate
            back = min(max(0.0, min(cost, limit.burst, room)), limit.burst - bucket.tokens)
            bucket.tokens, bucket.returned = bucket.tokens + back, bucket.returned + back

    def _make_room(self, now: float, more: int) -> None:
        if len(self._buckets) + more <= self._most:
            return
        # A bucket that has filled up again is the same as none.
        kept = {k: b for k, b in self._buckets.items() if b.tokens + (now - b.at) * b.limit.rate < b.limit.burst}
        if len(kept) + more > self._most:
            kept = dict(sorted(kept.items(), key=lambda pair: pair[1].at)[self._most // 10 :])
        self._buckets = kept
