"""What a clustering of series means: the last values of each key, and which of them are like which."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.data.schema import Column, ColumnType
from services.data.series.domain import KEYS, TIMES
from services.data.series.feature import MOST_WARPED, NUMBERS
from services.kit.errors import Violation, refuse

MOST_CLUSTERS = 100
MOST_KEYS = 100_000
MOST_NUMBERS = 10_000_000  # values of all keys
LARGEST = 1e100  # of a value: what is larger has no distance
_MOST_SAMPLED, _MOST_CELLS = (
    2_000,
    10**11,
)  # keys that medoids are chosen from; pairs of values that are compared for that
# What a row says beside its key.
ADDED = (
    Column("cluster", ColumnType.INT64),
    Column("distance", ColumnType.DOUBLE),
    Column("medoid", ColumnType.BOOL),
)


@dataclass(frozen=True)
class Wanted:
    """A clustering as it is asked for."""

    output: str
    data_set: str
    data_set_version: int
    keys: tuple[str, ...]
    time: str
    column: str
    rows: int
    clusters: int
    band: int = 0
    scaled: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Clustering:
    """One under way, with everything that it needs: it goes on after a crash from this alone."""

    operation: str
    wanted: Wanted
    data_set_version: int
    keys: tuple[Column, ...]
    time: Column
    column: Column
    create_time: datetime

    @property
    def outputs(self) -> tuple[Column, ...]:
        """The columns of the output."""
        return (*self.keys, *ADDED)


def check(wanted: Wanted) -> None:
    """Raises invalid_value for what makes no sense, whatever the columns hold, with every rule that is broken."""
    refuse(_violations(wanted))


def _violations(wanted: Wanted) -> Iterator[Violation]:
    if wanted.output == wanted.data_set:
        yield Violation("/output_data_set", "must not be the data set that is read")
    names = [column.name for column in ADDED]
    for index, key in enumerate(wanted.keys):
        if key in (*wanted.keys[:index], wanted.time, wanted.column):
            yield Violation(f"/keys/{index}", "is there twice")
        if key.lower() in names:
            yield Violation(f"/keys/{index}", f"must not be called {key}: the output has such a column")
    for name, least, most in (("rows", 2, MOST_WARPED), ("clusters", 2, MOST_CLUSTERS), ("band", 0, MOST_WARPED)):
        if not least <= getattr(wanted, name) <= most:
            yield Violation(f"/{name}", f"must be {least} to {most}")
    if wanted.seed < 0:
        yield Violation("/seed", "must not be negative")


def read_of(wanted: Wanted, columns: Sequence[Column]) -> tuple[tuple[Column, ...], Column, Column]:
    """The keys, the time and the values. Raises invalid_value where they are not such columns of a version."""
    known = {column.name: column for column in columns}
    refuse(_misfits(wanted, known))
    return tuple(known[name] for name in wanted.keys), known[wanted.time], known[wanted.column]


def _misfits(wanted: Wanted, known: Mapping[str, Column]) -> Iterator[Violation]:
    asked: list[tuple[str, str, Sequence[ColumnType], str]] = [
        (f"/keys/{index}", key, KEYS, "cannot be a key") for index, key in enumerate(wanted.keys)
    ]
    asked += [("/time", wanted.time, TIMES, "is no time"), ("/column", wanted.column, NUMBERS, "is no number")]
    for at, name, takes, rule in asked:
        if name not in known:
            yield Violation(at, f"the data set has no column {name}")
        elif known[name].type not in takes:
            yield Violation(at, f"{name} holds {known[name].type}, which {rule}")


def sampled(series: int, rows: int, band: int) -> int:
    """How many series medoids are chosen from: as many as can be compared with each other in some minutes."""
    cells = rows * min(rows, 2 * band + 1 if band else rows)
    return min(series, _MOST_SAMPLED, int((2 * _MOST_CELLS / cells) ** 0.5))
