"""Predictions and outcomes in tables: a row for a request, a row for an outcome."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, String, func, insert, select
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.errors import Code, Failure, Violation
from services.kit.statements import Many
from services.logs.database import Place, followed, note_followed, schema
from services.logs.monitors.domain import Outcome, Pair, Prediction, score_at

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
outcomes = scoped(
    "outcome",
    schema.metadata,
    Column("model", String(63), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("value", Float, nullable=False),
    Column("time", UtcDateTime, nullable=False),
)
_CHUNK = 500  # request ids in one statement
_NEW = Many(predictions)


class Store:
    """The only SQL of monitors."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def position(self, name: str) -> Place:
        """Up to where a follower has come."""
        return await self._db.read(lambda connection: followed(connection, name))

    async def keep(self, name: str, place: Place, made: Sequence[tuple[Scope, Prediction]], now: datetime) -> None:
        """Writes predictions and the place in one transaction; of a request that is known the first one stays."""

        def work(connection: Connection) -> None:
            _NEW.add(connection, [(*scope, *one[:3], one.rows, one.scores, now) for scope, one in made])
            note_followed(connection, name, place)

        await self._db.run(work)

    async def record(self, scope: Scope, model: str, given: Sequence[Outcome], now: datetime) -> tuple[int, int]:
        """How many outcomes are new and how many were known. Raises conflict, and then records none."""
        wanted: dict[tuple[str, int], float] = {}
        for one in given:
            if wanted.setdefault((one.request_id, one.row), one.value) != one.value:
                raise _conflict(one.request_id, one.row)

        def work(connection: Connection) -> int:
            known = dict(_known(connection, scope, model, sorted({name for name, _ in wanted})))
            for place, value in wanted.items():
                if known.get(place, value) != value:
                    raise _conflict(*place)
            new = [
                {**scope._asdict(), "model": model, "request_id": name, "row": row, "value": value, "time": now}
                for (name, row), value in wanted.items()
                if (name, row) not in known
            ]
            if new:
                connection.execute(insert(outcomes), new)
            return len(new)

        recorded = await self._db.run(work)
        return recorded, len(given) - recorded

    async def counts(self, scope: Scope, model: str) -> dict[int, int]:
        """Rows that were predicted, by version."""
        here = within(predictions, scope) & (predictions.c.model == model)
        query = select(predictions.c.version, func.sum(predictions.c.rows)).where(here).group_by(predictions.c.version)
        return {row[0]: int(row[1]) for row in await self._db.read(lambda connection: connection.execute(query).all())}

    async def pairs(self, scope: Scope, model: str, most: int) -> Sequence[Pair]:
        """Scores with their outcomes: the `most` that were told last."""
        here = within(outcomes, scope) & (outcomes.c.model == model)
        columns = (outcomes.c.request_id, outcomes.c.row, outcomes.c.value)
        query = select(*columns).where(here).order_by(outcomes.c.time.desc()).limit(most)

        def work(connection: Connection) -> Sequence[Pair]:
            told = defaultdict[str, list[tuple[int, float]]](list)
            for row in connection.execute(query):
                told[row.request_id].append((row.row, row.value))
            return list(_pairs(connection, scope, model, told))

        return await self._db.read(work)


def _pairs(
    connection: Connection, scope: Scope, model: str, told: Mapping[str, Sequence[tuple[int, float]]]
) -> Iterator[Pair]:
    """The scores of a request are read once, however many of its rows have an outcome."""
    names = sorted(told)
    for start in range(0, len(names), _CHUNK):
        here = within(predictions, scope) & (predictions.c.model == model)
        here &= predictions.c.request_id.in_(names[start : start + _CHUNK])
        for found in connection.execute(select(predictions).where(here)):
            for row, value in told[found.request_id]:
                if (score := score_at(found.scores, row)) is not None:
                    yield Pair(found.version, score, value)


def _known(
    connection: Connection, scope: Scope, model: str, names: Sequence[str]
) -> Iterator[tuple[tuple[str, int], float]]:
    for start in range(0, len(names), _CHUNK):
        here = within(outcomes, scope) & (outcomes.c.model == model)
        here &= outcomes.c.request_id.in_(names[start : start + _CHUNK])
        for row in connection.execute(select(outcomes).where(here)):
            yield (row.request_id, row.row), row.value


def _conflict(request_id: str, row: int) -> Failure:
    rule = "differs from what was recorded"
    return Failure(
        Code.CONFLICT, f"row {row} of request {request_id} has another outcome", [Violation("/outcomes", rule)]
    )
