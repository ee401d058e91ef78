"""Values that are far from the others. For children."""

from typing import Any

from services.data.cleaning.kinds import Action, Method, Outliers, mark_of
from services.data.cleaning.operators import (
    Applied,
    Array,
    Operator,
    Rows,
    column_of,
    finite,
    mask,
    replaced,
)
from services.data.schema import ColumnType

_SIGMAS, _RANGES = 3.0, 1.5
_ROUNDING = 1e-12  # of the largest value: a spread below it is none


class Outlying(Operator[Outliers]):
    """Outside of bounds that were learned once."""

    learns = True

    def learn(self, rows: Rows) -> None:
        for name in self.names:
            found = bounds(finite(column_of(rows, self.before[name])), self.kind.method, self.kind.threshold)
            if found is None:
                self.notes.append(f"{name} has no spread: none of its values is an outlier")
            self.state[name] = found

    def apply(self, table: Any) -> Applied:
        import pyarrow as pa

        done = Applied(table)
        for name in self.names:
            values, found = table.column(name), self.state[name]
            outside = _outside(values, found, self.before[name].type)
            if self.kind.action == Action.QUARANTINE:
                done.broken.append((f"{name} is an outlier", outside))
            elif self.kind.action == Action.MARK:
                done.table = replaced(done.table, mark_of(name), pa.chunked_array([outside]))
            elif found is not None:
                done.table = replaced(done.table, name, _clipped(values, found, self.before[name].type))
        return done

    def shown(self) -> list[dict[str, str]]:
        return [
            {"column": name, "name": word, "value": repr(value)}
            for name, found in self.state.items()
            for word, value in zip(("lower", "upper"), found or (), strict=False)
        ]


def bounds(numbers: Array, method: str, threshold: float) -> list[float] | None:
    """Between which numbers are no outliers; None where they have no spread."""
    import numpy as np

    if not len(numbers):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        if method == Method.Z_SCORE:
            middle, width = float(np.mean(numbers)), float(np.std(numbers))
            low, high = middle, middle
            reach = width * (threshold or _SIGMAS)
        else:
            low, high = (float(value) for value in np.quantile(numbers, (0.25, 0.75)))
            width = high - low
            reach = width * (threshold or _RANGES)
    if not width > _ROUNDING * float(np.max(np.abs(numbers))) or not np.isfinite((low - reach, high + reach)).all():
        return None
    return [low - reach, high + reach]


def _limits(found: list[float], kind: ColumnType) -> list[Any]:
    """The bounds in the type of the values: of whole numbers, of which a double does not hold all, whole ones."""
    import math

    import pyarrow as pa

    if kind is ColumnType.INT64:
        whole = (math.ceil(found[0]), math.floor(found[1]))
        return [pa.scalar(min(max(at, -(2**63)), 2**63 - 1), pa.int64()) for at in whole]
    return [pa.scalar(at, pa.float64()) for at in found]


def _outside(values: Any, found: list[float] | None, kind: ColumnType) -> Array:
    import numpy as np
    import pyarrow.compute as pc

    if found is None:
        return np.zeros(len(values), bool)
    low, high = _limits(found, kind)
    return mask(pc.or_(pc.less(values, low), pc.greater(values, high)))


def _clipped(values: Any, found: list[float], kind: ColumnType) -> Any:
    """Within the bounds; whole numbers within the whole numbers between them."""
    import pyarrow.compute as pc

    low, high = _limits(found, kind)
    below, above = (pc.fill_null(far, False) for far in (pc.less(values, low), pc.greater(values, high)))
    return pc.if_else(below, low, pc.if_else(above, high, values))
