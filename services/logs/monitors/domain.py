"""The quality of a model: measures of scores against outcomes."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_CLIP = 1e-15
ROWS = 1_000_000  # of one request


class Prediction(NamedTuple):
    """The scores of one request, one per row, and the version that answered."""

    model: str
    request_id: str
    version: int
    scores: bytes  # little-endian float64

    @property
    def rows(self) -> int:
        return len(self.scores) // 8


@dataclass(frozen=True)
class Outcome:
    """The outcome of one row of one request: 0 or 1."""

    request_id: str
    row: int
    value: float


@dataclass(frozen=True)
class Pair:
    """A score and its outcome."""

    version: int
    score: float
    value: float


@dataclass(frozen=True)
class Quality:
    """The quality of one version."""

    version: int
    predictions: int
    with_outcome: int
    auc: float | None = None
    log_loss: float | None = None
    base_rate: float = 0.0
    mean_score: float = 0.0


def score_at(scores: bytes, row: int) -> float | None:
    """The score of a row; None if there is none, or it is not finite."""
    part = scores[8 * row : 8 * row + 8]
    if len(part) < 8:
        return None
    (value,) = struct.unpack("<d", part)
    return value if math.isfinite(value) else None


def auc(pairs: Sequence[Pair]) -> float | None:
    """Area under the ROC curve: the probability that a one scores above a zero, ties counting half.

    None if all outcomes are the same. Computed exactly, by the sum of the ranks of the ones (Mann and Whitney, 1947),
    where equal scores share their mean rank.
    """
    ordered = sorted(pairs, key=lambda pair: pair.score)
    ones = sum(1 for pair in ordered if pair.value == 1)
    zeros = len(ordered) - ones
    if not ones or not zeros:
        return None
    doubled = 0  # twice the sum of ranks, so that it stays whole
    at = 0
    while at < len(ordered):
        end = at
        while end < len(ordered) and ordered[end].score == ordered[at].score:
            end += 1
        doubled += (at + 1 + end) * sum(1 for pair in ordered[at:end] if pair.value == 1)
        at = end
    return (doubled - ones * (ones + 1)) / (2 * ones * zeros)


def log_loss(pairs: Sequence[Pair]) -> float | None:
    """Mean negative log of the probability given to the outcome; probabilities are clipped to 1e-15 from 0 and 1.

    None without pairs, or when a score is no probability.
    """
    if not pairs or not all(0 <= pair.score <= 1 for pair in pairs):
        return None
    probabilities = (pair.score if pair.value == 1 else 1 - pair.score for pair in pairs)
    return math.fsum(-math.log(min(max(one, _CLIP), 1 - _CLIP)) for one in probabilities) / len(pairs)


def quality(version: int, predictions: int, pairs: Sequence[Pair]) -> Quality:
    """The quality of a version, from its predictions with an outcome."""
    if not pairs:
        return Quality(version, predictions, 0)
    count = len(pairs)
    base = math.fsum(pair.value for pair in pairs) / count
    mean = math.fsum(pair.score for pair in pairs) / count
    return Quality(version, predictions, count, auc(pairs), log_loss(pairs), base, mean)
