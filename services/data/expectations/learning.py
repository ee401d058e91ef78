"""Expectations that a version fulfils, found in its rows by the engine. For children."""

import math
from typing import Any

from services.data.engine import Engine
from services.data.schema import ColumnType, quoted
from services.kit.child import Json

_FEW, _EACH = 20, 5  # values that make a set, and how often each must be there for it to be one
_ROOM = 0.1  # of the span between the least and the largest number, that later ones may lie outside
_SURE = 3.0  # standard errors above the fraction that is missing


def main(request: Json) -> Json:
    """`{learn, tables, columns}` to `{expectations}`: `learn` has the statistics of each column, and rows_added."""
    engine, learn = Engine(request["tables"]), request["learn"]
    found: list[Json] = []
    if added := int(learn["rows_added"]):
        found.append({"kind": "row_count", "minimum": str(added // 2), "maximum": str(added * 2)})
    if rows := int(learn["rows"]):
        for column in learn["columns"]:
            found += _of_column(engine, column, rows)
    return {"expectations": found}


def _of_column(engine: Engine, column: Json, rows: int) -> list[Json]:
    name, kind, nulls = str(column["name"]), ColumnType(column["type"]), int(column["nulls"])
    found: list[Json] = [{"kind": "not_null"} if not nulls else {"kind": "missing", "fraction": _fraction(nulls, rows)}]
    if kind in (ColumnType.INT64, ColumnType.DOUBLE) and column["numbers"]:
        found.append({"kind": "range", **_range(column["minimum"], column["maximum"], kind)})
    if kind is not ColumnType.DOUBLE and rows > 1 and not nulls and _distinct(engine, name) == rows:
        found.append({"kind": "unique"})
    elif kind is ColumnType.STRING and column["distinct"] <= _FEW and (values := _values(engine, name)):
        found.append({"kind": "values", "values": values})
    return [{"column": name, **item} for item in found]


def _fraction(nulls: int, rows: int) -> float:
    """What chance may make of the same share in as many rows."""
    share = nulls / rows
    return min(1.0, share + _SURE * math.sqrt(share * (1 - share) / rows))


def _range(minimum: str, maximum: str, kind: ColumnType) -> dict[str, str]:
    """With room on both sides; numbers that are never negative stay so."""
    low, high = float(minimum), float(maximum)
    room = (high - low) * _ROOM
    if not math.isfinite(room):
        return {"minimum": minimum, "maximum": maximum}
    least = max(low - room, 0.0) if low >= 0 else low - room
    if kind is ColumnType.INT64:
        # From the whole numbers themselves: a double does not have all of them.
        down, up = min(int(room), int(minimum)) if low >= 0 else int(room), int(room)
        return {"minimum": str(max(int(minimum) - down, -(2**63))), "maximum": str(min(int(maximum) + up, 2**63 - 1))}
    return {"minimum": repr(least), "maximum": repr(high + room)}


def _distinct(engine: Engine, name: str) -> int:
    (row,) = _answer(engine, f"SELECT count(DISTINCT {quoted(name)}) AS n FROM t")
    return int(row["n"])


def _values(engine: Engine, name: str) -> list[str]:
    """The values, if each is short and often enough there."""
    column = quoted(name)
    rows = _answer(
        engine, f"SELECT {column} AS v, count(*) AS n FROM t WHERE {column} IS NOT NULL GROUP BY v ORDER BY v"
    )
    fits = all(row["n"] >= _EACH and len(row["v"]) <= 200 for row in rows)
    return [row["v"] for row in rows] if fits and len(rows) <= _FEW else []


def _answer(engine: Engine, sql: str) -> list[Any]:
    return [row for batch in engine.run(sql).batches() for row in batch.to_pylist()]
