"""What an extraction means: a run of the active version of a rule, or of a rule set, over what is new in its source."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.data.datasets.domain import LineageNode
from services.data.reading.connector import PartLag
from services.data.reading.kinds import Compiled, Definition
from services.data.rule_sets.domain import Match, Member, Overlap
from services.data.schema import Column, ColumnType
from services.data.warehouse.domain import Range

# The columns of a rule set's reports: a row for each run and rule.
REPORT = tuple(
    Column(name, kind, False)
    for name, kind in (
        ("extraction", ColumnType.STRING),
        ("time", ColumnType.TIMESTAMP),
        ("rule_set_version", ColumnType.INT64),
        ("position", ColumnType.INT64),
        ("rule", ColumnType.STRING),
        ("rule_version", ColumnType.INT64),
        ("data_set", ColumnType.STRING),
        ("records", ColumnType.INT64),
        ("rows", ColumnType.INT64),
    )
)


class State(StrEnum):
    """How far an extraction is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Origin(StrEnum):
    """What a run reads: its source, or what landed of it, again."""

    SOURCE = "source"
    WAREHOUSE = "warehouse"


@dataclass(frozen=True)
class Result:
    """What a rule of a set did in a run; version 0 of its data set when it got no rows."""

    rule: str
    version: int
    data_set: str
    data_set_version: int
    rows: int
    digest: str = ""


@dataclass(frozen=True)
class Shares:
    """What the rules of a set did in a run, in their order, and which of them took the same records."""

    results: tuple[Result, ...] = ()
    overlapping: int = 0
    overlaps: tuple[Overlap, ...] = ()


@dataclass(frozen=True)
class Fill:
    """How many rows of a run have no value in a column."""

    column: str
    rows: int
    missing: int


@dataclass(frozen=True)
class Extraction:
    """A run as it stands. Counts are those of the end."""

    extraction: str
    rule: str
    rule_version: int
    source: str
    data_set: str
    operation: str
    create_time: datetime
    state: State = State.RUNNING
    records_read: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    data_set_version: int = 0
    error: str = ""
    end_time: datetime | None = None
    # Of a rule set, which has no `rule`.
    rule_set: str = ""
    rule_set_version: int = 0
    shares: Shares = Shares()
    origin: Origin = Origin.SOURCE
    # Of a landed source: where its records land, how many this run landed, and the numbers of those that it read.
    landed_data_set: str = ""
    records_landed: int = 0
    first_landed: int = 0
    last_landed: int = 0
    # Of the version that it wrote; of a rule set over those of all its rules.
    output_digest: str = ""
    # Columns of the rows of a rule, as its child counted them; known while it ends only.
    fills: tuple[Fill, ...] = ()
    # The same as `data_set` where that is a branch of the rule's.
    branch: str = ""

    @property
    def read_by(self) -> LineageNode:
        """Whose cursor it moves, and what its rows come from."""
        if self.rule_set:
            return LineageNode("rule_set", self.rule_set, self.rule_set_version)
        return LineageNode("rule", self.rule, self.rule_version)


@dataclass(frozen=True)
class Replay:
    """Landed records that a run reads again: those above `after`, up to `upto`. Their rows replace what was there.

    `aside`: they go to another data set than the rule's, and the rule goes on where it would have.
    """

    after: int
    upto: int
    aside: bool = False


@dataclass(frozen=True)
class Task:
    """What a run does, pinned when it begins: later changes of rule and source are for later runs."""

    definition: Definition
    compiled: Compiled
    # Of a rule set: its rules in their order, and who gets a record.
    members: tuple[Member, ...] = ()
    match: Match = Match.FIRST
    # Whether records of the source land, and rows are made of what landed.
    landed: bool = False
    replay: Replay | None = None

    @property
    def keeps_files(self) -> bool:
        """Whether files belong to its rows."""
        return any(compiled.keeps_files for compiled in (self.compiled, *self.compiled.branches))


@dataclass(frozen=True)
class Counts:
    """What a run has read, and where the next one begins."""

    records: int
    rows: int
    quarantined: int
    cursor: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cursor:
    """How far a source was read for a rule or a rule set. `parts`: what lies behind that; None if it is not known."""

    source: str
    cursor: dict[str, Any]
    update_time: datetime | None
    parts: tuple[PartLag, ...] | None
    # Whether they count bytes, and not records.
    bytes: bool = False
    # Of a landed source: the numbers of the last record that has landed, and of the last one that was read.
    last_landed: int = 0
    last_read: int = 0


def succeeded(
    extraction: Extraction,
    counts: Counts,
    version: int,
    now: datetime,
    shares: Shares = Shares(),
    digest: str = "",
) -> Extraction:
    """The run with its counts; version 0 when there was nothing new."""
    return replace(
        extraction,
        state=State.SUCCEEDED,
        records_read=counts.records,
        rows_accepted=counts.rows,
        rows_quarantined=counts.quarantined,
        data_set_version=version,
        shares=shares,
        output_digest=digest,
        end_time=now,
    )


def having_read(extraction: Extraction, landed: int, after: int | None, cursor: dict[str, Any]) -> Extraction:
    """The run with what it landed, and the landed records that it read: those above `after`, if it reads such."""
    upto = int(cursor.get("landed", 0)) if after is not None else 0
    if after is None or upto <= after:
        return replace(extraction, records_landed=landed)
    return replace(extraction, records_landed=landed, first_landed=after + 1, last_landed=upto)


def left(wanted: Range | None, cursor: dict[str, Any]) -> tuple[str, ...]:
    """What people should know of landed records that a run has not read."""
    records = wanted.last - int(cursor.get("landed", 0)) if wanted and wanted.last else 0
    return (f"{records} landed records are left for the next run",) if records else ()


def digest_of(results: Sequence[Result]) -> str:
    """Over what all rules of a set wrote, in their order."""
    said = [[result.rule, result.version, result.digest] for result in results]
    return f"sha256:{hashlib.sha256(json.dumps(said).encode()).hexdigest()}"


def ended(extraction: Extraction, error: str, now: datetime) -> Extraction:
    """The run, failed for a reason or, without one, cancelled."""
    state = State.FAILED if error else State.CANCELLED
    return replace(extraction, state=state, error=error[:1000], end_time=now)
