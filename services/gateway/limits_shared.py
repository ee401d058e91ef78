"""How often a key may call, over all gateways: slices of shared buckets, spent here without asking.

While the cache is away each gateway goes on alone, with its part of every limit (RELIABILITY section 3).
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable

from prometheus_client import Gauge

from services.gateway.limits import Limit, Standing, policy
from services.kit.allowance import Claim
from services.kit.cache import Cache
from services.kit.errors import Unavailable
from services.kit.telemetry import REGISTRY

log = logging.getLogger(__name__)
GROUP = "limits"  # where gateways say that they count
LEASE, EVERY = 10.0, 1.0  # seconds that a gateway counts as live, and between saying so
SLICE = 5.0  # seconds that a slice may be spent
PARKED = 1 / 8  # of a burst that slices of idle gateways may keep from the others
_FAILURES = 3  # slices in a row that the cache did not give in time, after which it counts as away
_SOONEST = 0.02  # seconds before a bucket that was found empty is asked again
_ROUNDS = 8  # slices that one call waits for, while others spend what came
_TICK, _AGAIN = 1.0, 0.1  # seconds between looks at idle slices, and at a cache that is away
_SLOW = 0.05  # seconds; a cache that takes longer to say who is there is as good as away
_REJOIN = 32.0  # seconds within which every gateway that lives has found a cache that is back
_CLOSING = 0.5  # seconds in which a gateway that ends hands back what it has
_degraded = Gauge("aimass_limits_degraded", "Whether limits are counted by this gateway alone.", registry=REGISTRY)


class _Share:
    """What this gateway has of one key's bucket."""

    __slots__ = (
        "at", "claiming", "epoch", "last", "least", "left", "limit", "local", "local_at", "refused", "slice", "tokens",
        "until", "view", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        # The slice: tokens, until when they may be spent, how many came with it, and when one was spent last.
        self.left = self.until = self.slice = 0.0
        self.last = now
        # The bucket as the cache told of it: tokens, and when that was. Nothing was told yet: it may be full.
        self.tokens, self.at, self.epoch = limit.burst, now, ""
        # What others of this gateway told while it was alone; nobody can have left more.
        self.view = math.inf
        # Until when calls that cost `least` or more are refused without asking.
        self.refused, self.least = 0.0, 0.0
        # While the cache is away: tokens of this gateway's part.
        self.local: float | None = None
        self.local_at = 0.0
        self.claiming: asyncio.Task[None] | None = None
        self.waiting = 0.0

    def guess(self, now: float) -> float:
        """At most so many tokens are in the bucket, as far as is known here."""
        return min(self.limit.burst, self.tokens + (now - self.at) * self.limit.rate)


class SharedBuckets:
    """Buckets that all gateways on one cache share. Over any time t they admit burst + rate * t together."""

    near = False

    def __init__(
        self, cache: Cache, name: str, clock: Callable[[], float] = time.monotonic, most: int = 100_000
    ) -> None:
        """`name` is this gateway's own; `clock` gives seconds and never goes back."""
        self._cache, self._name, self._clock, self._most = cache, name, clock, most
        self._shares: dict[str, _Share] = {}
        self._number = 0
        self._gateways, self._counted = 1, -math.inf
        self.degraded, self._failures = False, 0
        # Whether the log says that it is degraded; since when the cache answers all the same, and who was there then.
        self._told = False
        self._back: float | None = None
        self._there: dict[str, bytes] = {}
        self._news = asyncio.Event()
        self._announced, self._said = -math.inf, 0

    def __len__(self) -> int:
        return len(self._shares)

    def take(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing | None:
        """A cost above seven eighths of the burst counts as that: the rest may lie with other gateways."""
        now = self._clock()
        share = self._shares.get(key) or self._add(key, limit, now)
        if share.limit is not limit and share.limit != limit:
            share.limit = limit
        if self.degraded:
            return self._alone(share, now, cost, costly)
        if share.local is not None:
            self._rejoin(share, now)
        cost = min(cost, limit.burst * (1 - PARKED))
        if share.until <= now:
            share.left = 0.0
        if share.left >= cost:
            share.left -= cost
            share.last = now
            if share.left < share.slice / 2 and now >= share.refused:
                self._claim(key, share, 0.0)
            return _standing(share, now, True, 0.0)
        if now < share.refused and cost >= share.least:
            return _standing(share, now, False, share.refused - now)
        return None

    async def wait(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing:
        """Takes, and asks the cache for a slice when there is none; many calls wait for one answer."""
        for _ in range(_ROUNDS):
            if (standing := self.take(key, limit, cost, costly)) is not None:
                return standing
            share = self._shares[key]
            share.waiting += cost
            try:
                await asyncio.shield(self._claim(key, share, min(cost, limit.burst * (1 - PARKED))))
            finally:
                share.waiting -= cost
        return _standing(self._shares[key], self._clock(), False, _SOONEST)

    def _claim(self, key: str, share: _Share, cost: float) -> asyncio.Task[None]:
        """The claim that is under way, or a new one; without a cost it is made ahead of need."""
        if share.claiming is None or share.claiming.done():
            share.claiming = asyncio.get_running_loop().create_task(self._ask(key, share, cost))
        return share.claiming

    async def _ask(self, key: str, share: _Share, cost: float) -> None:
        now, limit, self._number = self._clock(), share.limit, self._number + 1
        left = share.left = share.left if share.until > now else 0.0
        part = limit.burst * PARKED / self._gateways
        part = part if part >= 1 else 0.0
        want, least = (max(part, share.waiting), max(cost - left, 0.0)) if cost else (part - left, 1.0)
        if want <= 0:
            return
        view = min(share.view, share.guess(now)) if share.epoch else share.view
        claim = Claim(
            self._name, self._number, limit.rate, limit.burst, want, min(least, want), left, 0.0, SLICE,
            share.epoch, view,
        )  # fmt: skip
        try:
            grant = await self._cache.take(f"limit:{key}", claim)
        except Unavailable:
            self._failures += 1
            if self._failures >= _FAILURES or not self._cache.up:
                self.degraded, self._failures = True, 0
                self._news.set()
            return
        self._failures = 0
        share.tokens, share.at, share.epoch, share.view = grant.tokens, now, grant.epoch, math.inf
        if grant.granted:
            share.left, share.until = share.left + grant.granted, now + SLICE
            share.slice = share.left if part else 0.0
        else:
            share.refused, share.least = now + max(grant.retry_after, _SOONEST), max(cost, 1.0)

    def _alone(self, share: _Share, now: float, cost: float, costly: bool) -> Standing:
        """Counts on this gateway only, from what was left and with its part of the rate."""
        limit, room = share.limit, max(share.limit.burst / self._gateways, 1.0)
        if share.local is None:
            left = share.left if share.until > now else 0.0
            share.local, share.local_at, share.left = min(room, share.guess(now) / self._gateways + left), now, 0.0
        share.local = min(room, share.local + (now - share.local_at) * limit.rate / self._gateways)
        share.local_at = now
        cost = min(cost, limit.burst if costly else room)
        admitted = share.local >= cost
        if admitted:
            share.local -= cost
        wait = 0.0 if admitted else (cost - share.local) * self._gateways / limit.rate
        full = math.ceil((room - share.local) * self._gateways / limit.rate)
        return Standing(
            admitted, int(limit.burst), int(share.local), full, wait, policy(limit, degraded=True), degraded=True
        )

    def _rejoin(self, share: _Share, now: float) -> None:
        """Back with the others: the bucket has grown meanwhile, so it is told what is left of this gateway's part."""
        local = (share.local or 0.0) + (now - share.local_at) * share.limit.rate / self._gateways
        share.view, share.epoch, share.local = min(share.limit.burst, local * self._gateways), "", None
        share.left = share.until = share.refused = 0.0

    def _add(self, key: str, limit: Limit, now: float) -> _Share:
        if len(self._shares) >= self._most:
            self._prune(now)
        share = self._shares[key] = _Share(limit, now)
        return share

    def _prune(self, now: float) -> None:
        # One whose bucket must be full again, and who holds nothing of it, knows nothing that matters.
        full = {k for k, s in self._shares.items() if s.guess(now) >= s.limit.burst and s.until <= now and not s.local}
        kept = {key: share for key, share in self._shares.items() if key not in full}
        if len(kept) >= self._most:
            kept = dict(sorted(kept.items(), key=lambda pair: pair[1].last)[self._most // 10 :])
        self._shares = kept

    async def follow(self) -> None:
        """Looks after the cache and after idle slices, for ever."""
        while True:
            await self.look()
            await self.sweep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN if self.degraded else _TICK):
                    await self._news.wait()
            self._news.clear()

    async def look(self) -> None:
        """Says that this gateway counts, counts the others, and notices that the cache is away or back."""
        now = self._clock()
        if not self.degraded and now - self._announced < EVERY:
            return
        try:
            self._said += 1
            await self._cache.announce(GROUP, self._name, b"%d" % self._said, LEASE)
            members = await self._cache.members(GROUP)
        except Unavailable as failure:
            self._lost(str(failure))
            return
        if self.degraded and not self._together(now, members):
            return
        self._announced, count = now, len(members)
        # One that misses once is counted on: parts that are too small are better than too large.
        if count >= self._gateways or now - self._counted > LEASE:
            self._gateways, self._counted = max(1, count), now
        self.degraded, self._back = False, None
        if self._told:
            self._told = False
            _degraded.set(0)
            log.warning("limits are shared again by %d gateways", self._gateways)

    def _together(self, now: float, members: dict[str, bytes]) -> bool:
        """Whether a cache that answers again may be used: not while others may still count alone.

        Who has said something since we are back is back as well.
        """
        if self._clock() - now > _SLOW:
            self._lost("the cache answers slowly")
            return False
        if self._back is None:
            self._back, self._there = now, members
        back = [name for name, said in members.items() if name == self._name or said != self._there.get(name)]
        return len(back) >= self._gateways or now - self._back > _REJOIN

    def _lost(self, reason: str) -> None:
        self.degraded, self._back = True, None
        if not self._told:
            self._told = True
            _degraded.set(1)
            log.warning("limits are counted by this gateway alone, as one of %d: %s", self._gateways, reason)

    async def sweep(self) -> None:
        """Hands back slices that nobody spent for a while, before they end."""
        now = self._clock()
        idle = [k for k, s in self._shares.items() if s.left and s.until > now and now - s.last > SLICE / 2]
        for key in idle:
            await self._give_back(key, self._shares[key])

    async def _give_back(self, key: str, share: _Share) -> None:
        if self.degraded or (share.claiming and not share.claiming.done()):
            return
        self._number += 1
        back, share.left, now = share.left, 0.0, self._clock()
        limit = share.limit
        claim = Claim(self._name, self._number, limit.rate, limit.burst, back=back, seconds=SLICE, epoch=share.epoch)
        try:
            grant = await self._cache.take(f"limit:{key}", claim)
        except Unavailable:
            return
        share.tokens, share.at, share.epoch = grant.tokens, now, grant.epoch

    async def close(self) -> None:
        """Hands back everything, as far as that takes no time."""
        now = self._clock()
        try:
            async with asyncio.timeout(_CLOSING):
                await asyncio.gather(*(share.claiming for share in self._shares.values() if share.claiming))
                for key, share in self._shares.items():
                    if share.left and share.until > now:
                        await self._give_back(key, share)
                await self._cache.withdraw(GROUP, self._name)
        except (TimeoutError, Unavailable):
            log.info("slices of shared limits were not handed back: they end by themselves")


def _standing(share: _Share, now: float, admitted: bool, wait: float) -> Standing:
    limit = share.limit
    there = min(limit.burst, share.guess(now) + share.left)
    full = math.ceil((limit.burst - there) / limit.rate)
    return Standing(admitted, int(limit.burst), int(there), full, wait, policy(limit))
