"""Medians of windows of rows. For children. In memory are the columns that it is about."""

from typing import Any

from services.data.arrow import arrow_type
from services.data.cleaning.kinds_values import Smooth
from services.data.cleaning.operators import (
    WHOLE,
    Applied,
    Array,
    Operator,
    Rows,
    column_of,
    missing,
    replaced,
    whole_numbers,
)
from services.data.schema import Column, ColumnType

_VALUES = 4_000_000  # of windows that are looked at at once


class Smoothing(Operator[Smooth]):
    """Each value by the median of its window."""

    whole = True

    def look(self, rows: Rows) -> None:
        import numpy as np

        self._at, self._found = 0, dict[str, Array]()
        codes, usable = _series(rows, [self.before[name] for name in self.kind.key])
        order = column_of(rows, self.before[self.kind.order])
        here = ~np.asarray(missing(order).to_numpy(zero_copy_only=False), bool)
        usable = here if usable is None else usable & here
        places = np.flatnonzero(usable)
        kind = self.before[self.kind.order].type
        there = order.drop_null() if kind is not ColumnType.DOUBLE else order.filter(_arrow(here))
        ranks = np.zeros(len(order), np.float64 if kind is ColumnType.DOUBLE else np.int64)
        ranks[here] = there.to_numpy() if kind is ColumnType.DOUBLE else whole_numbers(there, kind)
        series = codes[places] if codes is not None else np.zeros(len(places), np.int64)
        places = places[np.lexsort((places, ranks[places], series))]
        series = codes[places] if codes is not None else np.zeros(len(places), np.int64)
        for name in self.names:
            self._found[name] = self._smoothed(column_of(rows, self.before[name]), places, series)

    def _smoothed(self, values: Any, places: Array, series: Array) -> Array:
        import numpy as np
        import pyarrow as pa

        plain = values.cast(pa.float64(), safe=False).to_numpy()
        result = np.full(len(plain), np.nan)  # what stays as it is
        medians = medians_of(plain[places], series, self.kind.window, self.kind.centered)
        result[places] = np.where(np.isnan(plain[places]), np.nan, medians)
        return result

    def apply(self, table: Any) -> Applied:
        import numpy as np
        import pyarrow.compute as pc

        end = self._at + table.num_rows
        for name in self.names:
            values, found = table.column(name), self._found[name][self._at : end]
            kind = self.before[name].type
            stays = np.isnan(found)
            if kind is ColumnType.INT64:
                found = np.clip(np.rint(np.where(stays, 0, found)), *WHOLE).astype(np.int64)
            new = pc.if_else(_arrow(stays), values, _arrow(found))
            table = replaced(table, name, new.cast(arrow_type(kind)))
        self._at = end
        return Applied(table)


def _arrow(values: Array) -> Any:
    import pyarrow as pa

    return pa.array(values)


def _series(rows: Rows, columns: list[Column]) -> tuple[Array | None, Array | None]:
    """A number for the series of each row, and whether it has one; nothing where all rows are one series."""
    import numpy as np

    codes: Array | None = None
    usable: Array | None = None
    for column in columns:
        coded = column_of(rows, column).combine_chunks().dictionary_encode().indices
        there = ~np.asarray(coded.is_null().to_numpy(zero_copy_only=False), bool)
        found = coded.fill_null(-1).to_numpy().astype(np.int64)
        usable = there if usable is None else usable & there
        both = found if codes is None else codes * (int(found.max(initial=0)) + 2) + found
        _, codes = np.unique(both, return_inverse=True)
    return codes, usable


def medians_of(values: Array, series: Array, window: int, centered: bool) -> Array:
    """The median of what is there in the window of each value; the windows of a series end where it does."""
    import numpy as np

    if not len(values):
        return values
    ahead = (window - 1) // 2 if centered else 0
    behind = window - 1 - ahead
    padded = np.concatenate([np.full(behind, np.nan), values, np.full(ahead, np.nan)])
    owners = np.concatenate([np.full(behind, -1), series, np.full(ahead, -1)])
    result, step = np.empty(len(values)), max(1, _VALUES // window)
    for start in range(0, len(values), step):
        end = min(start + step, len(values))
        part = np.lib.stride_tricks.sliding_window_view(padded[start : end + window - 1], window).copy()
        owner = np.lib.stride_tricks.sliding_window_view(owners[start : end + window - 1], window)
        part[owner != series[start:end, None]] = np.nan
        result[start:end] = _medians(part)
    return result


def _medians(rows: Array) -> Array:
    """Of each row, without NaN."""
    import numpy as np

    ordered = np.sort(rows, axis=1)  # NaN last
    counts = np.maximum((~np.isnan(ordered)).sum(axis=1), 1)
    at = np.arange(len(rows))
    return (ordered[at, (counts - 1) // 2] + ordered[at, counts // 2]) / 2
