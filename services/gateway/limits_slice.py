"""One gateway's share of a bucket: a slice to spend, or its part while the cache is away."""

import asyncio
import math

from services.gateway.limits import Limit, Standing, payable, policy
from services.kit.allowance import Claim

SLICE = 5.0  # seconds that a slice may be spent


class Share:
    """This gateway's share of one key's bucket."""

    __slots__ = (
        "at", "claiming", "epoch", "last", "least", "left", "limit", "local", "local_at", "most", "refused", "slice",
        "tokens", "until", "view", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        # The slice: tokens, until when they may be spent, how many came with it, and when one was spent last.
        self.left = self.until = self.slice = 0.0
        self.last = now
        # What the cache counts as held here: what is given back fills the slice up to that.
        self.most = 0.0
        # The bucket as the cache told of it: tokens, and when that was. Nothing was told yet: it may be full.
        self.tokens, self.at, self.epoch = limit.burst, now, ""
        # The most that can be in the bucket, from what was spent while the cache was away.
        self.view = math.inf
        # Until when calls that cost `least` or more are refused without asking.
        self.refused, self.least = 0.0, 0.0
        # While the cache is away: tokens of this gateway's part.
        self.local: float | None = None
        self.local_at = 0.0
        self.claiming: asyncio.Task[None] | None = None
        self.waiting = 0.0

    @property
    def asking(self) -> bool:
        """Whether a claim is under way."""
        return self.claiming is not None and not self.claiming.done()

    def guess(self, now: float) -> float:
        """The most tokens that can be in the bucket, as far as is known here."""
        return min(self.limit.burst, self.tokens + (now - self.at) * self.limit.rate)

    def has(self, now: float, cost: float) -> bool:
        """Whether the slice pays for a call."""
        if self.until <= now:
            self.left = 0.0
        return self.left >= min(cost, payable(self.limit))

    def refuses(self, now: float, cost: float) -> bool:
        """Whether the bucket was found too empty for a call, and nothing can have changed."""
        return now < self.refused and min(cost, payable(self.limit)) >= self.least

    def spend(self, now: float, cost: float) -> None:
        self.left -= min(cost, payable(self.limit))
        self.last = now

    def claimed(self, now: float) -> float:
        """The rest of the slice when another is claimed: the cache counts on no more being held here."""
        self.left = self.most = self.left if self.until > now else 0.0
        return self.left

    def claim(self, holder: str, number: int, cost: float, part: float, now: float) -> Claim:
        """The claim that pays a call, or one ahead of need without a cost; `part` may be kept here for later calls."""
        limit, left, cost = self.limit, self.claimed(now), min(cost, payable(self.limit))
        want, least = (max(part, self.waiting), max(cost - left, 0.0)) if cost else (part - left, 1.0)
        view = min(self.view, self.guess(now)) if self.epoch else self.view
        return Claim(
            holder, number, limit.rate, limit.burst, want, min(least, want), left, 0.0, SLICE, self.epoch, view
        )

    def granted(self, amount: float, now: float, parked: bool) -> None:
        """Takes more, asked for at `now`; `parked`: some of it may lie here for others to come."""
        self.left, self.most, self.until = self.left + amount, self.most + amount, now + SLICE
        self.slice = self.left if parked else 0.0

    def give_back(self, now: float, cost: float, gateways: int) -> None:
        """Undoes what was spent a moment ago. What was spent from a slice that is over is lost."""
        paid = min(cost, payable(self.limit))
        if self.local is not None:
            self.local = min(self._room(gateways), self.local + min(cost, self.limit.burst))
        elif self.until > now:
            self.left = max(self.left, min(self.most, self.left + paid))

    def _room(self, gateways: int) -> float:
        return max(self.limit.burst / gateways, 1.0)

    def go_alone(self, now: float, gateways: int) -> None:
        """Counts on this gateway only, from the tokens that were left and with its part of the rate."""
        limit, room = self.limit, self._room(gateways)
        if self.local is None:
            left = self.left if self.until > now else 0.0
            self.local, self.local_at, self.left = min(room, self.guess(now) / gateways + left), now, 0.0
        self.local = min(room, self.local + (now - self.local_at) * limit.rate / gateways)
        self.local_at = now

    def needs(self, cost: float, gateways: int, costly: bool) -> float:
        """The tokens that a call needs while this gateway counts alone."""
        return min(cost, self.limit.burst if costly else self._room(gateways))

    def spend_alone(self, cost: float) -> None:
        """Takes a cost, also into debt: this gateway then admits nothing until it is paid off."""
        self.local = (self.local or 0.0) - min(cost, self.limit.burst)

    def rejoin(self, now: float, gateways: int) -> None:
        """Back with the others: the bucket has grown meanwhile, so it is told what is left of this gateway's part."""
        local = (self.local or 0.0) + (now - self.local_at) * self.limit.rate / gateways
        self.view, self.epoch, self.local = max(0.0, min(self.limit.burst, local * gateways)), "", None
        self.left = self.until = self.refused = self.most = 0.0

    def standing(self, now: float, admitted: bool, wait: float) -> Standing:
        """The standing of the bucket."""
        limit = self.limit
        there = min(limit.burst, self.guess(now) + self.left)
        full = math.ceil((limit.burst - there) / limit.rate)
        return Standing(admitted, int(limit.burst), int(there), full, wait, policy(limit), limit)

    def standing_alone(self, admitted: bool, needed: float, gateways: int) -> Standing:
        """The standing of this gateway's part."""
        limit, local = self.limit, self.local or 0.0
        wait = 0.0 if admitted else (needed - local) * gateways / limit.rate
        full = math.ceil((self._room(gateways) - local) * gateways / limit.rate)
        header = policy(limit, degraded=True)
        return Standing(admitted, int(limit.burst), max(0, int(local)), full, wait, header, limit, degraded=True)
