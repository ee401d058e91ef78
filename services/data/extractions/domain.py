"""What an extraction means: one run of a rule's active version over what is new in its source."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from services.data.reading.kinds import Compiled, Definition


class State(StrEnum):
    """How far an extraction is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


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


@dataclass(frozen=True)
class Task:
    """What a run does, pinned when it begins: later changes of rule and source are for later runs."""

    definition: Definition
    compiled: Compiled


@dataclass(frozen=True)
class Counts:
    """What a run has read, and where the next one begins."""

    records: int
    rows: int
    quarantined: int
    cursor: dict[str, Any]
    notes: tuple[str, ...] = ()


def succeeded(extraction: Extraction, counts: Counts, version: int, now: datetime) -> Extraction:
    """The run with its counts; version 0 when there was nothing new."""
    return replace(
        extraction,
        state=State.SUCCEEDED,
        records_read=counts.records,
        rows_accepted=counts.rows,
        rows_quarantined=counts.quarantined,
        data_set_version=version,
        end_time=now,
    )


def ended(extraction: Extraction, error: str, now: datetime) -> Extraction:
    """The run, failed for a reason or, without one, cancelled."""
    state = State.FAILED if error else State.CANCELLED
    return replace(extraction, state=state, error=error[:1000], end_time=now)
