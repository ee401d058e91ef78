"""What a series set means: features over the rows of a key by their times, and what a run makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.data.schema import Column, ColumnType
from services.data.series.feature import MOST_VALUES, NUMBERS, OF_ANY, Feature, violations
from services.kit.errors import FailedPrecondition, Violation, refuse
from services.kit.resources import changed

TIMES = (ColumnType.TIMESTAMP, ColumnType.DATE)
KEYS = (ColumnType.STRING, ColumnType.INT64, ColumnType.BOOL, ColumnType.DATE, ColumnType.TIMESTAMP)
# Why rows have no features: they are put aside, with these reasons.
LATE, NO_TIME = "late", "no time"


@dataclass(frozen=True)
class SeriesSet:
    """Features over the rows of a data set, by key and time; a run writes them, with all columns, to `output`."""

    series_set: str
    description: str
    data_set: str
    output: str
    keys: tuple[str, ...]
    time: str
    features: tuple[Feature, ...]
    latest_version: int
    generation: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None


@dataclass(frozen=True)
class SeriesSetVersion:
    """What a run made: a version of the output, and the state that the next run and online readers go on from."""

    series_set: str
    version: int
    data_set: str
    data_set_version: int
    output: str
    output_version: int
    rows: int
    late: int
    digest: str
    keys: tuple[Column, ...]
    time: Column
    inputs: tuple[Column, ...]
    features: tuple[Feature, ...]
    create_time: datetime
    # The version whose state it went on from; 0: it began with none.
    follows: int = 0


@dataclass(frozen=True)
class Run:
    """A run under way, with everything that it needs: it goes on after a crash from this alone."""

    operation: str
    run: str
    series_set: str
    data_set: str
    data_set_version: int
    output: str
    keys: tuple[Column, ...]
    time: Column
    inputs: tuple[Column, ...]
    features: tuple[Feature, ...]
    create_time: datetime
    # The version that it goes on from; 0: it reads all rows.
    follows: int = 0


def check(made: SeriesSet) -> None:
    """Raises invalid_value for what makes no sense, whatever the columns hold, with every rule that is broken."""
    refuse(_violations(made))


def _violations(made: SeriesSet) -> Iterator[Violation]:
    if made.output == made.data_set:
        yield Violation("/output_data_set", "must not be the data set that is read")
    for index, key in enumerate(made.keys):
        if key in (*made.keys[:index], made.time):
            yield Violation(f"/keys/{index}", "is there twice")
    taken = {name.lower() for name in (*made.keys, made.time)}
    for index, feature in enumerate(made.features):
        at = f"/features/{index}"
        if feature.name.lower() in taken:
            yield Violation(f"{at}/name", "is there twice")
        if feature.name.startswith("__"):
            yield Violation(f"{at}/name", "must not begin with two underscores")
        taken.add(feature.name.lower())
        yield from violations(feature, at)
    if sum(len(template.values) for feature in made.features for template in feature.templates) > MOST_VALUES:
        yield Violation("/features", f"their templates must have at most {MOST_VALUES} values together")


@dataclass(frozen=True)
class Read:
    """The columns of a data set that a series set reads, with their types."""

    keys: tuple[Column, ...]
    time: Column
    inputs: tuple[Column, ...]


def read_of(made: SeriesSet, columns: Sequence[Column]) -> Read:
    """Raises invalid_value where the set does not fit the columns of a version."""
    known = {column.name: column for column in columns}
    refuse(_misfits(made, known))
    inputs = dict.fromkeys(feature.column for feature in made.features if feature.column)
    keys = tuple(known[name] for name in made.keys)
    return Read(keys, known[made.time], tuple(known[name] for name in inputs))


def _misfits(made: SeriesSet, known: Mapping[str, Column]) -> Iterator[Violation]:
    spelt = {name.lower() for name in known}
    for index, key in enumerate(made.keys):
        if key not in known:
            yield Violation(f"/keys/{index}", f"the data set has no column {key}")
        elif known[key].type not in KEYS:
            yield Violation(f"/keys/{index}", f"{key} holds {known[key].type}, which cannot be a key")
    if made.time not in known:
        yield Violation("/time", f"the data set has no column {made.time}")
    elif known[made.time].type not in TIMES:
        yield Violation("/time", f"{made.time} holds {known[made.time].type}, not times")
    for index, feature in enumerate(made.features):
        at = f"/features/{index}"
        if feature.name.lower() in spelt:
            yield Violation(f"{at}/name", f"the data set has a column {feature.name}")
        if not feature.column:
            continue
        takes = (*NUMBERS, ColumnType.STRING) if feature.statistic in OF_ANY else NUMBERS
        if feature.column not in known:
            yield Violation(f"{at}/column", f"the data set has no column {feature.column}")
        elif known[feature.column].type not in takes:
            text = f"{feature.column} holds {known[feature.column].type}, which has no {feature.statistic}"
            yield Violation(f"{at}/column", text)


def goes_on(last: SeriesSetVersion, wanted: Run, first_version: int, output_version: int) -> bool:
    """Whether a run may go on from the state of the last one: the same features of the same columns, over rows that
    were only added to, written to an output that nobody has touched since.

    `first_version`: of the version that is read; `output_version`: the newest of the output.
    """
    same = (last.keys, last.time, last.inputs, last.features, last.data_set, last.output)
    grown = first_version <= last.data_set_version <= wanted.data_set_version
    wants = (wanted.keys, wanted.time, wanted.inputs, wanted.features, wanted.data_set, wanted.output)
    return same == wants and grown and last.output_version == output_version


def made_by(
    series_set: SeriesSet, run: Run, output_version: int, result: "Result", now: datetime
) -> tuple[SeriesSet, SeriesSetVersion]:
    """The series set with one more version, and that version. Raises failed_precondition for a deleted one."""
    if series_set.delete_time:
        raise FailedPrecondition(f"the series set {series_set.series_set} was deleted while it ran")
    after = changed(series_set, now, latest_version=series_set.latest_version + 1)
    version = SeriesSetVersion(
        series_set=run.series_set,
        version=after.latest_version,
        data_set=run.data_set,
        data_set_version=run.data_set_version,
        output=run.output,
        output_version=output_version,
        rows=result.rows,
        late=result.late,
        digest=result.digest,
        keys=run.keys,
        time=run.time,
        inputs=run.inputs,
        features=run.features,
        create_time=now,
        follows=run.follows,
    )
    return after, version


@dataclass(frozen=True)
class Result:
    """What the child of a run came to: rows written, rows that were late, and the state with its bytes."""

    rows: int
    late: int
    digest: str
    size: int
