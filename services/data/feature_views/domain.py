"""What a feature view means: keys, features and event times of a data set, and which row of an entity counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from services.data.schema import Column, ColumnType
from services.kit.errors import FailedPrecondition, Forbidden, Violation, refuse
from services.kit.resources import changed

# Types whose values are the same text whoever writes them: a double or a time has several.
KEYS = (ColumnType.STRING, ColumnType.INT64, ColumnType.BOOL, ColumnType.DATE)
TIMES = (ColumnType.TIMESTAMP, ColumnType.DATE)
MOST_BYTES = 3 * 2**20  # of values in one answer; a message may have 4 MiB
MOST_VALUE = 64 * 1024  # bytes of the features of one row


@dataclass(frozen=True)
class Definition:
    """What a version of a view is made of; without `seconds_to_live`, and with the 0 of older versions, for ever."""

    data_set: str
    keys: tuple[str, ...]
    event_time: str
    features: tuple[str, ...]
    seconds_to_live: float | None = None
    feature_set: str = ""
    feature_set_version: int = 0


@dataclass(frozen=True)
class Graph:
    """The graph of a fitted feature set; `sources` are the columns of the view's data set that it tells of."""

    digest: str
    inputs: tuple[Column, ...]
    outputs: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class FeatureView:
    """A view; `serving_version` is 0 until one of its versions has been materialised."""

    feature_view: str
    description: str
    latest_version: int
    serving_version: int
    generation: int
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None


@dataclass(frozen=True)
class Coverage:
    """How much of a data set is materialised: a whole version of it, and the latest event time."""

    data_set_version: int = 0
    materialise_time: datetime | None = None
    newest_event_time: datetime | None = None
    # Of the last transaction that changed its rows: microseconds, and greater than all before; 0: there was none.
    stamp: int = 0


@dataclass(frozen=True)
class ViewVersion:
    """A version of a view: immutable but for its coverage."""

    feature_view: str
    version: int
    definition: Definition
    keys: tuple[Column, ...]
    features: tuple[Column, ...]
    create_time: datetime
    coverage: Coverage = Coverage()
    graph: Graph | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the data set that must not be masked for who reads or fills it."""
        sources = self.graph.sources if self.graph else self.definition.features
        return (*self.definition.keys, self.definition.event_time, *sources)


@dataclass(frozen=True)
class Lag:
    """How far a version is behind its data set: versions that are not materialised, and since when."""

    versions: int
    since: datetime | None = None


@dataclass(frozen=True)
class Run:
    """A materialisation under way, with everything that it needs: it goes on after a crash from this alone.

    `skip` are rows that an earlier run has covered. Times in microseconds since 1970; `now` is when it began.
    """

    operation: str
    feature_view: str
    version: int
    data_set: str
    data_set_version: int
    keys: tuple[Column, ...]
    event_time: str
    features: tuple[Column, ...]
    now: int
    start: int | None = None
    until: int | None = None
    skip: int = 0
    graph: Graph | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows of the data set that it has seen, and what became of them."""

    position: int = 0
    rows: int = 0
    rows_without_key: int = 0
    future_rows: int = 0
    rows_out_of_range: int = 0
    newest: int | None = None

    def plus(self, counts: Mapping[str, int], position: int, newest: int | None) -> "Progress":
        """With what became of further rows, up to a position."""
        more = {name: getattr(self, name) + count for name, count in counts.items()}
        times = [time for time in (self.newest, newest) if time is not None]
        return replace(self, **more, position=position, newest=max(times, default=None))


@dataclass(frozen=True)
class Entry:
    """A row of an entity as it is stored. Of two, the one with the greater order counts.

    The order is of event time (microseconds since 1970), version of the data set, and place in it: so what is written
    twice, late or in another order leaves the same row.
    """

    key: bytes
    event_time: int
    data_set_version: int
    position: int
    value: bytes

    @property
    def order(self) -> tuple[int, int, int]:
        return self.event_time, self.data_set_version, self.position


class State(Enum):
    """What there is of an entity that was asked for."""

    FOUND = auto()
    MISSING = auto()
    EXPIRED = auto()


@dataclass(frozen=True)
class Found:
    """The newest row of an entity; age in microseconds."""

    state: State
    values: Sequence[Any] = field(default=())
    event_time: int = 0
    age: int = 0


def extended(before: FeatureView, now: datetime) -> FeatureView:
    """A view with one more version."""
    return changed(before, now, latest_version=before.latest_version + 1)


def materialised(
    view: FeatureView, version: ViewVersion, run: Run, progress: Progress, epoch: datetime, now: datetime
) -> tuple[FeatureView, Coverage]:
    """The view and the coverage after a run. What a range or the future left out is not covered."""
    before = version.coverage
    whole = run.start is None and run.until is None and not progress.future_rows
    newest = epoch + timedelta(microseconds=progress.newest) if progress.newest is not None else None
    times = [time for time in (before.newest_event_time, newest) if time]
    covered = max(before.data_set_version, run.data_set_version) if whole else before.data_set_version
    after = view
    if run.version > view.serving_version and not view.delete_time:
        after = changed(view, now, serving_version=run.version)
    return after, Coverage(covered, now, max(times, default=None), before.stamp)


def chosen(version: ViewVersion, wanted: Sequence[str], hidden: Iterable[str]) -> tuple[int, ...]:
    """The places of the features to show, all if none is named.

    Raises invalid_value for one that is not there; forbidden for one, or a key, that is hidden (lower-case names): a
    model that got NULL for it would be wrong in silence.
    """
    places = {column.name: index for index, column in enumerate(version.features)}
    unknown = [(index, name) for index, name in enumerate(wanted) if name not in places]
    refuse(Violation(f"/features/{index}", f"must be a feature of the view; {name} is not") for index, name in unknown)
    if version.graph:
        asked = list(version.reads)
    else:
        asked = [*(wanted or places), *version.definition.keys, version.definition.event_time]
    masked = set(hidden)
    if found := [name for name in asked if name.lower() in masked]:
        raise Forbidden(f"{', '.join(dict.fromkeys(found))} of {version.definition.data_set} is masked: name others")
    return tuple(places[name] for name in wanted) if wanted else tuple(places.values())


def aged(entry: Entry | None, values: Sequence[Any], now: int, seconds_to_live: float | None) -> Found:
    """What is shown of a row at a time, in microseconds since 1970."""
    if entry is None:
        return Found(State.MISSING)
    age = max(0, now - entry.event_time)
    if seconds_to_live and age > seconds_to_live * 1e6:
        return Found(State.EXPIRED, (), entry.event_time, age)
    return Found(State.FOUND, values, entry.event_time, age)


def served(view: FeatureView, version: int) -> int:
    """The number of the version to read. Raises failed_precondition where none was materialised."""
    if wanted := version or view.serving_version:
        return wanted
    raise FailedPrecondition(f"no version of {view.feature_view} has been materialised yet")
