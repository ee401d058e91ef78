"""The tables of predictions, of which a row has one or several: writing them, and finding one again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Index, Integer, LargeBinary, String, and_, bindparam, or_, select
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.db import UtcDateTime, scoped
from services.kit.statements import Many
from services.logs.database import schema
from services.logs.monitors.domain import Prediction
from services.logs.monitors.together import Place, Together, earliest, name_of, near, scores_in
from services.logs.search.documents import halves
from services.logs.tables import minute

predictions = scoped(
    "prediction",
    schema.metadata,
    Column("model", String(63), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Index("prediction_version", "tenant", "project", "model", "version"),
)
tables = scoped(
    "prediction_table",
    schema.metadata,
    Column("model", String(63), primary_key=True),
    Column("first", String(36), primary_key=True),
    Column("last", String(36), nullable=False),
    Column("version", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("ids", LargeBinary, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Index("prediction_table_version", "tenant", "project", "model", "version"),
)
_ONE, _SOME = Many(predictions), Many(tables)
_AT_ONCE = 50  # ranges of ids in one statement


def _of_model(table: Any) -> Any:
    return and_(*(table.c[name] == bindparam(name) for name in ("tenant", "project", "model")))


# Rows that overlap a range of ids.
_OVERLAPPING = select(tables.c.ids).where(
    _of_model(tables),
    tables.c.first >= bindparam("least"),
    tables.c.first <= bindparam("high"),
    tables.c.last >= bindparam("low"),
)
_ALONE = select(predictions.c.request_id).where(
    _of_model(predictions), predictions.c.request_id >= bindparam("low"), predictions.c.request_id <= bindparam("high")
)
_HOLDING = select(tables.c.version, tables.c.ids, tables.c.scores).where(
    _of_model(tables),
    or_(
        *(
            and_(
                tables.c.first >= bindparam(f"least{at}"),
                tables.c.first <= bindparam(f"high{at}"),
                tables.c.last >= bindparam(f"low{at}"),
            )
            for at in range(_AT_ONCE)
        )
    ),
)


def add(
    connection: Connection,
    alone: Sequence[tuple[Scope, Prediction]],
    together: Sequence[tuple[Place, Together]],
    now: datetime,
) -> None:
    """Writes predictions; the first one of a request stays."""
    minutes: dict[tuple[Place, int], list[Together]] = defaultdict(list)
    for place, one in together:
        minutes[place, minute(one.ids[0][:6])].append(one)
    for (place, _), some in minutes.items():
        _add_together(connection, place, some, now)
    known = _known(connection, alone)
    new = [(scope, one) for scope, one in alone if (scope, one.model, one.request_id) not in known]
    _ONE.add(connection, [(*scope, *one[:3], one.rows, one.scores, now) for scope, one in new])


def _add_together(connection: Connection, place: Place, some: Sequence[Together], now: datetime) -> None:
    range_ = _place(place) | _range(min(one.ids[0] for one in some), max(one.ids[-1] for one in some))
    known = {UUID(name).bytes for name in connection.execute(_ALONE, range_).scalars() if halves(name)}
    known |= _ids(connection, range_)
    rows = []
    for one in some:
        if (new := one.without(known)).ids:
            known.update(new.ids)
            ends = name_of(new.ids[0]), name_of(new.ids[-1])
            (scope, model), ids = place, b"".join(new.ids)
            rows.append((*scope, model, *ends, new.version, new.rows, ids, new.packed(), now))
    _SOME.add(connection, rows)


def _known(connection: Connection, alone: Sequence[tuple[Scope, Prediction]]) -> set[tuple[Scope, str, str]]:
    """Which of these predictions are in shared rows."""
    minutes: dict[tuple[Place, int], list[bytes]] = defaultdict(list)
    for scope, one in alone:
        if halves(one.request_id):
            minutes[(scope, one.model), minute((named := UUID(one.request_id).bytes)[:6])].append(named)
    found = set[tuple[Scope, str, str]]()
    for (place, _), some in minutes.items():
        ids = _ids(connection, _place(place) | _range(min(some), max(some)))
        found.update((*place, name_of(one)) for one in some if one in ids)
    return found


def _ids(connection: Connection, range_: dict[str, str]) -> set[bytes]:
    found = connection.execute(_OVERLAPPING, range_).scalars()
    return {ids[at : at + 16] for ids in found for at in range(0, len(ids), 16)}


def _range(low: bytes, high: bytes) -> dict[str, str]:
    """Parameters for rows that overlap a range of ids: a row's first id is at most a second before the range."""
    return {"least": earliest(low), "low": name_of(low), "high": name_of(high)}


def _place(place: Place) -> dict[str, str]:
    (tenant, project), model = place
    return {"tenant": tenant, "project": project, "model": model}


def held(connection: Connection, place: Place, names: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    """Ids, versions and scores of those requests that are in shared rows."""
    wanted = list(near(sorted(UUID(name).bytes for name in names if halves(name))))
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        asked = _place(place)
        for at in range(_AT_ONCE):  # repeats the last one, so that the statement is always the same
            ids = some[min(at, len(some) - 1)]
            asked |= {f"{name}{at}": value for name, value in _range(ids[0], ids[-1]).items()}
        here = {one for ids in some for one in ids}
        for version, known, scores in connection.execute(_HOLDING, asked):
            yield from ((name_of(one), version, its) for one, its in scores_in(known, scores, here))
