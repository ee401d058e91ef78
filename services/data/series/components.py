"""Components of a series as features: forecast from fits that lie before the row, so that no row sees what follows.

A fit is of the last `rows` rows before a place whose number, counted from the first row that the key ever had, is a
multiple of the stride; so where fits lie does not depend on how the rows arrived.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from services.data.series.decomposition import Parts, decompose, filled, proposed
from services.data.series.feature import Feature, Statistic
from services.data.series.windows import Block

Array = np.ndarray[Any, Any]
_LONGEST = 3  # a period that is proposed is at most such a part of the rows
_KNOWN = 2  # such a part of the rows must have values


@dataclass
class Fits:
    """The fits of a column of a block, each made once."""

    block: Block
    numbers: Array  # NaN where one is missing
    _made: dict[Any, Parts | None] = field(default_factory=dict)

    def features(self, feature: Feature, rows: Array, high: Array) -> Any:
        """Of rows before whose time their key has rows up to `high`. NULL before there are `rows`."""
        segments = self.block.segments[rows]
        starts = self.block.starts[segments]
        before = self.block.places[starts] + high - starts
        found = [self._one(feature, *each) for each in zip(segments.tolist(), before.tolist(), strict=True)]
        return pa.array(
            [value if value is not None and math.isfinite(value) else None for value in found], pa.float64()
        )

    def _one(self, feature: Feature, segment: int, before: int) -> float | None:
        """`before`: how many rows of the key are earlier."""
        if feature.statistic is not Statistic.REMAINDER:
            return self._ahead(feature, segment, before)
        start = int(self.block.starts[segment])
        at = start + before - 1 - int(self.block.places[start])
        forecast = self._ahead(feature, segment, before - 1) if before else None
        return None if forecast is None or math.isnan(self.numbers[at]) else float(self.numbers[at]) - forecast

    def _ahead(self, feature: Feature, segment: int, before: int) -> float | None:
        """What a fit says of the row that has so many rows before it."""
        place = before // feature.stride * feature.stride
        if place < feature.rows:
            return None
        key = (feature.rows, feature.periods, segment, place)
        if key not in self._made:
            self._made[key] = self._fit(feature, segment, place)
        parts = self._made[key]
        if parts is None:
            return None
        trend, seasons = parts.ahead(before - place + 1)
        match feature.statistic:
            case Statistic.TREND:
                return trend
            case Statistic.SEASON:
                named = dict(zip(parts.periods, seasons, strict=True))
                return named[feature.season] if feature.season else math.fsum(seasons)
        return trend + math.fsum(seasons)

    def _fit(self, feature: Feature, segment: int, place: int) -> Parts | None:
        """None where too few values are known."""
        start = int(self.block.starts[segment])
        end = start + place - int(self.block.places[start])
        values = self.numbers[end - feature.rows : end]
        if np.isnan(values).sum() * _KNOWN > feature.rows:
            return None
        with np.errstate(all="ignore"):
            values = filled(values)
            found = feature.periods or tuple(filter(None, [proposed(values, feature.rows // _LONGEST)]))
            return decompose(values, found)
