"""The use of one model by one caller, counted in memory: slices of the ledger, and use that needs no reservation."""

import asyncio
import math
from typing import NamedTuple

from services.gateway.ledger.domain import Amounts, Entry
from services.kit.auth import Scope
from services.kit.errors import Failure

_FEWEST, _MOST = 16, 100_000  # requests of a slice
_ROWS = 10_000_000  # rows of a slice
_TOKENS = 10**10  # tokens of a slice
QUICK = 2.0  # seconds in which a slice that is spent was too small


class Owner(NamedTuple):
    """A caller and a model whose use is counted together."""

    scope: Scope
    principal: str
    model: str


class Need(NamedTuple):
    """What one request needs. Tokens are those that its caller states."""

    rows: int
    tokens: int = 0

    def covers(self, other: "Need") -> bool:
        """It takes at least as much of everything."""
        return self.rows >= other.rows and self.tokens >= other.tokens


class Slice:
    """An amount that is reserved and may be used without asking; without an entry it is unbounded."""

    __slots__ = (
        "began", "entry", "flying", "requests", "rows", "size", "tokens", "until", "used_requests", "used_rows",
        "used_tokens",
    )  # fmt: skip

    def __init__(self, entry: Entry | None, began: float, until: float) -> None:
        self.entry, self.began, self.until = entry, began, until
        self.requests: float = entry.reserved.requests if entry else math.inf
        self.rows: float = entry.reserved.rows if entry else math.inf
        self.tokens: float = entry.reserved.tokens if entry else math.inf
        self.size = self.requests, self.rows, self.tokens
        self.used_requests = self.used_rows = self.used_tokens = self.flying = 0

    @property
    def low(self) -> bool:
        """Half of it is gone."""
        requests, rows, tokens = self.size
        return self.requests * 2 < requests or self.rows * 2 < rows or self.tokens * 2 < tokens

    def used(self) -> Amounts:
        """The use so far, without requests under way."""
        return Amounts(self.used_requests, self.used_rows, tokens=self.used_tokens)

    def taken(self) -> Amounts:
        """The use including requests under way."""
        requests, rows, tokens = self.size
        return Amounts(int(requests - self.requests), int(rows - self.rows), tokens=int(tokens - self.tokens))


class Hold(NamedTuple):
    """What one request took, until it is answered or has failed."""

    part: Slice
    need: Need

    def spend(self) -> None:
        """Counts it as used."""
        part, (rows, tokens) = self
        part.flying -= 1
        part.used_requests += 1
        part.used_rows += rows
        part.used_tokens += tokens

    def release(self) -> None:
        """Gives it back."""
        part, (rows, tokens) = self
        part.flying -= 1
        part.requests += 1
        part.rows += rows
        part.tokens += tokens


class Account:
    """The slices of one owner: the one that is spent, the next, and those whose requests have not all ended."""

    __slots__ = (
        "away", "ended", "last", "limited", "next", "owner", "refusal", "refused", "size", "slice", "tally", "turn",
        "waiting", "wanted",
    )  # fmt: skip

    def __init__(self, owner: Owner, now: float) -> None:
        self.owner = owner
        self.slice: Slice | None = None
        self.next: Slice | None = None
        self.ended: list[Slice] = []
        self.tally = Slice(None, now, math.inf)
        self.limited, self.turn = False, -1
        # Requests, rows and tokens of the next slice.
        self.size, self.last = (_FEWEST, _FEWEST, 0), now
        # What a request waits for, or nothing for a slice that is wished for ahead of need; None: none is wished for.
        self.wanted: Need | None = None
        self.waiting: asyncio.Future[None] | None = None
        # Until when requests of so much or more are refused without asking, and how.
        self.refusal: Failure | None = None
        self.refused, self.away = (0.0, Need(0)), 0.0

    def take(self, need: Need, now: float) -> Slice | None:
        """The slice that a request was taken from; None when none has so much."""
        part, (rows, tokens) = self.slice, need
        if part is not None and part.requests >= 1 and part.rows >= rows and part.tokens >= tokens and now < part.until:
            part.requests -= 1
            part.rows -= rows
            part.tokens -= tokens
            part.flying += 1
            return part
        if self.next is not None:
            self.turn_over(now)
            return self.take(need, now)
        return None

    def want(self, need: Need) -> None:
        """Asks for a slice of at least so much, unless another request waits that needs more of something.

        It is always the need of one request: the sum of several could be refused to all of them.
        """
        if self.wanted is None or need.covers(self.wanted):
            self.wanted = need

    def turned_away(self, need: Need, now: float) -> Failure | None:
        """The refusal of a request without asking: one that needs no more was refused a moment ago."""
        until, least = self.refused
        return self.refusal if now < until and need.covers(least) else None

    def turn_over(self, now: float) -> None:
        """Goes on with the next slice, if there is one; its size follows how long this one lasted."""
        if self.slice is not None:
            self._resize(self.slice, now)
            self.ended.append(self.slice)
        self.slice, self.next = self.next, None

    def _resize(self, part: Slice, now: float) -> None:
        taken, (requests, *each) = part.taken(), (self.size[0], *(size // self.size[0] for size in self.size[1:]))
        if taken.requests:  # as many rows and tokens for a request as one takes now, not as one took once
            each = [-(-amount // taken.requests) for amount in (taken.rows, taken.tokens)]
        rows, tokens = each
        if part.low and now - part.began < QUICK:
            requests = min(requests * 2, _MOST)
        elif taken.requests * 4 < part.size[0]:
            requests = max(requests // 2, _FEWEST)
        self.size = requests, min(requests * max(rows, 1), _ROWS), min(requests * tokens, _TOKENS)

    def put(self, part: Slice) -> None:
        """Takes in a slice that was reserved."""
        if self.slice is None:
            self.slice = part
        elif self.next is None:
            self.next = part
        else:
            self.ended.append(part)

    @property
    def idle(self) -> bool:
        """Nothing is left to settle, and no request waits."""
        nothing = self.slice is None and self.next is None and not self.ended and self.waiting is None
        return nothing and self.wanted is None and not self.tally.flying and not self.tally.used_requests
