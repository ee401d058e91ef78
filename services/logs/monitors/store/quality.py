"""Predictions and outcomes in the database."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Column, Float, Integer, String, func, insert, select
from sqlalchemy.engine import Connection

from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.errors import Code, Failure, Violation
from services.logs.database import Place as Position
from services.logs.database import followed, note_followed, schema
from services.logs.monitors.domain import Outcome, Pair, Prediction, score_at
from services.logs.monitors.store import rows as kept
from services.logs.monitors.store.rows import predictions, tables
from services.logs.monitors.together import Place, Together

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


class Store:
    """Reads and writes predictions and outcomes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def position(self, name: str) -> Position:
        """The position of a follower."""
        return await self._db.read(lambda connection: followed(connection, name))

    async def keep(
        self,
        name: str,
        place: Position,
        made: Sequence[tuple[Scope, Prediction]],
        now: datetime,
        together: Sequence[tuple[Place, Together]] = (),
    ) -> None:
        """Writes predictions and the position in one transaction; the first prediction of a request stays."""

        def work(connection: Connection) -> None:
            kept.add(connection, made, together, now)
            note_followed(connection, name, place)

        await self._db.run(work)

    async def record(self, scope: Scope, model: str, given: Sequence[Outcome], now: datetime) -> tuple[int, int]:
        """Writes outcomes; returns how many are new and how many were known. Raises conflict, and then writes none."""
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
        """The number of predicted rows by version."""
        found: dict[int, int] = defaultdict(int)

        def work(connection: Connection) -> None:
            found.clear()
            for table in (predictions, tables):
                here = within(table, scope) & (table.c.model == model)
                query = select(table.c.version, func.sum(table.c.rows)).where(here).group_by(table.c.version)
                for version, rows in connection.execute(query):
                    found[version] += int(rows)

        await self._db.read(work)
        return dict(found)

    async def pairs(self, scope: Scope, model: str, most: int) -> Sequence[Pair]:
        """Scores with their outcomes, for the newest `most` outcomes."""
        here = within(outcomes, scope) & (outcomes.c.model == model)
        query = select(outcomes.c.request_id, outcomes.c.row, outcomes.c.value).where(here)
        query = query.order_by(outcomes.c.time.desc()).limit(most)

        def work(connection: Connection) -> Sequence[Pair]:
            by_request = defaultdict[str, list[tuple[int, float]]](list)
            for row in connection.execute(query):
                by_request[row.request_id].append((row.row, row.value))
            return list(_pairs(connection, scope, model, by_request))

        return await self._db.read(work)


def _pairs(
    connection: Connection, scope: Scope, model: str, outcomes: Mapping[str, Sequence[tuple[int, float]]]
) -> Iterator[Pair]:
    """Reads the scores of a request once, however many of its rows have an outcome."""
    for name, version, scores in _found(connection, scope, model, sorted(outcomes)):
        for row, value in outcomes[name]:
            if (score := score_at(scores, row)) is not None:
                yield Pair(version, score, value)


def _found(connection: Connection, scope: Scope, model: str, names: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    here = within(predictions, scope) & (predictions.c.model == model)
    missing = set(names)
    for start in range(0, len(names), _CHUNK):
        some = here & predictions.c.request_id.in_(names[start : start + _CHUNK])
        for one in connection.execute(select(predictions).where(some)):
            missing.discard(one.request_id)
            yield one.request_id, one.version, one.scores
    yield from kept.held(connection, (scope, model), sorted(missing))


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
