"""What a rule means: immutable versions of how records become rows, one of them active."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.data.reading.kinds import Compiled, Definition, RuleDefinition, name_of
from services.kit import resources
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, NotFound, Violation, match_etag

_TRIED, _MOST_TRIED = 1000, 10_000  # records of a test


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
    # The set that it belongs to for good; empty while it runs by itself.
    rule_set: str = ""


@dataclass(frozen=True)
class RuleView:
    """A rule with one of its versions."""

    rule: Rule
    version: RuleVersion


@dataclass(frozen=True)
class Draft:
    """A rule for a set: one that is there, in a version (0: its newest), or a definition that it gets."""

    rule: str
    version: int = 0
    definition: RuleDefinition | None = None
    data_set: str = ""
    # What the definition comes to.
    compiled: Compiled | None = None


@dataclass(frozen=True)
class Refused:
    """A record that a rule refuses, and why."""

    record: str
    reason: str


@dataclass
class ColumnTrial:
    """What a column found in records of the rule's form: values that fit, none, values that do not."""

    name: str
    values: int = 0
    missing: int = 0
    misfits: int = 0


@dataclass(frozen=True)
class Trial:
    """What a version made of a sample."""

    tried: int
    accepted: int
    rows: tuple[dict[str, object], ...]
    refused: tuple[Refused, ...]
    compiled: Compiled
    columns: tuple[ColumnTrial, ...] = ()
    # Rows that these are about: one of each record, unless the rule takes arrays apart.
    looked: int = 0

    @property
    def coverage(self) -> float:
        """accepted / tried; 0 of nothing."""
        return self.accepted / self.tried if self.tried else 0.0


def records_tried(asked: int) -> int:
    """How many records a test of a rule or a rule set reads, where so many are asked for. Raises invalid_value."""
    if not 0 <= asked <= _MOST_TRIED:
        raise InvalidValue(f"records must be between 1 and {_MOST_TRIED}")
    return asked or _TRIED


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
    """The rule with this version active. Raises unknown_version, etag_mismatch; failed_precondition in a set."""
    check_alone(rule)
    match_etag(etag, rule.generation, rule.rule)
    if not 0 < version <= rule.latest_version:
        raise Failure(Code.UNKNOWN_VERSION, f"{rule.rule} has no version {version}")
    if version == rule.active_version:
        return rule
    return resources.changed(rule, now, active_version=version)


def active(rule: Rule) -> int:
    """The version that extractions use. Raises failed_precondition while there is none, and in a set."""
    check_alone(rule)
    if not rule.active_version:
        raise FailedPrecondition(f"{rule.rule} has no active version")
    return rule.active_version


def check_alone(rule: Rule) -> None:
    """Raises failed_precondition for a rule of a set: what it did by itself would be done twice."""
    if rule.rule_set:
        raise FailedPrecondition(f"{rule.rule} belongs to the rule set {rule.rule_set} and runs in that only")


def check_there(rule: Rule) -> None:
    """Raises failed_precondition for a deleted rule of a set."""
    if rule.delete_time:
        text = f"the rule {rule.rule} is deleted: undelete it, or activate a version of the set without it"
        raise FailedPrecondition(text)


def check_drafts(drafts: Sequence[Draft]) -> None:
    """Raises invalid_value for what no set can have, with its place."""
    seen = set[str]()
    for place, draft in enumerate(drafts):
        if draft.rule in seen:
            raise InvalidValue(
                f"the rule {draft.rule} is there twice", [Violation(f"/rules/{place}/rule", "is there twice")]
            )
        seen.add(draft.rule)
        if draft.definition and draft.version:
            rule = "must not be set together with a definition"
            raise InvalidValue(f"rules.{place}.version {rule}", [Violation(f"/rules/{place}/version", rule)])


def adopted(before: RuleView | None, draft: Draft, rule_set: str, source: str, now: datetime) -> RuleView:
    """The rule as one of a set, with the version that the set names; `before` has the version that the draft names.

    Raises not_found, invalid_value, failed_precondition.
    """
    if before is None:
        if draft.definition is None or draft.compiled is None:
            raise NotFound(f"there is no rule {draft.rule}")
        rule = Rule(draft.rule, source, draft.data_set or draft.rule, now, now, rule_set=rule_set)
        return RuleView(rule, RuleVersion(1, draft.definition, draft.compiled, now))
    rule = before.rule
    check_there(rule)
    if rule.source != source:
        raise InvalidValue(f"the rule {rule.rule} is for the source {rule.source}, not for {source}")
    if rule.rule_set not in ("", rule_set):
        raise FailedPrecondition(f"the rule {rule.rule} belongs to the rule set {rule.rule_set}")
    if draft.data_set not in ("", rule.data_set):
        raise InvalidValue(f"the rule {rule.rule} writes the data set {rule.data_set}, not {draft.data_set}")
    if not rule.rule_set:
        rule = resources.changed(rule, now, rule_set=rule_set, active_version=0)
    if draft.definition is None or draft.compiled is None or draft.definition == before.version.definition:
        return RuleView(rule, before.version)
    rule = extended(rule, now)
    return RuleView(rule, RuleVersion(rule.latest_version, draft.definition, draft.compiled, now))
