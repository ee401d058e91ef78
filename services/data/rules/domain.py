"""What a rule means: immutable versions of how records become rows, one of them active."""

from dataclasses import dataclass
from datetime import datetime

from services.data.reading.kinds import Compiled, Definition, RuleDefinition, name_of
from services.kit import resources
from services.kit.errors import Code, FailedPrecondition, Failure, match_etag


@dataclass(frozen=True)
class RuleVersion:
    """One version: as it was said, and as it runs."""

    version: int
    definition: RuleDefinition
    compiled: Compiled
    create_time: datetime


@dataclass(frozen=True)
class Rule:
    """A rule as it stands; `active_version` is 0 while none is."""

    rule: str
    source: str
    data_set: str
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    latest_version: int = 1
    active_version: int = 0
    generation: int = 1


@dataclass(frozen=True)
class RuleView:
    """A rule with one of its versions."""

    rule: Rule
    version: RuleVersion


@dataclass(frozen=True)
class Refused:
    """A record that a rule refuses, and why."""

    record: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """What a version made of a sample."""

    tried: int
    accepted: int
    rows: tuple[dict[str, object], ...]
    refused: tuple[Refused, ...]
    compiled: Compiled

    @property
    def coverage(self) -> float:
        """accepted / tried; 0 of nothing."""
        return self.accepted / self.tried if self.tried else 0.0


def misfit(rule: RuleDefinition, source: Definition) -> str:
    """Why a rule cannot be for this kind of source; empty when it can."""
    return "" if source.records is rule.needs else f"a {name_of(rule)} rule needs {rule.needs}"


def check_fit(rule: RuleDefinition, source: Definition, name: str) -> None:
    """Raises failed_precondition when the source has become another kind since: rows would be of nothing but NULL."""
    if reason := misfit(rule, source):
        raise FailedPrecondition(f"the source {name} has changed: {reason}")


def extended(rule: Rule, now: datetime) -> Rule:
    """The rule with one more version."""
    return resources.changed(rule, now, latest_version=rule.latest_version + 1)


def activated(rule: Rule, version: int, etag: str, now: datetime) -> Rule:
    """The rule with this version active. Raises unknown_version, etag_mismatch."""
    match_etag(etag, rule.generation, rule.rule)
    if not 0 < version <= rule.latest_version:
        raise Failure(Code.UNKNOWN_VERSION, f"{rule.rule} has no version {version}")
    if version == rule.active_version:
        return rule
    return resources.changed(rule, now, active_version=version)


def active(rule: Rule) -> int:
    """The version that extractions use. Raises failed_precondition while there is none."""
    if not rule.active_version:
        raise FailedPrecondition(f"{rule.rule} has no active version")
    return rule.active_version
