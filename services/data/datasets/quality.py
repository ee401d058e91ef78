"""The quality report of a column, and how reports of old and of new rows are merged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.data.schema import ColumnType

# Smallest hashes that a sketch keeps: below, `distinct` is exact; above, its standard error is 1/sqrt(SKETCH), 4.4 %.
SKETCH = 512
_HASHES = 2.0**64


@dataclass(frozen=True)
class ColumnQuality:
    """What was found in one column; `sketch` holds the smallest hashes of its values, so that two can be merged."""

    column: str
    nulls: int = 0
    distinct: int = 0
    minimum: str = ""
    maximum: str = ""
    mean: float = 0.0
    # How many values the mean is of: finite numbers only.
    numbers: int = 0
    sketch: tuple[int, ...] = ()


def estimate(sketch: tuple[int, ...]) -> int:
    """Distinct values by their smallest hashes, in order (Bar-Yossef et al. 2002, k minimum values)."""
    if len(sketch) < SKETCH:
        return len(sketch)
    return round((SKETCH - 1) / (sketch[SKETCH - 1] / _HASHES))


def merge(old: ColumnQuality, new: ColumnQuality, kind: ColumnType) -> ColumnQuality:
    """One column over the rows of both."""
    sketch = tuple(sorted({*old.sketch, *new.sketch})[:SKETCH])
    numbers = old.numbers + new.numbers
    # Each side by its share: a sum of large numbers may be infinite, their mean is not.
    mean = old.mean * (old.numbers / numbers) + new.mean * (new.numbers / numbers) if numbers else 0.0
    return ColumnQuality(
        column=new.column,
        nulls=old.nulls + new.nulls,
        distinct=estimate(sketch),
        minimum=_pick(min, (old, old.minimum), (new, new.minimum), kind),
        maximum=_pick(max, (old, old.maximum), (new, new.maximum), kind),
        mean=mean,
        numbers=numbers,
        sketch=sketch,
    )


def _pick(
    choose: Callable[..., str], one: tuple[ColumnQuality, str], other: tuple[ColumnQuality, str], kind: ColumnType
) -> str:
    """The smaller or larger of two texts of values; dates sort as their text does, times without their Z as well.

    No text means that there was no value; where values are texts it may be one.
    """
    texts = [text for side, text in (one, other) if text or (kind is ColumnType.STRING and side.sketch)]
    keys: dict[ColumnType, Callable[[str], Any]] = {
        ColumnType.INT64: int,
        ColumnType.DOUBLE: float,
        ColumnType.TIMESTAMP: lambda text: text.removesuffix("Z"),
    }
    return choose(texts, key=keys.get(kind, str), default="")
