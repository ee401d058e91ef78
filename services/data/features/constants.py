"""What fitting finds, and what it finds it in: numbers and tables, which the graph has as constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from services.data.features.steps import DatePart
from services.kit.errors import FailedPrecondition

WORDS = 256  # that are read of a text
Array = np.ndarray[Any, np.dtype[Any]]


class Fitting(NamedTuple):
    """Values [rows] of the columns of a step by the fields that name them: as they are, and with gaps filled."""

    raw: Mapping[str, Array]
    filled: Mapping[str, Array]


@dataclass(frozen=True)
class Scale:
    """x -> (x - shift) / width, one number."""

    shift: float
    width: float


@dataclass(frozen=True)
class Trend:
    """x, t -> (x - shift - slope * (t - origin)) / width, one number."""

    shift: float
    width: float
    slope: float
    origin: float


@dataclass(frozen=True)
class Lookup:
    """x -> the row of a table that belongs to a key; `unseen`, or zeros, for any other x."""

    keys: tuple[str, ...] | tuple[float, ...]
    rows: Array  # [keys, outputs], FP32
    unseen: tuple[float, ...] = ()


@dataclass(frozen=True)
class Folded:
    """x -> one number of the row of a table: that of the fold of the row, the last one where no fold is given."""

    table: Lookup


@dataclass(frozen=True)
class Hashed:
    """x -> 1 in one of so many outputs, by its MurmurHash3."""

    buckets: int


@dataclass(frozen=True)
class Crossed:
    """x, y -> the row of a table of pairs: the key of a pair is place of x * (len(second) + 1) + place of y."""

    first: tuple[str, ...] | tuple[float, ...]
    second: tuple[str, ...] | tuple[float, ...]
    pairs: Lookup


@dataclass(frozen=True)
class Cycle:
    """x -> sine and cosine of 2 pi (x - offset) / length; zeros where there is none."""

    offset: float
    length: float


@dataclass(frozen=True)
class Bins:
    """x -> 1 in one of the outputs, of which there is one more than edges."""

    edges: tuple[float, ...]


@dataclass(frozen=True)
class Log:
    """x -> the natural logarithm of x + shift."""

    shift: float


@dataclass(frozen=True)
class Power:
    """x -> x to the power of exponent."""

    exponent: float


@dataclass(frozen=True)
class Pair:
    """x, y -> x operator y."""

    operator: str  # of ONNX


@dataclass(frozen=True)
class Date:
    """Seconds since 1970 -> a part of that time, a number or sine and cosine."""

    part: DatePart
    cyclic: bool


@dataclass(frozen=True)
class Distance:
    """Latitude and longitude of two points in degrees -> kilometres."""


@dataclass(frozen=True)
class HashedWords:
    """A text -> how many of its words fall into each of so many buckets."""

    buckets: int


@dataclass(frozen=True)
class Words:
    """A text -> how often it has each of some words, by its weight, as a vector of length 1; or zeros."""

    words: tuple[str, ...]
    weights: tuple[float, ...]


def circle(period: int) -> Array:
    """Sine and cosine of each place of a cycle, FP32 [period, 2]."""
    angle = 2 * np.pi * np.arange(period) / period
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def present(values: Array, column: str) -> Array:
    """The finite numbers. Raises failed_precondition where there is none."""
    found = values[np.isfinite(values)]
    if not len(found):
        raise FailedPrecondition(f"{column} has no value in the training rows")
    return found


def finite(column: str, *found: float) -> None:
    """Raises failed_precondition when a constant is beyond the numbers."""
    if not np.isfinite(found).all():
        raise FailedPrecondition(f"{column} holds numbers that are too large to be scaled")
