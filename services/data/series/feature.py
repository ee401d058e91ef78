"""The features of series sets: what they are made of, and which make no sense. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from services.data.schema import ColumnType
from services.kit.errors import Violation

NUMBERS = (ColumnType.BOOL, ColumnType.INT64, ColumnType.DOUBLE)
MOST_WINDOW_ROWS = 100_000  # of one key that windows may reach back over
LONGEST = 3_155_760_000.0  # seconds: a hundred years
SHORTEST = 1e-6  # seconds: what times are exact to
MOST_FITTED, LEAST_FITTED = 5_000, 4  # rows that components are fitted on
MOST_WARPED = 1_000  # values of a series or template that are compared by dynamic time warping
MOST_CELLS = 200_000  # pairs of values that are compared for one row
MOST_VALUES = 10_000  # of all templates of a series set
LARGEST = 1e100  # of a template
STRIDES = 8  # fits while as many rows pass as one is made of
MOST_BACK = 1000  # whole windows that a tumbling one may lie back


class Window(StrEnum):
    """Which earlier rows of the key count."""

    UNSPECIFIED = ""
    SLIDING = "sliding"
    TUMBLING = "tumbling"
    SESSION = "session"
    ROWS = "rows"


class Statistic(StrEnum):
    """What of the values in a window."""

    UNSPECIFIED = ""
    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    DEVIATION = "deviation"
    FIRST = "first"
    LAST = "last"
    DISTINCT = "distinct"
    LAG = "lag"
    TREND = "trend"
    SEASON = "season"
    REMAINDER = "remainder"
    DTW_DISTANCE = "dtw_distance"
    DTW_NEAREST = "dtw_nearest"


OF_ANY = (Statistic.COUNT, Statistic.FIRST, Statistic.LAST, Statistic.DISTINCT, Statistic.LAG)
COMPONENTS = (Statistic.TREND, Statistic.SEASON, Statistic.REMAINDER)
# Those that reach back over a number of rows, and have no window.
WARPED = (Statistic.DTW_DISTANCE, Statistic.DTW_NEAREST)
_OF_ROWS = (Statistic.LAG, *COMPONENTS, *WARPED)
_SAME_TYPE = (Statistic.FIRST, Statistic.LAST, Statistic.LAG)


@dataclass(frozen=True)
class Template:
    """A series that others are compared with."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Feature:
    """One column that is added: a statistic of a column over a window that ends before the row's time."""

    name: str
    statistic: Statistic
    column: str = ""
    window: Window = Window.UNSPECIFIED
    seconds: float = 0.0
    rows: int = 0
    gap_seconds: float = 0.0
    back: int = 0
    periods: tuple[int, ...] = ()
    season: int = 0
    templates: tuple[Template, ...] = ()
    band: int = 0
    scaled: bool = False

    @property
    def stride(self) -> int:
        """After so many rows the components of a series are fitted again."""
        return max(self.rows // STRIDES, 1)

    @property
    def reach(self) -> int:
        """How many rows before a row it may need, if it has no window of time."""
        return self.rows + self.stride if self.statistic in COMPONENTS else self.rows

    def type_of(self, column: ColumnType | None) -> ColumnType:
        """The type of the column that is added, for one over a column of that type."""
        if self.statistic is Statistic.DTW_NEAREST:
            return ColumnType.STRING
        if self.statistic not in _SAME_TYPE or column is None:
            return ColumnType.DOUBLE
        return ColumnType.STRING if column is ColumnType.STRING else ColumnType.DOUBLE


def violations(feature: Feature, at: str) -> Iterator[Violation]:
    """The rules that a feature breaks, whatever its column holds; `at` is its place in the request."""
    if not feature.column and feature.statistic is not Statistic.COUNT:
        yield Violation(f"{at}/column", "must be set: only rows can be counted without one")
    if feature.statistic in WARPED:
        yield from _templates(feature, at)
    elif feature.templates or feature.band or feature.scaled:
        yield Violation(f"{at}/templates", "must not be set, nor band and scaled, but for dtw_distance and dtw_nearest")
    if feature.statistic not in COMPONENTS and feature.periods:
        yield Violation(f"{at}/periods", "must not be set but for trend, season and remainder")
    if feature.season and (feature.statistic is not Statistic.SEASON or feature.season not in feature.periods):
        yield Violation(f"{at}/season", "must be one of the periods, for a season")
    if feature.statistic in _OF_ROWS:
        if feature.window:
            yield Violation(f"{at}/window", f"must not be set for a {feature.statistic}")
        yield from _rows(feature, at)
        return
    if not feature.window:
        yield Violation(f"{at}/window", "must be set")
        return
    if feature.window is Window.ROWS:
        yield from _rows(feature, at)
    else:
        yield from _seconds(f"{at}/seconds", feature.seconds)
    if feature.window is Window.SESSION:
        yield from _seconds(f"{at}/gap_seconds", feature.gap_seconds)
        if feature.gap_seconds > feature.seconds:
            yield Violation(f"{at}/gap_seconds", "must not be greater than seconds, the longest that a session counts")
    if feature.back and feature.window is not Window.TUMBLING:
        yield Violation(f"{at}/back", "must not be set for a window that is not tumbling")
    if not 0 <= feature.back <= MOST_BACK:
        yield Violation(f"{at}/back", f"must be 0 to {MOST_BACK}")


def _templates(feature: Feature, at: str) -> Iterator[Violation]:
    if not feature.templates:
        yield Violation(f"{at}/templates", "must be set")
    if not 0 <= feature.band <= MOST_WARPED:
        yield Violation(f"{at}/band", f"must be 0 to {MOST_WARPED}")
    names = [template.name for template in feature.templates]
    for index, template in enumerate(feature.templates):
        if template.name in names[:index]:
            yield Violation(f"{at}/templates/{index}/name", "is there twice")
        if not 2 <= len(template.values) <= MOST_WARPED:
            yield Violation(f"{at}/templates/{index}/values", f"must be 2 to {MOST_WARPED} numbers")
        if not all(abs(value) <= LARGEST for value in template.values):
            yield Violation(f"{at}/templates/{index}/values", f"must be numbers from -{LARGEST:g} to {LARGEST:g}")
    if feature.rows * sum(len(template.values) for template in feature.templates) > MOST_CELLS:
        yield Violation(f"{at}/templates", f"rows times the values of all templates must be at most {MOST_CELLS}")


def _rows(feature: Feature, at: str) -> Iterator[Violation]:
    if feature.statistic in COMPONENTS:
        if not LEAST_FITTED <= feature.rows <= MOST_FITTED:
            yield Violation(f"{at}/rows", f"must be {LEAST_FITTED} to {MOST_FITTED}")
        for index, period in enumerate(feature.periods):
            if not 2 <= period <= feature.rows // 2:
                yield Violation(f"{at}/periods/{index}", "must be from 2 to half of the rows")
            elif period in feature.periods[:index]:
                yield Violation(f"{at}/periods/{index}", "is there twice")
    elif feature.statistic in WARPED:
        if not 2 <= feature.rows <= MOST_WARPED:
            yield Violation(f"{at}/rows", f"must be 2 to {MOST_WARPED}")
    elif not 1 <= feature.rows <= MOST_WINDOW_ROWS:
        yield Violation(f"{at}/rows", f"must be 1 to {MOST_WINDOW_ROWS}")


def _seconds(at: str, seconds: float) -> Iterator[Violation]:
    if not (math.isfinite(seconds) and SHORTEST <= seconds <= LONGEST):
        yield Violation(at, f"must be {SHORTEST:g} to {LONGEST:.0f} seconds")
