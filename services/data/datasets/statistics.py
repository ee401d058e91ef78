"""Statistics of the columns of rows, batch by batch. For children: imports numpy and pyarrow when it is used."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from services.data.datasets.quality import SKETCH, ColumnQuality, estimate, merge
from services.data.schema import Column, ColumnType

_TEXT = 200  # characters of a smallest or largest string that a report keeps
# A look at a few rows takes nearly as long as one at so many, or at so many bytes.
_TOGETHER, _TOGETHER_BYTES = 65_536, 16 * 2**20
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass
class Statistics:
    """Takes tables whose columns have the Arrow types of `columns` and tells what all their rows hold."""

    columns: tuple[Column, ...]
    _found: dict[str, ColumnQuality] = field(default_factory=dict)
    _waiting: list[Any] = field(default_factory=list)
    _rows: int = 0
    _bytes: int = 0

    def add(self, table: Any) -> None:
        """Looks at more rows."""
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= _TOGETHER or self._bytes >= _TOGETHER_BYTES:
            self._look()

    def _look(self) -> None:
        import pyarrow as pa

        table = pa.concat_tables(self._waiting)
        self._waiting, self._rows, self._bytes = [], 0, 0
        for column in self.columns:
            seen = measure(column, table.column(column.name))
            before = self._found.get(column.name)
            self._found[column.name] = merge(before, seen, column.type) if before else seen

    def result(self) -> tuple[ColumnQuality, ...]:
        """What all rows hold."""
        if self._waiting:
            self._look()
        return tuple(self._found.get(column.name, ColumnQuality(column.name)) for column in self.columns)


def measure(column: Column, values: Any) -> ColumnQuality:
    """What one Arrow column holds; NaN and infinities count as values, not as numbers."""
    import pyarrow.compute as pc

    present = pc.drop_null(values)
    sketch = _sketch(present, column.type)
    finite = _finite(present, column.type)
    least, most = _extremes(finite, column.type)
    numbers = len(finite) if column.type in (ColumnType.INT64, ColumnType.DOUBLE, ColumnType.BOOL) else 0
    return ColumnQuality(
        column=column.name,
        nulls=values.null_count,
        distinct=estimate(sketch),
        minimum=least,
        maximum=most,
        mean=_mean(finite) if numbers else 0.0,
        numbers=numbers,
        sketch=sketch,
    )


def _mean(values: Any) -> float:
    """Also of numbers whose sum is infinite: of such, a part of each is precise enough."""
    import pyarrow.compute as pc

    mean = float(pc.mean(values).as_py())
    return mean if math.isfinite(mean) else float(pc.mean(pc.multiply(values, 2.0**-64)).as_py()) * 2.0**64


def _finite(values: Any, kind: ColumnType) -> Any:
    import pyarrow.compute as pc

    return values.filter(pc.is_finite(values)) if kind is ColumnType.DOUBLE else values


def _extremes(values: Any, kind: ColumnType) -> tuple[str, str]:
    import pyarrow.compute as pc

    if not len(values):
        return "", ""
    found = pc.min_max(values)
    return _text(found["min"], kind), _text(found["max"], kind)


def _text(scalar: Any, kind: ColumnType) -> str:
    import pyarrow as pa

    if kind is ColumnType.BOOL:
        return str(scalar.as_py()).lower()
    if kind is ColumnType.DOUBLE:
        return repr(scalar.as_py())
    if kind is ColumnType.TIMESTAMP:
        return str(timestamps(pa.array([scalar.value], scalar.type))[0].as_py())
    return str(scalar.cast(pa.string()).as_py())[:_TEXT]


def timestamps(values: Any) -> Any:
    """An Arrow column of timestamps as RFC 3339 text in UTC, without a fraction where it is zero."""
    import pyarrow.compute as pc

    return pc.replace_substring_regex(pc.strftime(values, "%Y-%m-%dT%H:%M:%SZ"), r"\.0+Z$", "Z")


def _sketch(values: Any, kind: ColumnType) -> tuple[int, ...]:
    import numpy as np
    import pyarrow.compute as pc

    found = hashes(pc.unique(values), kind)
    if len(found) > SKETCH:
        found = np.partition(found, SKETCH)[:SKETCH]
    return tuple(int(value) for value in np.unique(found))


def hashes(values: Any, kind: ColumnType) -> Any:
    """64 bits of each value of an Arrow column without NULL: the same of equal values, near to none of others."""
    import numpy as np
    import pyarrow as pa

    if kind is ColumnType.STRING:
        return _hash_strings(values)
    if kind is ColumnType.DOUBLE:
        return _mix((values.to_numpy(zero_copy_only=False) + 0.0).view(np.uint64))  # -0.0 becomes 0.0
    wide = values.cast(pa.int32()) if kind is ColumnType.DATE else values
    return _mix(wide.cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64))


def _hash_strings(values: Any) -> Any:
    """A polynomial over the bytes of each string, all strings at once."""
    import numpy as np
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = values.cast(pa.large_string())
    if not len(values):
        return np.zeros(0, np.uint64)
    _, bounds, data = values.buffers()
    offsets = np.frombuffer(bounds, np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(offsets)
    text = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64) + np.uint64(1)
    place = np.arange(len(text)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    powers = np.cumprod(np.full(int(lengths.max()) + 1, 0x100000001B3, np.uint64), dtype=np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(text * powers[place], dtype=np.uint64)])
    ends = offsets - offsets[0]
    return _mix(sums[ends[1:]] - sums[ends[:-1]])


def _mix(values: Any) -> Any:
    """SplitMix64's last steps (Steele et al. 2014): near values get far hashes."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = values + np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def to_json(found: Iterable[ColumnQuality]) -> list[dict[str, Any]]:
    """As it crosses from a child to its parent."""
    return [{**vars(quality), "sketch": list(quality.sketch)} for quality in found]


def from_json(found: Iterable[dict[str, Any]]) -> tuple[ColumnQuality, ...]:
    """What `to_json` was given."""
    return tuple(ColumnQuality(**{**quality, "sketch": tuple(quality["sketch"])}) for quality in found)
