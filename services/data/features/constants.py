"""What fitting finds, and what it finds it in: numbers and tables, which the graph has as constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from services.kit.errors import FailedPrecondition

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
