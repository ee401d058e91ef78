"""What a version of a rule set makes of a sample: every rule is asked, so that overlaps are known. Pure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.data.reading.extractor import NO_MATCH, Refusal, Row
from services.data.reading.samples import Tried
from services.data.reading.sharing import NO_RULE, pairs
from services.data.rule_sets.domain import SHOWN_EACH, Match, Overlap, RuleSetVersion, RuleTrial, Trial, ranked
from services.data.rules.domain import Refused

_SHOWN, _EXAMPLES, _LONGEST = 20, 3, 1000


@dataclass
class _Counts:
    """What was found so far."""

    trials: list[RuleTrial]
    every: bool
    accepted: int = 0
    overlapping: int = 0
    overlaps: Counter[tuple[int, int]] = field(default_factory=Counter)
    examples: defaultdict[tuple[int, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, text: str, reason: str) -> None:
        if len(self.refused) < _SHOWN:
            self.refused.append(Refused(text, reason))


def tried(version: RuleSetVersion, sample: Sequence[Tried]) -> Trial:
    """The coverage of each rule, what overlaps, and what no rule takes."""
    counts = _Counts([RuleTrial(member) for member in version.members], version.match is Match.ALL)
    for one in sample:
        if one.reason:
            counts.refuse(one.shown(), one.reason)
        else:
            _try(one, counts)
    names = [member.rule for member in version.members]
    overlaps = tuple(
        Overlap(names[pair[0]], names[pair[1]], records, tuple(counts.examples[pair]))
        for pair, records in ranked(counts.overlaps)
    )
    trials, refused = tuple(counts.trials), tuple(counts.refused)
    return Trial(len(sample), counts.accepted, counts.overlapping, trials, overlaps, refused)


def _try(one: Tried, counts: _Counts) -> None:
    branches, choose = one.extractor.branches, one.extractor.choose
    rows, reason = dict[int, Sequence[Row]](), ""
    for rule in choose(one.record) if choose else range(len(branches)):
        made = branches[rule].rows(one.record)
        if not isinstance(made, Refusal):
            rows[rule] = made
        elif made.reason != NO_MATCH:
            reason = reason or f"{counts.trials[rule].member.rule}: {made.reason}"
            _refused(counts.trials[rule], one, made.reason)
    for place, (rule, made) in enumerate(rows.items()):
        trial = counts.trials[rule]
        trial.accepted += 1
        if counts.every or not place:
            trial.taken += 1
            names = [column.name for column in branches[rule].columns]
            room = SHOWN_EACH - len(trial.rows)
            trial.rows += [dict(zip(names, row, strict=True)) for row in made[:room]]
    if not rows:
        counts.refuse(one.shown(), reason or NO_RULE)
        return
    counts.accepted += 1
    counts.overlapping += len(rows) > 1
    for pair in pairs(list(rows)):
        counts.overlaps[pair] += 1
        if len(counts.examples[pair]) < _EXAMPLES:
            counts.examples[pair].append(one.shown()[:_LONGEST])


def _refused(trial: RuleTrial, one: Tried, reason: str) -> None:
    trial.refusals += 1
    if len(trial.refused) < SHOWN_EACH:
        trial.refused.append(Refused(one.shown(), reason))
