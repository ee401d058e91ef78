"""What a step changed: counts for each column, and a few values before and after. For children."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.data.cleaning.kinds import Columns
from services.data.cleaning.operators import ROW, Json, missing
from services.data.datasets.rows import to_values

_EXAMPLES = 5  # of a column
_LOOKED_AT = 200  # changed values of a batch, for different ones among them
_TEXT = 200  # characters of a value that is shown
_NOTES = 20
_BYTES = 2**20  # of all reports of a run


@dataclass
class _Changed:
    changed: int = 0
    examples: list[Json] = field(default_factory=list)


class Report:
    """Of one step, over all batches."""

    def __init__(self, step: str, before: Columns, after: Columns, names: Collection[str]) -> None:
        """`names`: columns that the step may change; others are compared where they are new only."""
        self._step, self._before, self._after = step, before, after
        self._names = {*names, *(name for name in after if name not in before)}
        self._counts = {"rows_in": 0, "quarantined": 0, "duplicates": 0}
        self._columns: dict[str, _Changed] = {}

    def count(self, rows: int, quarantined: int, duplicates: int) -> None:
        """Adds the rows of a batch."""
        for name, value in zip(self._counts, (rows, quarantined, duplicates), strict=True):
            self._counts[name] += value

    def compare(self, before: Any, after: Any) -> None:
        """Adds the rows of a batch that the step did not take out, before and after it."""
        for name in (one for one in after.column_names if one in self._names):
            old = before.column(name) if name in self._before else None
            changed = differs(old, after.column(name))
            if found := int(changed.sum()):
                self._add(name, found, (before, after), changed)

    def _add(self, name: str, count: int, tables: tuple[Any, Any], changed: Any) -> None:
        import numpy as np

        kept = self._columns.setdefault(name, _Changed())
        kept.changed += count
        if len(kept.examples) >= _EXAMPLES:
            return
        places = np.flatnonzero(changed)[:_LOOKED_AT]
        rows = tables[1].column(ROW).take(places).to_pylist()
        olds = self._values(self._before, tables[0], name, places)
        news = self._values(self._after, tables[1], name, places)
        for row, old, new in zip(rows, olds, news, strict=True):
            if len(kept.examples) < _EXAMPLES and (old is None or all(one["before"] != old for one in kept.examples)):
                kept.examples.append({"row": row + 1, "before": old, "after": new})

    @staticmethod
    def _values(columns: Columns, table: Any, name: str, places: Any) -> list[Any]:
        if name not in table.column_names:
            return [None] * len(places)
        return [_short(value) for value in to_values(table.column(name).take(places), columns[name].type)]

    def to_json(self, notes: Iterable[str], told: Iterable[tuple[str, str]] = ()) -> Json:
        """As it is kept. `told`: notes that tell values of a column, which stands before each."""
        rows, quarantined, duplicates = self._counts.values()
        names = [name for name in self._after if name in self._columns]
        return {
            "step": self._step,
            **self._counts,
            "rows_out": rows - quarantined - duplicates,
            "columns": [{"column": name, **vars(self._columns[name])} for name in names],
            "notes": list(notes)[:_NOTES],
            "told": [{"column": column, "note": note} for column, note in told][:_NOTES],
        }


def bounded(reports: Sequence[Json]) -> list[Json]:
    """Reports that fit into an answer: examples are left out first, then columns, which a note says."""
    size, found = 0, list[Json]()
    for report in reports:
        columns = list[Json]()
        for column in report["columns"]:
            plain = {**column, "examples": []}
            chosen = column if size + len(orjson.dumps(column)) <= _BYTES // 2 else plain
            size += len(orjson.dumps(chosen))
            if size > _BYTES:
                break
            columns.append(chosen)
        more = ["more columns were changed than are named"] if len(columns) < len(report["columns"]) else []
        found.append({**report, "columns": columns, "notes": [*report["notes"], *more]})
    return found


def _short(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= _TEXT else value[:_TEXT] + "..."


def differs(old: Any, new: Any) -> Any:
    """Which values are others, as numpy has it; of a new column those that are true."""
    import numpy as np
    import pyarrow.compute as pc

    if old is None:
        found = pc.fill_null(new, False)
    elif old.type != new.type:
        found = pc.is_valid(old)
    else:
        both = pc.and_(missing(old), missing(new))
        found = pc.invert(pc.or_(both, pc.fill_null(pc.equal(old, new), False)))
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)
