"""What a rule set means: immutable versions of rules in an order, one of them active; who gets a record. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.data.rules.domain import Refused
from services.kit import resources
from services.kit.errors import Code, FailedPrecondition, Failure, match_etag

MOST_OVERLAPS = 100  # pairs that are named
SHOWN_EACH = 5  # rows, and refused records, of a rule that are shown of a test


class Match(StrEnum):
    """Which of the rules that take a record get it."""

    FIRST = "first"
    ALL = "all"


@dataclass(frozen=True)
class Member:
    """A rule of a set, in one version, and the data set that it writes."""

    rule: str
    version: int
    data_set: str


@dataclass(frozen=True)
class RuleSetVersion:
    """One version: its rules in their order."""

    version: int
    match: Match
    members: tuple[Member, ...]
    create_time: datetime

    @property
    def versions(self) -> Mapping[str, int]:
        """The versions of its rules by name."""
        return {member.rule: member.version for member in self.members}


@dataclass(frozen=True)
class RuleSet:
    """A rule set as it stands; `active_version` is 0 while none is. `data_set` has its reports."""

    rule_set: str
    source: str
    data_set: str
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    latest_version: int = 1
    active_version: int = 0
    generation: int = 1


@dataclass(frozen=True)
class RuleSetView:
    """A rule set with one of its versions."""

    rule_set: RuleSet
    version: RuleSetVersion


@dataclass(frozen=True)
class Overlap:
    """Two rules that take the same records."""

    first: str
    second: str
    records: int
    examples: tuple[str, ...] = ()


@dataclass
class RuleTrial:
    """What a rule of a set made of a sample: what it would take alone, what it gets, what it refuses by its values."""

    member: Member
    accepted: int = 0
    taken: int = 0
    refusals: int = 0
    rows: list[dict[str, object]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """What a version made of a sample."""

    tried: int
    accepted: int
    overlapping: int
    rules: tuple[RuleTrial, ...]
    overlaps: tuple[Overlap, ...]
    refused: tuple[Refused, ...]

    @property
    def coverage(self) -> float:
        """accepted / tried; 0 of nothing."""
        return self.accepted / self.tried if self.tried else 0.0


def ranked(counts: Counter[tuple[int, int]]) -> list[tuple[tuple[int, int], int]]:
    """The pairs of rules that share most records, most first; pairs that share as many in their order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_OVERLAPS]


def extended(rule_set: RuleSet, now: datetime) -> RuleSet:
    """The set with one more version."""
    return resources.changed(rule_set, now, latest_version=rule_set.latest_version + 1)


def activated(rule_set: RuleSet, version: int, etag: str, now: datetime) -> RuleSet:
    """The set with this version active. Raises unknown_version, etag_mismatch."""
    match_etag(etag, rule_set.generation, rule_set.rule_set)
    if not 0 < version <= rule_set.latest_version:
        raise Failure(Code.UNKNOWN_VERSION, f"{rule_set.rule_set} has no version {version}")
    if version == rule_set.active_version:
        return rule_set
    return resources.changed(rule_set, now, active_version=version)


def active(rule_set: RuleSet) -> int:
    """The version that extractions use. Raises failed_precondition while there is none."""
    if not rule_set.active_version:
        raise FailedPrecondition(f"{rule_set.rule_set} has no active version")
    return rule_set.active_version
