"""Rows that are there already. For children.

Hashes find rows that may be equal, their values decide: a collision of hashes loses no row. In memory are 16 bytes of
each row, and the keys of rows that may be duplicates.
"""

from datetime import UTC, date, datetime
from typing import Any

from services.data.cleaning.kinds import Duplicates
from services.data.cleaning.operators import Applied, Array, Operator, Rows, whole_numbers
from services.data.datasets.statistics import hashes
from services.data.schema import Column, ColumnType

_LAST = "last"
_PLACE, _RANK = "__place", "__rank"
# What NULL is hashed as.
_NOTHING: dict[ColumnType, Any] = {
    ColumnType.STRING: "",
    ColumnType.BOOL: False,
    ColumnType.DATE: date(1970, 1, 1),
    ColumnType.TIMESTAMP: datetime(1970, 1, 1, tzinfo=UTC),
}


class Repeated(Operator[Duplicates]):
    """Of equal rows one is kept."""

    whole = True

    def look(self, rows: Rows) -> None:
        import numpy as np

        self._at, self._again = 0, np.zeros(0, bool)
        columns = [self.before[name] for name in self.names]
        found = [self._hashed(table, columns) for table in rows.tables(self.names)]
        if not found:
            return
        of_row, there = (np.concatenate([one[part] for one in found]) for part in (0, 1))
        maybe = there & _repeated(of_row)
        self._again = np.zeros(len(of_row), bool)
        if maybe.any():
            self._again[self._others(rows, maybe)] = True

    def _hashed(self, table: Any, columns: list[Column]) -> tuple[Array, Array]:
        """A hash of each row's key, and whether it can be equal to another."""
        import numpy as np
        import pyarrow.compute as pc

        total, there = np.zeros(table.num_rows, np.uint64), np.ones(table.num_rows, bool)
        for column in columns:
            values = _plain(table.column(column.name), column.type)
            found = hashes(pc.fill_null(values, _NOTHING.get(column.type, 0)), column.type)
            with np.errstate(over="ignore"):
                total = (total ^ found) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
            if self.kind.key:
                there &= ~np.asarray(values.is_null().to_numpy(zero_copy_only=False), bool)
        return total, there

    def _others(self, rows: Rows, maybe: Array) -> Array:
        """The places of rows that are equal to one that is kept."""
        import numpy as np
        import pyarrow as pa

        pieces, at = [], 0
        wanted = [*self.names, *([self.kind.order] if self.kind.order not in (*self.names, "") else [])]
        for table in rows.tables(wanted):
            here = maybe[at : at + table.num_rows]
            places = np.flatnonzero(here) + at
            at += table.num_rows
            piece = {name: _plain(table.column(name), self.before[name].type).filter(pa.array(here)) for name in wanted}
            if len(places):
                pieces.append(pa.table({f"k{i}": values for i, values in enumerate(piece.values())} | {_PLACE: places}))
        table = pa.concat_tables(pieces)
        order = table.column(f"k{wanted.index(self.kind.order)}") if self.kind.order else None
        keys = [f"k{i}" for i in range(len(self.names))]
        return _beaten(table.select(keys), table.column(_PLACE).to_numpy(), self._ranks(order, len(table)))

    def _ranks(self, order: Any, count: int) -> Array:
        """The smallest of a group is kept: places in the order that is asked for, values that are missing behind."""
        import numpy as np

        sign = -1 if self.kind.keep == _LAST else 1
        places = sign * np.arange(count)
        if order is None:
            return places
        kind, there = self.before[self.kind.order].type, ~_null(order)
        values = order.drop_null()
        found = values.to_numpy() if kind is ColumnType.DOUBLE else whole_numbers(values, kind)
        _, level = np.unique(found, return_inverse=True)
        levels = np.full(count, count, np.int64)
        levels[there] = sign * level
        ranks = np.empty(count, np.int64)
        ranks[np.lexsort((places, levels))] = np.arange(count)
        return ranks

    def apply(self, table: Any) -> Applied:
        here = self._again[self._at : self._at + table.num_rows]
        self._at += table.num_rows
        return Applied(table, duplicates=here)


def _beaten(keys: Any, places: Array, ranks: Array) -> Array:
    """The places of all rows of each group of equal keys but the one with the smallest rank."""
    import numpy as np
    import pyarrow as pa

    groups = keys.append_column(_RANK, pa.array(ranks)).group_by(keys.column_names, use_threads=False)
    kept = groups.aggregate([(_RANK, "min")]).column(f"{_RANK}_min").to_numpy()
    return places[~np.isin(ranks, kept)]


def _repeated(values: Array) -> Array:
    """Which values are there more than once."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    same = values[order][1:] == values[order][:-1]
    found = np.zeros(len(values), bool)
    found[order[1:]] |= same
    found[order[:-1]] |= same
    return found


def _plain(values: Any, kind: ColumnType) -> Any:
    """Where equal numbers have equal bits: one zero, and NaN is NULL."""
    import pyarrow.compute as pc

    if kind is not ColumnType.DOUBLE:
        return values
    return pc.if_else(pc.is_nan(values), None, pc.add(values, 0.0))


def _null(values: Any) -> Array:
    import numpy as np

    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), bool)
