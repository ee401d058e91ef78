"""The child that compares two versions of a data set by a key."""

from collections.abc import Sequence
from typing import Any

from services.data.arrow import fit
from services.data.datasets.rows import MOST_BYTES, size_of, to_rows
from services.data.engine import Engine
from services.data.schema import Column, ColumnType, quoted
from services.kit.child import Child, Json
from services.kit.errors import FailedPrecondition

_SIDES = ("before", "after")


def main(request: Json, child: Child) -> Json:
    """Counts, and the rows `start` to `start + count` of those that differ, by key; fewer when they are large.

    Raises failed_precondition for a key that is not unique or NULL in one of the versions.
    """
    engine = Engine(request["tables"])
    for side in _SIDES:
        _check_key(engine, request, side)
    counts, changed = _count(engine, request)
    rows = _rows(engine, request) if sum(counts.values()) > request["start"] else []
    return {"counts": counts, "changed_columns": changed, "rows": rows}


def _check_key(engine: Engine, request: Json, side: str) -> None:
    key = [quoted(name) for name in request["key"]]
    said = f"the key {', '.join(request['key'])} of {request['data_set']}@{request['versions'][side]}"
    nothing = " OR ".join(f"{name} IS NULL" for name in key)
    if _one(engine, f'SELECT count(*) AS n FROM "{side}" WHERE {nothing}')["n"]:
        raise FailedPrecondition(f"{said} is NULL in a row")
    names = ", ".join(key)
    if _one(engine, f'SELECT count(*) AS n FROM (SELECT {names} FROM "{side}" GROUP BY {names} HAVING count(*) > 1)')[
        "n"
    ]:
        raise FailedPrecondition(f"{said} is not unique")


def _count(engine: Engine, request: Json) -> tuple[dict[str, int], dict[str, int]]:
    """How many rows were added, removed and changed; in how many of these each column differs."""
    first, columns = quoted(request["key"][0]), request["compared"]
    sums = {
        "added": f"before.{first} IS NULL",
        "removed": f"after.{first} IS NULL",
        "changed": f"{_in_both(request)} AND ({_differ(columns)})",
        **{f"c{index}": f"{_in_both(request)} AND {_differ([name])}" for index, name in enumerate(columns)},
    }
    text = ", ".join(f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END) AS {name}" for name, condition in sums.items())
    found = _one(engine, f"SELECT {text} FROM {_joined(request)}")
    counts = {name: int(found[name] or 0) for name in ("added", "removed", "changed")}
    return counts, {name: int(found[f"c{i}"]) for i, name in enumerate(columns) if found[f"c{i}"]}


def _rows(engine: Engine, request: Json) -> list[Json]:
    first, compared = request["key"][0], request["compared"]
    columns = {side: [Column(name, ColumnType(kind)) for name, kind in request[side]] for side in _SIDES}
    chosen = [
        f"{side}.{quoted(column.name)} AS {side[0]}{index}"
        for side in _SIDES
        for index, column in enumerate(columns[side])
    ]
    chosen += [f"{_in_both(request)} AND {_differ([name])} AS c{index}" for index, name in enumerate(compared)]
    order = ", ".join(f"coalesce(before.{quoted(k)}, after.{quoted(k)})" for k in request["key"])
    differs = f"before.{quoted(first)} IS NULL OR after.{quoted(first)} IS NULL OR {_differ(compared)}"
    sql = f"SELECT {', '.join(chosen)} FROM {_joined(request)} WHERE {differs} ORDER BY {order}"
    found, size = list[Json](), 0
    for batch in engine.run(f"{sql} LIMIT {int(request['count'])} OFFSET {int(request['start'])}").batches(1000):
        for row in _told(batch, columns, first, compared):
            size += sum(size_of(row[side]) for side in _SIDES if row[side])
            if found and size > MOST_BYTES:
                return found
            found.append(row)
    return found


def _told(batch: Any, columns: dict[str, list[Column]], first: str, compared: Sequence[str]) -> list[Json]:
    sides = {side: to_rows(_side(batch, side, columns[side]), columns[side]) for side in _SIDES}
    marks = [batch.column(f"c{index}").to_pylist() for index in range(len(compared))]
    told = []
    for index, (before, after) in enumerate(zip(sides["before"], sides["after"], strict=True)):
        kind = "added" if before[first] is None else "removed" if after[first] is None else "changed"
        told.append(
            {
                "kind": kind,
                "before": None if kind == "added" else before,
                "after": None if kind == "removed" else after,
                "columns": [name for name, mark in zip(compared, marks, strict=True) if mark[index]],
            }
        )
    return told


def _side(batch: Any, side: str, columns: Sequence[Column]) -> Any:
    """The rows of one version, with its columns by their names."""
    chosen = batch.select([f"{side[0]}{index}" for index in range(len(columns))])
    return fit(chosen.rename_columns([column.name for column in columns]), columns)


def _joined(request: Json) -> str:
    on = " AND ".join(f"before.{quoted(name)} = after.{quoted(name)}" for name in request["key"])
    return f'"before" FULL OUTER JOIN "after" ON {on}'


def _in_both(request: Json) -> str:
    first = quoted(request["key"][0])
    return f"(before.{first} IS NOT NULL AND after.{first} IS NOT NULL)"


def _differ(columns: Sequence[str]) -> str:
    """True where one of these columns differs; two NULLs do not, nor do two NaNs."""
    each = [f"(before.{quoted(name)} IS DISTINCT FROM after.{quoted(name)})" for name in columns]
    return f"({' OR '.join(each)})" if each else "FALSE"


def _one(engine: Engine, sql: str) -> Json:
    """The only row of an answer."""
    (batch,) = engine.run(sql).batches()
    row: Json = batch.to_pylist()[0]
    return row
