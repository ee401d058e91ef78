"""What the health of a rule means, when its source has drifted, and what a repair is. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.data.extractions.domain import Fill
from services.data.reading.kinds import RuleDefinition, rule_from_json

LIMIT = math.log(10_000)  # of the evidence: by chance, one test of 10,000 reaches it
_LEARNT = 200  # records that say what is normal; before, nothing is tested
_TIMES, _MORE, _MOST = 4.0, 0.05, 0.95  # what refusals are tested against: so many times as many, and so much more
# What is good enough to be activated: the confidence of each required column, the share of records tried that fit.
SURE, NEARLY = 0.6, 0.95


class Policy(StrEnum):
    """What is done when a source has drifted."""

    PROPOSE = "propose"
    ACTIVATE = "activate"
    NONE = "none"


class State(StrEnum):
    """How far a repair is."""

    RUNNING = "running"
    PROPOSED = "proposed"
    ACTIVATED = "activated"
    NOT_FOUND = "not_found"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Share:
    """How many of all are bad, where that is normal, and what speaks for more of them since."""

    total: int = 0
    bad: int = 0
    evidence: float = 0.0


@dataclass(frozen=True)
class ColumnHealth:
    """In how many rows a column has no value."""

    column: str
    share: Share = Share()


@dataclass(frozen=True)
class Health:
    """How a version of a rule does in use; `version` 0: it was never used."""

    rule: str
    update_time: datetime
    version: int = 0
    # Of the records it refuses; of the rows it makes, by column.
    refusals: Share = Share()
    columns: tuple[ColumnHealth, ...] = ()
    policy: Policy = Policy.PROPOSE
    extraction: str = ""  # the last that refused something, or lacked what columns had

    @property
    def column_limit(self) -> float:
        """Of the evidence of a column: by chance, one test of all columns together in 10,000 reaches it."""
        return LIMIT + math.log(max(len(self.columns), 1))

    @property
    def moved(self) -> tuple[str, ...]:
        """Columns that have fewer values than was normal."""
        return tuple(one.column for one in self.columns if one.share.evidence >= self.column_limit)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The columns that are looked for, where refusals do not say more of what has changed."""
        return () if self.refusals.evidence >= LIMIT else self.moved

    @property
    def drifted(self) -> bool:
        """Whether the source has drifted."""
        return self.refusals.evidence >= LIMIT or bool(self.moved)


@dataclass(frozen=True)
class Column:
    """Where a column comes from by a repair, and how certain that is, from 0 to 1."""

    column: str
    source: str
    confidence: float


@dataclass(frozen=True)
class Found:
    """What the records that a rule refuses give; no definition: nothing that has all required columns."""

    definition: RuleDefinition | None
    records: int
    taken: int = 0
    tested: int = 0
    right: int = 0
    columns: tuple[Column, ...] = ()
    reason: str = ""

    def is_sure(self, required: frozenset[str]) -> bool:
        """Whether it may be activated without a person."""
        sure = all(column.confidence >= SURE for column in self.columns if column.column in required)
        return self.definition is not None and sure and self.tested > 0 and self.right >= NEARLY * self.tested


@dataclass(frozen=True)
class Repair:
    """A search for a repair, and what came of it."""

    repair: str
    rule: str
    version: int
    extraction: str
    operation: str
    create_time: datetime
    state: State = State.RUNNING
    repaired_version: int = 0
    records: int = 0
    taken: int = 0
    tested: int = 0
    right: int = 0
    columns: tuple[Column, ...] = ()
    reason: str = ""
    end_time: datetime | None = None


def seen(
    before: Health, version: int, records: int, refused: int, extraction: str, fills: Sequence[Fill], now: datetime
) -> Health:
    """The health after one more run."""
    if version != before.version:
        before = Health(before.rule, now, version, policy=before.policy)
    shares = {one.column: one.share for one in before.columns}
    columns = tuple(
        ColumnHealth(one.column, watched(shares.get(one.column, Share()), one.rows, one.missing)) for one in fills
    )
    after = replace(
        before,
        update_time=now,
        refusals=watched(before.refusals, records, refused),
        columns=columns or before.columns,
    )
    return replace(after, extraction=extraction if refused or after.moved else before.extraction)


def watched(before: Share, total: int, bad: int) -> Share:
    """A share after one more run.

    A one-sided CUSUM of log-likelihood ratios (Page 1954): what is bad at the rate of the runs before against a rate
    that is several times as high. Runs that speak against a drift become part of what is normal.
    """
    if before.total < _LEARNT:
        return replace(before, total=before.total + total, bad=before.bad + bad)
    usual = (before.bad + 1) / (before.total + 2)
    changed = min(max(_TIMES * usual, usual + _MORE), _MOST)
    if changed <= usual:
        return before  # nearly everything is: nothing would be worse
    ratio = bad * math.log(changed / usual) + (total - bad) * math.log((1 - changed) / (1 - usual))
    if evidence := max(0.0, before.evidence + ratio):
        return replace(before, evidence=evidence)
    return Share(before.total + total, before.bad + bad)


def ended(repair: Repair, found: Found, repaired: int, activated: bool, now: datetime) -> Repair:
    """A repair with what was found."""
    state = State.NOT_FOUND if not repaired else State.ACTIVATED if activated else State.PROPOSED
    return replace(
        repair,
        state=state,
        repaired_version=repaired,
        records=found.records,
        taken=found.taken,
        tested=found.tested,
        right=found.right,
        columns=found.columns,
        reason=found.reason,
        end_time=now,
    )


def given_up(repair: Repair, reason: str, now: datetime) -> Repair:
    """A repair that failed for a reason or, without one, was cancelled."""
    state = State.FAILED if reason else State.CANCELLED
    return replace(repair, state=state, reason=reason[:1000], end_time=now)


def found_from_json(said: dict[str, Any]) -> Found:
    """What the child says."""
    columns = tuple(Column(**column) for column in said["columns"])
    definition = rule_from_json(said["definition"]) if said["definition"] else None
    numbers = {name: said[name] for name in ("records", "taken", "tested", "right", "reason")}
    return Found(definition, columns=columns, **numbers)
