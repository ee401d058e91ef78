"""Token buckets that gateways share through the cache: each reserves slices and spends them in memory.

While the cache is away each gateway counts alone, with its part of every limit (RELIABILITY section 3).
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence

from prometheus_client import Gauge

from services.gateway.limits import PARKED, Limit, Standing, Taken, Taking, payable, tightest
from services.gateway.limits_slice import SLICE, Share
from services.kit.allowance import Claim
from services.kit.cache import Cache
from services.kit.errors import Unavailable
from services.kit.telemetry import REGISTRY

log = logging.getLogger(__name__)
GROUP = "limits"  # the group in the cache that gateways announce themselves in
LEASE, EVERY = 10.0, 1.0  # seconds that an announcement holds, and between two of them
_FAILURES = 3  # slices in a row that the cache did not give in time, after which it counts as away
_SOONEST = 0.02  # seconds before a bucket that was found empty is asked again
_ROUNDS = 8  # slices that one call waits for, while others spend what came
_TICK, _AGAIN = 1.0, 0.1  # seconds between looks at idle slices, and at a cache that is away
_SLOW = 0.05  # seconds; a cache that takes longer to answer is as good as away
_REJOIN = 32.0  # seconds within which every live gateway has noticed that the cache is back
_CLOSING = 0.5  # seconds in which a gateway that ends hands back what it has
_degraded = Gauge("aimass_limits_degraded", "Whether limits are counted by this gateway alone.", registry=REGISTRY)


class SharedBuckets:
    """Buckets that all gateways on one cache share. Over any time t they admit burst + rate * t together."""

    near = False

    def __init__(
        self, cache: Cache, name: str, clock: Callable[[], float] = time.monotonic, most: int = 100_000
    ) -> None:
        """`name` is this gateway's own; `clock` gives seconds and never goes back."""
        self._cache, self._name, self._clock, self._most = cache, name, clock, most
        self._shares: dict[str, Share] = {}
        self._number = 0
        self._gateways, self._counted = 1, -math.inf
        self.degraded, self._failures = False, 0
        # Whether the log says that it is degraded; since when the cache answers again, and the members at that time.
        self._logged = False
        self._back: float | None = None
        self._there: dict[str, bytes] = {}
        self._news = asyncio.Event()
        self._announced, self._announcements = -math.inf, 0

    def __len__(self) -> int:
        return len(self._shares)

    def take(self, key: str, limit: Limit, cost: float = 1.0, costly: bool = False) -> Standing | None:
        """A cost above seven eighths of the burst counts as that: the rest may lie with other gateways."""
        now = self._clock()
        share = self._shares.get(key)
        known = share and share.limit is limit and share.local is None and not self.degraded
        if not (share and known and share.has(now, cost)):
            return self.take_all([Taking(key, limit, cost)], costly)
        share.spend(now, cost)
        self._ahead(key, share, now)
        return share.standing(now, True, 0.0)

    def take_all(self, takings: Sequence[Taking], costly: bool = False) -> Standing | None:
        """Spends from all slices, or from none."""
        now = self._clock()
        if new := sum(key not in self._shares for key, _, _ in takings):
            self._make_room(now, new)
        found = [(self._share(key, limit, now), cost) for key, limit, cost in takings]
        if self.degraded:
            return self._alone(found, now, costly)
        short, refused = False, []
        for share, cost in found:
            if not share.has(now, cost):
                short = True
                if share.refuses(now, cost):
                    refused.append(share.standing(now, False, share.refused - now))
        if refused:
            return tightest(refused)
        if short:
            return None
        for (key, _, _), (share, cost) in zip(takings, found, strict=True):
            share.spend(now, cost)
            self._ahead(key, share, now)
        return tightest([share.standing(now, True, 0.0) for share, _ in found])

    async def wait_all(self, takings: Sequence[Taking], costly: bool = False) -> Standing:
        """Takes, and asks the cache for the slices that are missing, all at once; many calls wait for one answer."""
        for _ in range(_ROUNDS):
            if (standing := self.take_all(takings, costly)) is not None:
                return standing
            now = self._clock()
            short = [t for t in takings if not self._shares[t.key].has(now, t.cost)]
            waiting = [(self._shares[key], min(cost, payable(limit))) for key, limit, cost in short]
            for share, cost in waiting:
                share.waiting += cost
            try:
                await asyncio.shield(self._claim(short))
            finally:
                for share, cost in waiting:
                    share.waiting -= cost
        now = self._clock()
        return tightest([self._share(key, limit, now).standing(now, False, _SOONEST) for key, limit, _ in takings])

    def taken(self, takings: Sequence[Taking]) -> Sequence[Taken]:
        """A slice itself bounds what goes back into it."""
        return [Taken(*taking) for taking in takings]

    def give_back(self, taken: Sequence[Taken]) -> None:
        """What was taken from a slice goes back into it while it lasts."""
        now = self._clock()
        for key, _, cost, *_ in taken:
            if share := self._shares.get(key):
                share.give_back(now, cost, self._gateways)

    def _share(self, key: str, limit: Limit, now: float) -> Share:
        share = self._shares.get(key) or self._add(key, limit, now)
        share.limit = limit
        if share.local is not None and not self.degraded:
            share.rejoin(now, self._gateways)
        return share

    def _ahead(self, key: str, share: Share, now: float) -> None:
        """Asks for the next slice before this one is spent."""
        if share.left < share.slice / 2 and now >= share.refused and not share.asking:
            share.claiming = asyncio.get_running_loop().create_task(self._ask([Taking(key, share.limit, 0.0)]))

    def _claim(self, short: Sequence[Taking]) -> asyncio.Task[None]:
        """A claim of these that is under way, or a new one of all of them."""
        shares = [self._shares[key] for key, _, _ in short]
        for share in shares:
            if share.claiming is not None and not share.claiming.done():
                return share.claiming
        claiming = asyncio.get_running_loop().create_task(self._ask(short))
        for share in shares:
            share.claiming = claiming
        return claiming

    async def _ask(self, wanted: Sequence[Taking]) -> None:
        """Claims slices; without a cost a slice is claimed ahead of need."""
        now, self._number = self._clock(), self._number + 1
        asked = [(taking, self._shares[taking.key]) for taking in wanted if taking.key in self._shares]
        claims = [
            share.claim(self._name, self._number, taking.cost, self._part(share.limit), now) for taking, share in asked
        ]
        if not claims or any(claim.want <= 0 for claim in claims):
            return
        try:
            named = [(f"limit:{taking.key}", claim) for (taking, _), claim in zip(asked, claims, strict=True)]
            grants = await self._cache.take_all(named)
        except Unavailable:
            self._failures += 1
            if self._failures >= _FAILURES or not self._cache.up:
                self.degraded, self._failures = True, 0
                self._news.set()
            return
        self._failures = 0
        for (taking, share), grant in zip(asked, grants, strict=True):
            share.tokens, share.at, share.epoch, share.view = grant.tokens, now, grant.epoch, math.inf
            if grant.granted:
                share.granted(grant.granted, now, self._part(share.limit) > 0)
            elif grant.retry_after or len(asked) == 1:  # else another one was too empty
                share.refused = now + max(grant.retry_after, _SOONEST)
                share.least = max(min(taking.cost, payable(share.limit)), 1.0)

    def _part(self, limit: Limit) -> float:
        """The tokens that may be kept here for later calls."""
        part = limit.burst * PARKED / self._gateways
        return part if part >= 1 else 0.0

    def _alone(self, found: Sequence[tuple[Share, float]], now: float, costly: bool) -> Standing:
        """Counts on this gateway only."""
        gateways, short = self._gateways, []
        for share, cost in found:
            share.go_alone(now, gateways)
            needed = share.needs(cost, gateways, costly)
            if (share.local or 0.0) < needed:
                short.append(share.standing_alone(False, needed, gateways))
        if short:
            return tightest(short)
        for share, cost in found:
            share.spend_alone(cost)
        return tightest([share.standing_alone(True, 0.0, gateways) for share, _ in found])

    def _add(self, key: str, limit: Limit, now: float) -> Share:
        self._make_room(now, 1)
        share = self._shares[key] = Share(limit, now)
        return share

    def _make_room(self, now: float, more: int) -> None:
        if len(self._shares) + more <= self._most:
            return
        # A share without tokens of a bucket that must be full again holds nothing that matters.
        full = {k for k, s in self._shares.items() if s.guess(now) >= s.limit.burst and s.until <= now and not s.local}
        kept = {key: share for key, share in self._shares.items() if key not in full}
        if len(kept) + more > self._most:
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
        """Announces this gateway, counts the others, and notices that the cache is away or back."""
        now = self._clock()
        if not self.degraded and now - self._announced < EVERY:
            return
        try:
            self._announcements += 1
            await self._cache.announce(GROUP, self._name, b"%d" % self._announcements, LEASE)
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
        if self._logged:
            self._logged = False
            _degraded.set(0)
            log.warning("limits are shared again by %d gateways", self._gateways)

    def _together(self, now: float, members: dict[str, bytes]) -> bool:
        """Whether a cache that answers again may be used: not while others may still count alone.

        A gateway that has announced itself since then is back as well.
        """
        if self._clock() - now > _SLOW:
            self._lost("the cache answers slowly")
            return False
        if self._back is None:
            self._back, self._there = now, members
        back = [name for name, seen in members.items() if name == self._name or seen != self._there.get(name)]
        return len(back) >= self._gateways or now - self._back > _REJOIN

    def _lost(self, reason: str) -> None:
        self.degraded, self._back = True, None
        if not self._logged:
            self._logged = True
            _degraded.set(1)
            log.warning("limits are counted by this gateway alone, as one of %d: %s", self._gateways, reason)

    async def sweep(self) -> None:
        """Hands back slices that were not spent for a while, before they expire."""
        now = self._clock()
        idle = [k for k, s in self._shares.items() if s.left and s.until > now and now - s.last > SLICE / 2]
        for key in idle:
            await self._hand_back(key, self._shares[key])

    async def _hand_back(self, key: str, share: Share) -> None:
        if self.degraded or share.asking:
            return
        self._number += 1
        back, now = share.left, self._clock()
        share.left = share.most = 0.0
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
                        await self._hand_back(key, share)
                await self._cache.withdraw(GROUP, self._name)
        except (TimeoutError, Unavailable):
            log.info("slices of shared limits were not handed back: they end by themselves")
