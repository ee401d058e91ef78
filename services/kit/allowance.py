"""A token bucket that several holders share: each takes slices in advance, and no token is spent twice.

Unspent tokens of slices count against the burst, so over any time t all holders together spend at most
burst + rate * t. A slice expires; its unspent tokens are then lost unless the holder has handed them back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Claim:
    """What a holder wants, and what it still has."""

    holder: str
    # Grows with every claim of the holder: a claim that arrives after a later one has no effect.
    number: int
    rate: float
    burst: float
    # Tokens that it wants, and the least that it needs; if it wants none, it only hands back.
    want: float = 0.0
    least: float = 0.0
    # Of its earlier slices: tokens that it keeps, and tokens that it hands back.
    left: float = 0.0
    back: float = 0.0
    # How long it may spend the slice, from before it asked.
    seconds: float = 5.0
    # The epoch of the cache as last seen. If the cache was emptied since, there are at most `view` tokens.
    epoch: str = ""
    view: float = math.inf


class Grant(NamedTuple):
    """The answer to a claim."""

    granted: float
    # Tokens left in the bucket, which is full after (burst - tokens) / rate seconds.
    tokens: float
    # Seconds until `least` tokens may be there; 0 if they were.
    retry_after: float
    epoch: str


class Pot:
    """The bucket in memory. `cache_redis` has the same rules as a script."""

    def __init__(self, burst: float, now: float) -> None:
        self._tokens, self._at = burst, now
        # By holder: tokens it may hold, until when, and the number of its claim.
        self._held: dict[str, tuple[float, float, int]] = {}

    def claim(self, claim: Claim, now: float, epoch: str) -> Grant:
        """Grants the tokens that there are. `now` is in seconds of the cache's clock."""
        return claim_all([(self, claim)], now, epoch)[0]

    def _look(self, claim: Claim, now: float, epoch: str) -> tuple[float, float]:
        """The tokens for a claim, and the seconds until there are enough; below 0: a later claim came first."""
        held = self._pass(claim, now)
        amount, _, number = self._held.get(claim.holder, (0.0, 0.0, 0))
        if number >= claim.number:
            return self._tokens, -1.0
        held -= amount
        tokens = self._tokens + min(claim.back, amount)
        if claim.epoch != epoch:
            tokens = min(tokens, claim.view)
        room = max(0.0, claim.burst - held - claim.left)
        tokens, least, wait = min(tokens, room), min(claim.least, claim.burst), 0.0
        if claim.want > 0 and tokens < least:
            wait = (least - tokens) / claim.rate
            if room < least:  # others hold it: until the first of them must have let go
                others = [until for holder, (_, until, _) in self._held.items() if holder != claim.holder]
                wait = max(wait, min(others, default=now) - now)
        return tokens, wait

    def _settle(self, claim: Claim, now: float, tokens: float, granted: float) -> None:
        self._tokens = tokens - granted
        self._held[claim.holder] = claim.left + granted, now + claim.seconds, claim.number

    def idle(self, rate: float, burst: float, now: float) -> bool:
        """Whether it is full and no slice is held."""
        return all(until <= now for _, until, _ in self._held.values()) and (
            self._tokens + (now - self._at) * rate >= burst
        )

    def _pass(self, claim: Claim, now: float) -> float:
        """Refills up to now and removes expired slices; returns the tokens in slices."""
        if back := max(0.0, self._at - now):  # a clock that was set back must not make slices last longer
            self._at = now
            self._held = {h: (amount, until - back, n) for h, (amount, until, n) in self._held.items()}
        held = sum(amount for amount, _, _ in self._held.values())
        for holder, (amount, until, _) in sorted(self._held.items(), key=lambda item: item[1][1]):
            if until <= now:
                self._fill(claim, held, until)
                held -= amount
                del self._held[holder]
        self._fill(claim, held, now)
        return held

    def _fill(self, claim: Claim, held: float, until: float) -> None:
        grown = self._tokens + max(0.0, until - self._at) * claim.rate
        self._tokens = max(0.0, min(claim.burst - held, grown))
        self._at = max(self._at, until)


def claim_all(asked: Sequence[tuple[Pot, Claim]], now: float, epoch: str) -> list[Grant]:
    """Grants tokens of each pot, or of none if one of them has too few. Pots must be distinct."""
    found = [pot._look(claim, now, epoch) for pot, claim in asked]
    if any(wait < 0 for _, wait in found):
        return [Grant(0.0, tokens, 0.0, epoch) for tokens, _ in found]
    enough, grants = not any(wait for _, wait in found), []
    for (pot, claim), (tokens, wait) in zip(asked, found, strict=True):
        granted = max(0.0, min(claim.want, tokens)) if enough else 0.0
        pot._settle(claim, now, tokens, granted)
        grants.append(Grant(granted, tokens - granted, wait, epoch))
    return grants
