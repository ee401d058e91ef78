"""Records of a source shared among the rules of a set, in their order. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from services.data.reading import vectors
from services.data.reading.extractor import NO_MATCH, Extractor
from services.data.reading.vectors import Typed

NO_RULE = "no rule matches"
_PAIRED = 20  # rules that take a record, of which each two are counted


@dataclass
class Shares:
    """What the rules of a set made of some records."""

    # Of each rule.
    typed: list[Typed] = field(default_factory=list)
    # What no rule takes: its place, the first rule that refused more than its form, and why. No rule: -1.
    left: list[tuple[int, int, str]] = field(default_factory=list)
    # Records that two rules took, and that more than one did.
    overlaps: Counter[tuple[int, int]] = field(default_factory=Counter)
    overlapping: int = 0


def share(ready: Extractor, records: Sequence[Any], every: bool) -> Shares:
    """Gives each record to the first rule that makes a row of it or, with `every`, to all that do."""
    shares, takers = Shares(), [()] * len(records)  # type: tuple[Shares, list[tuple[int, ...]]]
    reasons = dict[int, tuple[int, str]]()
    for rule, (branch, group) in enumerate(zip(ready.branches, _groups(ready, records), strict=True)):
        tried = group if every else [place for place in group if not takers[place]]
        typed = vectors.extract(branch, [records[place] for place in tried])
        refused = {tried[place]: reason for place, reason in typed.refused}
        for place, reason in refused.items():
            if reason != NO_MATCH:
                reasons.setdefault(place, (rule, reason))
        for place in tried:
            if place not in refused:
                takers[place] += (rule,)
        shares.typed.append(typed)
    for place, taken in enumerate(takers):
        if not taken:
            shares.left.append((place, *reasons.get(place, (-1, NO_RULE))))
        elif len(taken) > 1:
            shares.overlapping += 1
            shares.overlaps.update(pairs(taken))
    return shares


def pairs(takers: Sequence[int]) -> list[tuple[int, int]]:
    """Each two of the first rules that take a record, in their order."""
    return list(combinations(takers[:_PAIRED], 2))


def _groups(ready: Extractor, records: Sequence[Any]) -> Sequence[Sequence[int]]:
    """For each rule the places of the records that it has to look at."""
    if ready.choose is None:
        return [range(len(records))] * len(ready.branches)
    groups: list[list[int]] = [[] for _ in ready.branches]
    for place, record in enumerate(records):
        for rule in ready.choose(record):
            groups[rule].append(place)
    return groups
