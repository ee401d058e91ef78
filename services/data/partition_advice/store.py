"""Where advice under way is kept, and what is remembered of queries."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime

import orjson
from pydantic import TypeAdapter
from sqlalchemy import JSON, BigInteger, Column, Float, String, delete, insert, select
from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.data.partition_advice.domain import Advising
from services.data.partition_advice.history import Asked, Counts, Shape, folded
from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.open_work import Names, OpenWork

partition_advice = scoped(
    "partition_advice",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
# A row is a shape of queries of a data set; no value of one is in it.
query_history = scoped(
    "query_history",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("shape", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("weight", Float, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    *[Column(name, Float if name == "columns" else BigInteger, nullable=False) for name in Counts.__dataclass_fields__],
)
_NAMES, _SHAPE = Names("Partitions/AdvisePartitions", "data-sets", "advice"), TypeAdapter(Shape)
IsThere = Callable[[Connection, Scope, str], bool]


class AdviceStore(OpenWork[Advising, CpuBudget]):
    """The table of advice under way."""

    def __init__(self, db: Database) -> None:
        super().__init__(schema, db, partition_advice, Advising, _NAMES, metering.counting("discovery"))


class HistoryStore:
    """The table of what was asked."""

    def __init__(self, db: Database, is_there: IsThere) -> None:
        """`is_there` says whether a data set is there and not deleted."""
        self._db, self._is_there = db, is_there

    async def fold(self, scope: Scope, new: Mapping[str, Mapping[Shape, Counts]], now: datetime) -> None:
        """Adds queries by data set; nothing of a data set that is not there."""

        def work(connection: Connection) -> None:
            for data_set, shapes in sorted(new.items()):
                if self._is_there(connection, scope, data_set):
                    rows = folded(_asked(connection, scope, data_set), shapes, now)
                    self.forget(connection, scope, data_set)
                    connection.execute(insert(query_history), [_row(scope, data_set, asked) for asked in rows])

        await self._db.run(work)

    async def asked(self, scope: Scope, data_set: str) -> list[Asked]:
        """What was asked of a data set."""
        return await self._db.read(lambda connection: _asked(connection, scope, data_set))

    def forget(self, connection: Connection, scope: Scope, data_set: str) -> None:
        """Forgets what was asked of a data set."""
        here = within(query_history, scope) & (query_history.c.data_set == data_set)
        connection.execute(delete(query_history).where(here))


def _asked(connection: Connection, scope: Scope, data_set: str) -> list[Asked]:
    here = within(query_history, scope) & (query_history.c.data_set == data_set)
    rows = connection.execute(select(query_history).where(here).order_by(query_history.c.shape)).all()
    return [
        Asked(
            _SHAPE.validate_python(row.definition),
            Counts(*[getattr(row, name) for name in Counts.__dataclass_fields__]),
            row.weight,
            row.time,
        )
        for row in rows
    ]


def _row(scope: Scope, data_set: str, asked: Asked) -> dict[str, object]:
    shape = _SHAPE.dump_python(asked.shape, mode="json")
    name = hashlib.sha256(orjson.dumps(shape)).hexdigest()
    kept = {"definition": shape, "weight": asked.weight, "time": asked.time, **asdict(asked.counts)}
    return {**scope._asdict(), "data_set": data_set, "shape": name, **kept}
