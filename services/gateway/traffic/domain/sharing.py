"""How the requests for a model are shared among its versions: rules in order, as the registry's releases say them."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# The fractional part of the golden ratio: its multiples fill an interval as evenly as any can, and no pattern of
# requests falls in with them.
GOLDEN = (math.sqrt(5) - 1) / 2
_WHOLE = 100.0


class Caller(NamedTuple):
    """The caller's id, and its headers by lower-case name; None for one that it has not sent."""

    id: str
    header: Callable[[str], str | None]


class Share(NamedTuple):
    """The percentage of a version."""

    version: int
    percent: float


@dataclass(frozen=True, slots=True)
class Rule:
    """Some requests, and the versions that answer them. What shares leave is for the serving version."""

    shares: tuple[Share, ...]
    header: str = ""
    values: frozenset[str] = frozenset()
    callers: tuple[str, ...] = ()
    # Whether a caller keeps its version, by its id or by a header; else each request is shared out by itself.
    sticky: bool = False
    sticky_header: str = ""

    def fits(self, caller: Caller) -> bool:
        """Whether it is for a request."""
        if self.header:
            value = caller.header(self.header)
            if value is None or (self.values and value not in self.values):
                return False
        return not self.callers or any(_matches(pattern, caller.id) for pattern in self.callers)


def _matches(pattern: str, who: str) -> bool:
    return pattern == who or (pattern.endswith("*") and who.startswith(pattern[:-1]))


def choose(rules: Sequence[Rule], model: str, caller: Caller, turn: Callable[[int], float]) -> int:
    """The version that rules give a request, 0 for what serves. `turn` gives 0..1, evenly for the rule of an index."""
    for index, rule in enumerate(rules):
        if rule.fits(caller):
            return _kept(rule, model, caller) if rule.sticky else _at(rule.shares, turn(index) * _WHOLE)
    return 0


def _at(shares: Sequence[Share], point: float) -> int:
    """The version in whose share of 100 percent a point is."""
    for version, percent in shares:
        point -= percent
        if point < 0:
            return version
    return 0


def _kept(rule: Rule, model: str, caller: Caller) -> int:
    """Weighted rendezvous hashing: a caller keeps its version unless another's share grows in relation to its share.

    Each version, and what serves (0), draws a number for the caller, divided by its share; the least wins
    (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
    """
    who = (rule.sticky_header and caller.header(rule.sticky_header)) or caller.id
    left = _WHOLE - sum([percent for _, percent in rule.shares])
    best, least = 0, _drawn(model, 0, who) / left if left > 1e-9 else math.inf
    for version, percent in rule.shares:
        found = _drawn(model, version, who) / percent
        if found < least:
            best, least = version, found
    return best


def _drawn(model: str, version: int, who: str) -> float:
    """A number above 0, the same each time, distributed exponentially over all callers."""
    digest = hashlib.blake2b(f"{model}/{version}/{who}".encode(), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 1) / 2**64)
