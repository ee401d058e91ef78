"""What a search is asked for, and what it found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.data.features.domain import RowRange, check_range
from services.data.features.steps import NUMBERS, TIMES, Step, refuse
from services.data.schema import Column, ColumnType
from services.kit.errors import Violation

DEFAULT_SECONDS = 120  # of processors; the contract has the same number
DEFAULT_ROWS, MOST_ROWS, LEAST_ROWS = 20_000, 200_000, 1_000
DEFAULT_RATE, LEAST_RATE, MOST_RATE = 0.05, 0.001, 0.5
MOST_COLUMNS = 200
_TYPES = (*NUMBERS, *TIMES, ColumnType.STRING)


@dataclass(frozen=True)
class Wanted:
    """What a caller asks for."""

    data_set: str
    label: str
    time: str
    exclude: tuple[str, ...]
    allow: tuple[str, ...]
    train: RowRange | None
    rows: int
    rate: float


@dataclass(frozen=True)
class Search:
    """A search under way, with everything that it needs: it goes on after a crash from this alone."""

    operation: str
    wanted: Wanted
    data_set_version: int
    columns: tuple[Column, ...]
    create_time: datetime


@dataclass(frozen=True)
class Proposal:
    """A step that adds something, and the evidence. Areas under the ROC curve; 0: not measured."""

    step: Step
    reason: str
    gain: float
    gain_low: float
    gain_high: float
    p_value: float
    auc: float
    auc_trees: float
    auc_alone: float
    equivalents: tuple[str, ...] = ()
    suspicious: bool = False


@dataclass(frozen=True)
class Refusal:
    """A column that is not used, and why."""

    column: str
    leak: str
    reason: str
    auc: float = 0.0


@dataclass(frozen=True)
class Found:
    """What a search found."""

    rows: int
    candidates: int
    tried: int
    tested: int
    auc: float
    auc_trees: float
    auc_all: float
    proposals: tuple[Proposal, ...]
    refusals: tuple[Refusal, ...]


def read_columns(wanted: Wanted, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that the search looks at. Raises invalid_value for a wish that the columns do not allow."""
    known = {column.name: column.type for column in columns}
    found = [
        Violation(f"/{field}/{index}", f"the data set has no column {name}")
        for field in ("exclude", "allow")
        for index, name in enumerate(getattr(wanted, field))
        if name not in known
    ]
    if wanted.time and wanted.time in wanted.exclude:
        text = "is the time, which says what is known too late: it has to be read"
        found.append(Violation(f"/exclude/{wanted.exclude.index(wanted.time)}", text))
    if known.get(wanted.label) not in NUMBERS:
        found.append(Violation("/label", f"must be a column of 0 and 1; {wanted.label} is not"))
    if wanted.time and known.get(wanted.time) not in TIMES:
        found.append(Violation("/time", f"must be a column of times; {wanted.time} is not"))
    if wanted.rows and not LEAST_ROWS <= wanted.rows <= MOST_ROWS:
        found.append(Violation("/rows", f"must lie between {LEAST_ROWS} and {MOST_ROWS}"))
    if not LEAST_RATE <= wanted.rate <= MOST_RATE:  # also for a NaN
        found.append(Violation("/false_discovery_rate", f"must lie between {LEAST_RATE} and {MOST_RATE}"))
    refuse(found)
    if wanted.train:
        check_range(wanted.train, columns)
    left_out = {wanted.label, *wanted.exclude}
    used = tuple(column for column in columns if column.name not in left_out and column.type in _TYPES)
    if not 0 < len(used) <= MOST_COLUMNS:
        rule = f"must leave between 1 and {MOST_COLUMNS} columns to search in; {len(used)} are left"
        refuse([Violation("/exclude", rule)])
    return used
