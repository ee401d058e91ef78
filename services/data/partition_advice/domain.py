"""What advice is asked for, and what it says."""

from dataclasses import dataclass, field
from datetime import datetime

from services.data.datasets.layouts import Layout
from services.data.partition_advice.history import Asked

DEFAULT_SECONDS = 120  # of processors; the contract has the same number


@dataclass(frozen=True)
class Advising:
    """Advice under way, with everything that it needs: it goes on after a crash from this alone."""

    operation: str
    data_set: str
    version: int
    # Columns that no advice names: their values are masked.
    masked: tuple[str, ...]
    history: tuple[Asked, ...]
    # Rows of versions that were appended lately.
    appended: tuple[int, ...]
    create_time: datetime


@dataclass(frozen=True)
class Machine:
    """What work on the data set may use here."""

    cores: int
    query_memory: int  # bytes
    dividing_memory: int  # bytes


@dataclass(frozen=True)
class Forecast:
    """What an average query would read of the data set, and how long it would take there."""

    partitions_read: float = 0.0
    partitions: int = 0
    files_read: float = 0.0
    files: int = 0
    bytes_read: float = 0.0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Choice:
    """A way to divide the data set, None: not at all; and what it would cost and mean."""

    layout: Layout | None
    forecast: Forecast
    skew: float = 0.0
    # Rows and bytes in memory of the largest partition.
    largest_rows: int = 0
    largest_bytes: int = 0

    @property
    def count(self) -> int:
        return self.forecast.partitions


@dataclass(frozen=True)
class Advice:
    """What was found."""

    choice: Choice
    reasons: tuple[str, ...]
    undivided: Forecast
    current: Forecast
    alternatives: tuple[Choice, ...] = field(default=())
    queries: int = 0
    tried: int = 0
    rows: int = 0
