"""Features of rows by their definition: for each row a look at every row before it, with no code of the service."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.data.series import decomposition
from services.data.series.feature import COMPONENTS, WARPED, Feature, Statistic, Template, Window

DAY = 86_400.0
TEMPLATES = (
    Template("up", (0.0, 1.0, 2.0)),
    Template("down", (3.0, 2.0, 2.0, 1.0, -1.0)),
    Template("flat", (1.0, 1.0)),
)
# One of each window and statistic, with sizes that the rows of the tests fill and empty.
FEATURES = (
    Feature("rows_before", Statistic.COUNT, "", Window.SLIDING, seconds=10),
    Feature("count", Statistic.COUNT, "x", Window.SLIDING, seconds=10),
    Feature("sum", Statistic.SUM, "x", Window.SLIDING, seconds=10),
    Feature("mean", Statistic.MEAN, "x", Window.ROWS, rows=3),
    Feature("min", Statistic.MIN, "x", Window.TUMBLING, seconds=8),
    Feature("max", Statistic.MAX, "x", Window.TUMBLING, seconds=8, back=1),
    Feature("deviation", Statistic.DEVIATION, "x", Window.SESSION, seconds=30, gap_seconds=3),
    Feature("first", Statistic.FIRST, "x", Window.SESSION, seconds=6, gap_seconds=2.5),
    Feature("last", Statistic.LAST, "x", Window.SLIDING, seconds=4),
    Feature("distinct", Statistic.DISTINCT, "x", Window.SLIDING, seconds=12),
    Feature("kinds", Statistic.DISTINCT, "kind", Window.ROWS, rows=4),
    Feature("last_kind", Statistic.LAST, "kind", Window.TUMBLING, seconds=16),
    Feature("lag", Statistic.LAG, "x", rows=2),
    Feature("lag_kind", Statistic.LAG, "kind", rows=1),
    Feature("trend", Statistic.TREND, "x", rows=9, periods=(2,)),
    Feature("season", Statistic.SEASON, "x", rows=16, periods=(2, 3), season=3),
    Feature("seasons", Statistic.SEASON, "x", rows=8),
    Feature("far", Statistic.DTW_DISTANCE, "x", rows=4, templates=TEMPLATES),
    Feature("near", Statistic.DTW_NEAREST, "x", rows=5, templates=TEMPLATES, band=1, scaled=True),
    Feature("remainder", Statistic.REMAINDER, "x", rows=9, periods=(2,)),
)
Row = dict[str, Any]


def features(feature: Feature, rows: Sequence[Row], now: float) -> Any:
    """Of a row at `now` (seconds), from the rows of its key in the order of their times."""
    before = [row for row in rows if row["at"] < now]
    if feature.statistic is Statistic.LAG:
        return _known(before[-feature.rows][feature.column]) if len(before) >= feature.rows else None
    if feature.statistic in COMPONENTS:
        return _known(_component(feature, [_known(row[feature.column]) for row in before]))
    if feature.statistic in WARPED:
        return _nearest(feature, [_known(row[feature.column]) for row in before[-feature.rows :]])
    window = _window(feature, before, now)
    if not feature.column:
        return float(len(window))
    values = [value for row in window if (value := _known(row[feature.column])) is not None]
    return _statistic(feature.statistic, values)


def _component(feature: Feature, values: Sequence[Any]) -> Any:
    """By the decomposition that `test_decomposition` checks: here, which rows it is of, and how far ahead."""
    if feature.statistic is Statistic.REMAINDER:
        parts = _ahead(feature, values[:-1]) if values else None
        return None if parts is None or values[-1] is None else values[-1] - (parts[0] + math.fsum(parts[1].values()))
    parts = _ahead(feature, values)
    if parts is None or feature.statistic is Statistic.TREND:
        return parts and parts[0]
    return parts[1][feature.season] if feature.season else math.fsum(parts[1].values())


def _nearest(feature: Feature, values: Sequence[Any]) -> Any:
    """The least distance, or the names of the nearest: rounding decides between those that are equally near."""
    series = np.array([math.nan if value is None else value for value in values], float)
    if len(series) < feature.rows or np.isnan(series).sum() > feature.rows / 2:
        return None
    series = _scaled(feature, decomposition.filled(series))
    far = {
        template.name: warped(series, _scaled(feature, np.array(template.values)), feature.band)
        for template in feature.templates
    }
    least = min(far.values())
    if not math.isfinite(least):
        return None
    if feature.statistic is Statistic.DTW_DISTANCE:
        return least
    return frozenset(name for name, distance in far.items() if distance <= least + 1e-3)


def _scaled(feature: Feature, values: Any) -> Any:
    """A constant is 0, also where rounding leaves it a deviation."""
    largest = np.abs(values).max()
    if not feature.scaled or not largest:
        return values
    values = values / largest
    return (values - np.mean(values)) / np.std(values) if np.std(values) > 1e-12 else 0 * values


def warped(series: Any, template: Any, band: int) -> float:
    """The table of dynamic time warping, filled cell by cell."""
    n, m = len(series), len(template)
    table = [[math.inf] * (m + 1) for _ in range(n + 1)]
    table[0][0] = 0.0
    for i in range(n):
        for j in range(m):
            if band and not -(band + max(n - m, 0)) <= j - i <= band + max(m - n, 0):
                continue
            apart = float(series[i]) - float(template[j])
            table[i + 1][j + 1] = apart * apart + min(table[i][j], table[i][j + 1], table[i + 1][j])
    return math.sqrt(table[n][m])


def _ahead(feature: Feature, values: Sequence[Any]) -> tuple[float, dict[int, float]] | None:
    every = max(feature.rows // 8, 1)
    end = len(values) // every * every
    taken = np.array(
        [math.nan if value is None else value for value in values[max(end - feature.rows, 0) : end]], float
    )
    if len(taken) < feature.rows or np.isnan(taken).sum() > feature.rows / 2:
        return None
    taken = decomposition.filled(taken)
    found = decomposition.proposed(taken, feature.rows // 3)
    parts = decomposition.decompose(taken, feature.periods or ((found,) if found else ()))
    trend, seasons = parts.ahead(len(values) - end + 1)
    return trend, dict(zip(parts.periods, seasons, strict=True))


def _known(value: Any) -> Any:
    return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _window(feature: Feature, before: Sequence[Row], now: float) -> Sequence[Row]:
    match feature.window:
        case Window.ROWS:
            return before[-feature.rows :]
        case Window.SLIDING:
            return [row for row in before if row["at"] >= now - feature.seconds]
        case Window.TUMBLING:
            begin = (now // feature.seconds - feature.back) * feature.seconds
            return [row for row in before if begin <= row["at"] < begin + feature.seconds]
    session: list[Row] = []
    after = now
    for row in reversed(before):
        if after - row["at"] > feature.gap_seconds:
            break
        session, after = [row, *session], row["at"]
    return [row for row in session if row["at"] >= now - feature.seconds]


def _statistic(statistic: Statistic, values: Sequence[Any]) -> Any:
    if statistic is Statistic.COUNT:
        return float(len(values))
    if statistic is Statistic.DISTINCT:
        return float(len(set(values)))
    if not values:
        return None
    match statistic:
        case Statistic.FIRST:
            return values[0]
        case Statistic.LAST:
            return values[-1]
        case Statistic.MIN:
            return min(values)
        case Statistic.MAX:
            return max(values)
        case Statistic.SUM:
            return math.fsum(values)
    mean = math.fsum(values) / len(values)
    if statistic is Statistic.MEAN:
        return mean
    return math.sqrt(math.fsum((value - mean) * (value - mean) for value in values) / len(values))
