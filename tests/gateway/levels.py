"""A hierarchy of buckets on a clock of the test's, beside what its limits allow, for as many steps as somebody wants.

`python -m tests.gateway.levels STEPS [SEED]` runs it at length.
"""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.gateway.limits import Buckets, Limit, Taken, Taking, payable

LIMITS = {
    "tenant": Limit(14, 30, "tenant/all"),
    "route": Limit(10, 25, "route/one"),
    "size": Limit(4000, 9000, "route/size", "bytes"),
    **{f"model-{n}": Limit(12 + n, 20 + 3 * n, f"model/{n}") for n in range(3)},
    **{f"rows-{n}": Limit(100 * (n + 1), 250, f"model/rows-{n}", "rows") for n in range(3)},
    **{f"key-{n}": Limit(3 + n, 4 + n) for n in range(5)},
}
_SLACK = 1e-6


@dataclass
class Account:
    """What a bucket has paid for, as (when, cost): what was refused is struck out."""

    limit: Limit
    paid: list[list[float]] = field(default_factory=list)
    # The bucket at some time before which nothing is struck out any more.
    tokens: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.limit.burst

    def least(self, settled: float) -> float:
        """The least that a plain bucket would have had, had it paid for all of this and nothing else: what is below 0
        was admitted above burst + rate * t in some window of time t."""
        tokens, at, least, done = self.tokens, self.at, self.tokens, 0
        for number, (when, cost) in enumerate(self.paid):
            tokens = min(self.limit.burst, tokens + (when - at) * self.limit.rate) - cost
            at, least = when, min(least, tokens)
            if when < settled:
                self.tokens, self.at, done = tokens, at, number + 1
        del self.paid[:done]
        return least


@dataclass
class Going:
    """A request under way: what it has taken, what it will take, and its lines in the accounts."""

    since: float
    taken: Sequence[Taken]
    then: list[Taking]
    lines: list[tuple[Account, list[float]]]


class Model:
    """Requests at random, in the two steps that a request has: what is known first, then the rest or nothing."""

    def __init__(self, seed: int) -> None:
        self.now, self.rng = 0.0, random.Random(seed)
        self.buckets = Buckets(lambda: self.now)
        self.accounts = {name: Account(limit) for name, limit in LIMITS.items()}
        self.admitted, self.refused = 0, {"first": 0, "then": 0}
        self.going: list[Going] = []
        # Of what was given back, what came back, and what had room.
        self.back = self.due = 0.0

    def arrive(self, key: int, model: int, rows: int, size: int) -> None:
        """A request takes what is known first."""
        costs = {"route": 1, "size": size, f"model-{model}": 1, f"rows-{model}": rows}
        then = [Taking(name, LIMITS[name], min(cost, payable(LIMITS[name]))) for name, cost in costs.items()]
        first = [Taking(name, LIMITS[name], 1) for name in (f"key-{key}", "tenant")]
        if self._take(first, "first"):
            self.going.append(Going(self.now, self.buckets.taken(first), then, self._pay(first)))

    def go_on(self, which: int) -> None:
        """One of the requests under way takes the rest, or gives all back."""
        if not self.going:
            return
        going = self.going.pop(which % len(self.going))
        if self._take(going.then, "then"):
            self._pay(going.then)
            self.admitted += 1
            return
        before = self.tokens()
        self.buckets.give_back(going.taken)
        for account, line in going.lines:
            account.paid.remove(line)
        after = self.tokens()
        for key, limit, cost, *_ in going.taken:
            back = after[key] - before[key]
            assert back <= cost + _SLACK, f"{key} got more than it gave"
            self.back += back
            self.due += min(cost, limit.burst - before[key])

    def _take(self, takings: list[Taking], step: str) -> bool:
        before = self.tokens()
        if self.buckets.take_all(takings).admitted:
            return True
        self.refused[step] += 1
        after = self.tokens()
        assert all(abs(after[key] - before[key]) <= _SLACK for key in LIMITS), "what was refused was charged"
        return False

    def _pay(self, takings: list[Taking]) -> list[tuple[Account, list[float]]]:
        lines = [(self.accounts[taking.key], [self.now, taking.cost]) for taking in takings]
        for account, line in lines:
            account.paid.append(line)
        return lines

    def tokens(self) -> dict[str, float]:
        """What is in each bucket now."""
        found = {}
        for name, limit in LIMITS.items():
            bucket = self.buckets._buckets.get(name)
            there = limit.burst if bucket is None else bucket.tokens + (self.now - bucket.at) * limit.rate
            found[name] = min(limit.burst, there)
        return found

    def check(self) -> None:
        """No level has admitted more than burst + rate * t in any window of time."""
        settled = min((going.since for going in self.going), default=self.now)
        for name, account in self.accounts.items():
            assert account.least(settled) >= -_SLACK, f"{name} admitted too much"

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def step(self) -> None:
        """Some time, then a request that comes or goes on."""
        rng = self.rng
        self.wait(rng.choice((0.0, rng.expovariate(300), rng.expovariate(300), rng.expovariate(10))))
        if rng.random() < 0.55:
            self.arrive(rng.randrange(5), rng.randrange(3), rng.choice((1, 1, 5, 50, 200)), rng.choice((40, 200, 3000)))
        else:
            self.go_on(rng.randrange(1000))


def run(steps: int, seed: int, every: int = 50) -> Model:
    """The model after some steps; each `every` of them all that was admitted is held against the limits."""
    model = Model(seed)
    for number in range(steps):
        model.step()
        if number % every == 0:
            model.check()
    model.check()
    return model


if __name__ == "__main__":
    begun, count = time.perf_counter(), int(sys.argv[1])
    found = run(count, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    took = time.perf_counter() - begun
    print(f"{count} steps, {found.admitted} admitted, {found.refused} refused, nothing above a limit, {took:.0f} s")
