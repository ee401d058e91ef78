"""What one request takes from token buckets: its key's and those of its tenant's limits; from all or from none."""

from collections.abc import Sequence

from services.gateway.limiting.book import Levels
from services.gateway.limiting.domain import BYTES, REQUESTS, ROWS, TOKENS
from services.gateway.limits import Limit, Limiter, Standing, Taken, Taking, payable, tightest
from services.kit.auth import Principal
from services.kit.errors import Code, Failure, InvalidValue, Unavailable, Violation

_MOST = 10**9  # tokens that one request can state


class Charge:
    """What one request has taken.

    The caller's bucket pays when the head is known; route, model and content pay later. When a later bucket refuses,
    everything is given back.
    """

    __slots__ = ("_levels", "_limit", "_limiter", "_taken", "principal", "size", "standing", "tokens")

    def __init__(self, limiter: Limiter, levels: Levels | None, principal: Principal, limit: Limit) -> None:
        """`limit` is the caller's own; `levels` are its tenant's limits, if any."""
        self._limiter, self._levels, self._limit, self.principal = limiter, levels, limit, principal
        # What could be given back.
        self._taken: list[Taken] = []
        self.standing: Standing | None = None
        # Bytes of the body, and tokens that the caller states.
        self.size = self.tokens = 0

    def begin(self, cost: float = 1.0, costly: bool = False) -> Standing | None:
        """Takes from the caller's bucket and those of its tenant; None: only `wait` can tell."""
        if self._levels is None:
            self.standing = self._limiter.take(self.principal.id, self._limit, cost, costly)
            return self.standing
        takings = [self._of_caller(cost), *self._levels.first(self.principal)]
        self.standing = standing = self._limiter.take_all(takings, costly)
        self._note(takings, standing)
        return standing

    async def wait(self, cost: float = 1.0, costly: bool = False) -> Standing:
        """The same, and asks the other gateways."""
        more = self._levels.first(self.principal) if self._levels else ()
        takings = [self._of_caller(cost), *more]
        self.standing = standing = await self._limiter.wait_all(takings, costly)
        self._note(takings, standing)
        return standing

    def _note(self, takings: Sequence[Taking], standing: Standing | None) -> None:
        if standing is not None and standing.admitted:
            self._taken += self._limiter.taken(takings)

    def _of_caller(self, cost: float) -> Taking:
        return Taking(self.principal.id, self._limit, cost)

    async def more(self, cost: float, costly: bool) -> None:
        """Takes more from the caller's bucket. Raises rate_limited, unavailable."""
        await self._add([self._of_caller(cost)], costly)

    def concerns(self, route: str, model: str = "") -> bool:
        """Whether there are limits that `take` asks."""
        return self._levels is not None and bool(self._levels.then(self.principal, route, model))

    async def take(self, route: str, model: str = "", rows: int = 0, costly: bool = False) -> None:
        """Takes, once, what route, model and content cost.

        Raises rate_limited, unavailable; limit_exceeded for what no full bucket could pay.
        """
        if self._levels is None:
            return
        costs = {REQUESTS: 1, ROWS: rows, BYTES: self.size, TOKENS: self.tokens}
        found = self._levels.then(self.principal, route, model)
        takings = [Taking(key, limit, costs[counts]) for key, limit, counts in found if costs[counts]]
        for _, limit, cost in takings:
            if cost > payable(limit):
                self.give_back()
                most = f"the limit {limit.name} lets one request have {payable(limit):.15g}"
                raise Failure(Code.LIMIT_EXCEEDED, f"{cost:.15g} {limit.counts} are too many at once: {most}")
        if takings:
            await self._add(takings, costly)

    async def _add(self, takings: Sequence[Taking], costly: bool) -> None:
        before = self.standing
        standing = self._limiter.take_all(takings, costly)
        self.standing = standing = standing or await self._limiter.wait_all(takings, costly)
        if not standing.admitted:
            self.give_back()
            enough(standing, costly)
        self._note(takings, standing)
        if before:
            self.standing = tightest([before, standing])

    def give_back(self) -> None:
        """Undoes what was taken: the request is refused by another bucket."""
        self._limiter.give_back(self._taken)
        self._taken = []


def stated(text: str) -> int:
    """The tokens that a caller states. Raises invalid_value."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MOST):
        rule = "must be a whole number of tokens, at most 1,000,000,000"
        raise InvalidValue(f"X-Tokens {rule}", [Violation("/x-tokens", rule)])
    return int(text)


def enough(standing: Standing, costly: bool = False) -> None:
    """Raises rate_limited for a call that was not admitted; unavailable for a costly one that is admitted later."""
    if standing.admitted:
        return
    if costly and standing.degraded:
        alone = "limits cannot be shared for now, and this gateway's part for costly work is spent"
        raise Unavailable(alone, retry_after=standing.retry_after)
    raise Failure(Code.RATE_LIMITED, _spent(standing.of), retry_after=standing.retry_after)


def _spent(limit: Limit) -> str:
    if limit.name == "key":
        return "the key calls too often"
    admitted = f"{limit.rate:.15g} {limit.counts} a second, and {limit.burst:.15g} at once"
    return f"the limit {limit.name} is spent: it admits {admitted}"
