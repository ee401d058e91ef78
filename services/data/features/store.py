"""Where feature sets, their versions and fittings under way are kept."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    String,
    func,
    insert,
    select,
)
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.features.domain import FeatureSet, FeatureSetVersion, Fit, Fitted, fitted
from services.data.metering import service as metering
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.definitions import Definitions
from services.kit.errors import Code, Failure
from services.kit.open_work import Names, OpenWork
from services.kit.sizes import Sizes

feature_set = scoped(
    "feature_set",
    schema.metadata,
    Column("feature_set", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("label", String(128), nullable=False),
    Column("key", String(128), nullable=False),
    Column("steps", JSON, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
feature_set_version = scoped(
    "feature_set_version",
    schema.metadata,
    Column("feature_set", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("operation", String(64), nullable=False),
    Column("definition", JSON, nullable=False),
    # Bytes of the graph; what was fitted before there were sizes has none until it is asked for.
    Column("size", BigInteger),
    Index("feature_set_version_operation", "operation", unique=True),
)
# A row is a fitting that has not ended.
feature_set_fit = scoped(
    "feature_set_fit",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_SET, _VERSION = TypeAdapter(FeatureSet), TypeAdapter(FeatureSetVersion)
_DIGEST = feature_set_version.c.definition["digest"].as_string()
_NAMES = Names("FeatureSets/FitFeatureSet", "feature-sets", "fitting")
# What goes with a new version, in its transaction; returns what the operation ends with.
Effects = Callable[[Connection, FeatureSet, FeatureSetVersion], Message]


class Store(Definitions[FeatureSet]):
    """The tables."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, feature_set, _row, _SET.validate_python)
        self.fittings = OpenWork(schema, db, feature_set_fit, Fit, _NAMES, metering.counting("fitting"))
        self.sizes = Sizes(db, feature_set_version, _DIGEST)

    async def version(self, scope: Scope, name: str, number: int) -> FeatureSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> FeatureSetVersion:
            latest = self.existing(connection, scope, name).latest_version
            here = within(feature_set_version, scope) & (feature_set_version.c.feature_set == name)
            query = select(feature_set_version.c.definition).where(
                here & (feature_set_version.c.version == (number or latest))
            )
            found = connection.execute(query).scalar()
            if found is None:
                text = f"{name} has no version {number}" if number else f"{name} has not been fitted"
                raise Failure(Code.UNKNOWN_VERSION, text)
            return _VERSION.validate_python(found)

        return await self._db.read(work)

    async def begin(
        self, scope: Scope, fit: Callable[[str], Fit], name: str, once: Once | None, budget: CpuBudget = DEFAULT_BUDGET
    ) -> Operation:
        """Keeps a fitting and its operation, which is returned. Raises not_found, invalid_value."""

        def work(connection: Connection) -> Operation:
            self.existing(connection, scope, name)
            return self.fittings.add(connection, scope, name, fit, budget)

        return await self._db.run(work, once)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of the graphs of each project of all tenants, those of deleted feature sets as well; each once."""
        of, which = feature_set_version.c, ("tenant", "project")
        graphs = select(of.tenant, of.project, _DIGEST.label("digest"), of.size).subquery().c
        where = [graphs[name] for name in which]
        each = select(*where, func.max(graphs.size).label("size")).group_by(*where, graphs.digest).subquery().c
        query = select(each.tenant, each.project, func.sum(each.size)).group_by(each.tenant, each.project)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size or 0) for tenant, project, size in rows}

    async def finish(self, scope: Scope, fit: Fit, what: Fitted, now: datetime, effects: Effects) -> None:
        """Ends a fitting once: version, effects and the end of its operation in one transaction.

        Raises fence_stale when another process does it by now, cancelled when it has ended in the meantime,
        failed_precondition for a deleted feature set.
        """

        def work(connection: Connection) -> None:
            self.fittings.take(connection, scope, fit.operation)
            after, version = fitted(self.existing(connection, scope, fit.feature_set, deleted=True), fit, what, now)
            self.save(connection, scope, after)
            row = {"feature_set": version.feature_set, "version": version.version, "operation": fit.operation}
            row |= {"definition": _VERSION.dump_python(version, mode="json"), "size": what.size}
            connection.execute(insert(feature_set_version).values(**scope._asdict(), **row))
            schema.operations.end(connection, scope, fit.operation, effects(connection, after, version))

        await self._db.run(work)


def _row(made: FeatureSet) -> dict[str, Any]:
    times = {name: getattr(made, name) for name in ("create_time", "update_time", "delete_time")}
    return {**_SET.dump_python(made, mode="json"), **times}
