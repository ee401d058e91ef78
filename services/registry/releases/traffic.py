"""How the requests for a model are shared among its versions. Pure: no I/O, no clock."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from services.kit.errors import InvalidValue, Violation, match_etag

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
_CALLER = re.compile(r"(key|user):[!-~]{0,195}\Z")
# What is no header to tell callers apart by: secrets, and what a message is wrapped in.
_NOT = frozenset({"authorization", "proxy-authorization", "cookie", "signature", "signature-input", "content-length"})
_SLACK = 1e-9  # of percents that are added up


class Sticky(StrEnum):
    """Who has the same version each time."""

    NOBODY = ""
    CALLER = "caller"
    HEADER = "header"


@dataclass(frozen=True)
class Share:
    """So many percent for a version."""

    version: int
    percent: float


@dataclass(frozen=True)
class Rule:
    """Some requests, and what answers them."""

    shares: tuple[Share, ...]
    header: str = ""
    values: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    sticky: Sticky = Sticky.NOBODY
    sticky_header: str = ""


@dataclass(frozen=True)
class Traffic:
    """Rules in order. The generation grows by 1 with every change; 0: never said."""

    rules: tuple[Rule, ...] = ()
    # How instances are chosen; empty: as elsewhere.
    balancing: str = ""
    generation: int = 0
    update_time: datetime | None = field(default=None, compare=False)

    @property
    def etag(self) -> str:
        return str(self.generation)

    @property
    def versions(self) -> frozenset[int]:
        """Numbers of the versions that rules name."""
        return frozenset(share.version for rule in self.rules for share in rule.shares)


PLAIN = Traffic()


def checked(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Rules with headers in small letters. Raises invalid_value that names what cannot be."""
    found = tuple(replace(rule, header=rule.header.lower(), sticky_header=rule.sticky_header.lower()) for rule in rules)
    wrong = [Violation(f"/rules/{index}/{at}", why) for index, rule in enumerate(found) for at, why in _faults(rule)]
    if wrong:
        raise InvalidValue(f"rule {int(wrong[0].pointer.split('/')[2]) + 1}: {wrong[0].rule}", wrong)
    return found


def _faults(rule: Rule) -> Iterator[tuple[str, str]]:
    for at, header in (("header", rule.header), ("sticky_header", rule.sticky_header)):
        if header and (header in _NOT or not _HEADER.match(header)):
            yield at, f"{header[:50]} is no header that requests can be told apart by"
    if rule.values and not rule.header:
        yield "values", "values are of a header, and none is named"
    if (rule.sticky is Sticky.HEADER) != bool(rule.sticky_header):
        yield "sticky_header", "STICKY_HEADER and sticky_header go together"
    for number, caller in enumerate(rule.callers):
        if not _CALLER.match(caller):
            yield f"callers/{number}", "a caller is key:abcd1234, user:name, or the beginning of it and *"
    yield from _of_shares(rule.shares)


def _of_shares(shares: Sequence[Share]) -> Iterator[tuple[str, str]]:
    if not shares:
        yield "shares", "there must be at least one share"
    for number, share in enumerate(shares):
        if not 0 < share.percent <= 100:  # also what is no number
            yield f"shares/{number}/percent", "a share is above 0 and at most 100 percent"
    if len({share.version for share in shares}) < len(shares):
        yield "shares", "a version has one share only"
    if sum(share.percent for share in shares) > 100 + _SLACK:
        yield "shares", "shares are more than 100 percent together"


def change(before: Traffic, model: str, rules: Sequence[Rule], balancing: str, etag: str, now: datetime) -> Traffic:
    """The traffic with other rules; the same one when nothing changes. Raises etag_mismatch."""
    match_etag(etag, before.etag, f"the traffic of {model}")
    if (before.rules, before.balancing) == (tuple(rules), balancing):
        return before
    return Traffic(tuple(rules), balancing, before.generation + 1, now)
