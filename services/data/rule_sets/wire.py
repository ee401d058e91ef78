"""Rule sets between the domain and the wire."""

from collections.abc import Iterable

from aimass.v1 import rule_sets_pb2 as pb
from aimass.v1 import rules_pb2
from services.data.rule_sets.domain import SHOWN_EACH, Match, Overlap, RuleSetView, RuleTrial, Trial
from services.data.rules.domain import Draft, Refused
from services.data.rules.wire import definition_of
from services.data.structs import to_struct
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire

_LONGEST = 8192  # characters of a record
_ROOM = 2 * 2**20  # bytes for what is shown of all rules


def match_of(match: pb.RuleMatch.ValueType) -> Match:
    """Raises invalid_value for one that is not known."""
    known = {pb.RULE_MATCH_UNSPECIFIED: Match.FIRST, pb.RULE_MATCH_FIRST: Match.FIRST, pb.RULE_MATCH_ALL: Match.ALL}
    if match not in known:
        raise InvalidValue("the match is not known")
    return known[match]


def drafts_of(rules: Iterable[pb.RuleSetRule]) -> tuple[Draft, ...]:
    """The rules of a request. Raises invalid_value for a definition that says nothing."""
    return tuple(
        Draft(
            rule.rule,
            rule.version,
            definition_of(rule.definition) if rule.HasField("definition") else None,
            rule.data_set,
        )
        for rule in rules
    )


def rule_set_to_wire(view: RuleSetView) -> pb.RuleSet:
    """A rule set with one of its versions."""
    found, version = view.rule_set, view.version
    return pb.RuleSet(
        rule_set=found.rule_set,
        source=found.source,
        data_set=found.data_set,
        version=version.version,
        match=pb.RuleMatch.Value(f"RULE_MATCH_{version.match.name}"),
        rules=[pb.RuleSetMember(**vars(member)) for member in version.members],
        latest_version=found.latest_version,
        active_version=found.active_version,
        etag=str(found.generation),
        create_time=to_wire(found.create_time),
        update_time=to_wire(found.update_time),
        delete_time=to_wire(found.delete_time),
    )


def overlap_to_wire(overlap: Overlap) -> pb.RuleOverlap:
    """Two rules that take the same records."""
    return pb.RuleOverlap(**vars(overlap))


def trial_to_wire(trial: Trial) -> pb.TestRuleSetResponse:
    """What a version made of a sample."""
    return pb.TestRuleSetResponse(
        tried=trial.tried,
        accepted=trial.accepted,
        coverage=trial.coverage,
        rules=[_rule_trial_to_wire(found, trial.tried, _ROOM // len(trial.rules)) for found in trial.rules],
        overlapping=trial.overlapping,
        overlaps=[overlap_to_wire(overlap) for overlap in trial.overlaps],
        refused=_refused_to_wire(trial.refused),
    )


def _rule_trial_to_wire(found: RuleTrial, tried: int, room: int) -> pb.RuleTrial:
    """With the rows and records that there is room for, in bytes, so that an answer is a message."""
    rows, each = [to_struct(row) for row in found.rows], room // 2 // SHOWN_EACH
    return pb.RuleTrial(
        rule=found.member.rule,
        version=found.member.version,
        accepted=found.accepted,
        taken=found.taken,
        coverage=found.taken / tried if tried else 0.0,
        rows=[row for row in rows if row.ByteSize() <= each],
        refusals=found.refusals,
        refused=_refused_to_wire(found.refused, each // 4),
    )


def _refused_to_wire(refused: Iterable[Refused], longest: int = _LONGEST) -> list[rules_pb2.RefusedRecord]:
    return [rules_pb2.RefusedRecord(record=one.record[:longest], reason=one.reason) for one in refused]
