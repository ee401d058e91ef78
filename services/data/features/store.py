"""Where feature sets, their versions and fittings under way are kept."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    String,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.features.domain import FeatureSet, FeatureSetVersion, Fit, Fitted, fitted
from services.data.metering import service as metering
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page
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
_SET, _VERSION, _FIT = TypeAdapter(FeatureSet), TypeAdapter(FeatureSetVersion), TypeAdapter(Fit)
_DIGEST = feature_set_version.c.definition["digest"].as_string()
Change = Callable[[FeatureSet], FeatureSet]
# What goes with a new version, in its transaction; returns what the operation ends with.
Effects = Callable[[Connection, FeatureSet, FeatureSetVersion], Message]
# Asked every other second: made once.
_UNFINISHED = select(feature_set_fit).order_by(feature_set_fit.c.operation)


class Store:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall
        self.sizes = Sizes(db, feature_set_version, _DIGEST)

    async def create(self, scope: Scope, made: FeatureSet, once: Once | None) -> FeatureSet:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> FeatureSet:
            if _find(connection, scope, made.feature_set):
                raise AlreadyExists(f"the feature set {made.feature_set} exists already")
            connection.execute(insert(feature_set).values({**scope._asdict(), **_row(made)}))
            return made

        return await self._db.run(work, once)

    async def get(self, scope: Scope, name: str) -> FeatureSet:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: _get(connection, scope, name))

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[FeatureSet]:
        """By name."""
        query = select(feature_set).where(within(feature_set, scope))
        if not show_deleted:
            query = query.where(feature_set.c.delete_time.is_(None))
        return await listed(self._db, query, feature_set.c.feature_set, _parse, page_size, page_token)

    async def change(self, scope: Scope, name: str, decide: Change) -> FeatureSet:
        """Loads, also a deleted one, decides and saves in one transaction. Raises not_found."""

        def work(connection: Connection) -> FeatureSet:
            after = decide(_get(connection, scope, name, deleted=True))
            _save(connection, scope, after)
            return after

        return await self._db.run(work)

    async def version(self, scope: Scope, name: str, number: int) -> FeatureSetVersion:
        """The newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> FeatureSetVersion:
            wanted = number or _get(connection, scope, name).latest_version
            _get(connection, scope, name)
            here = within(feature_set_version, scope) & (feature_set_version.c.feature_set == name)
            query = select(feature_set_version.c.definition).where(here & (feature_set_version.c.version == wanted))
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
            _get(connection, scope, name)
            method, resource = "aimass.v1.FeatureSets/FitFeatureSet", f"feature-sets/{name}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "fitting", budget)
            row = {
                "operation": operation.operation,
                "definition": _FIT.dump_python(fit(operation.operation), mode="json"),
            }
            connection.execute(insert(feature_set_fit).values({**scope._asdict(), **row}))
            return operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Fit]]:
        """The fittings of all tenants that have not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _FIT.validate_python(row.definition)) for row in rows]

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

        Raises fence_stale when another process does it by now, failed_precondition for a deleted feature set.
        """

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, fit.operation)
            if not connection.execute(delete(feature_set_fit).where(_fit_is(scope, fit.operation))).rowcount:
                return
            after, version = fitted(_get(connection, scope, fit.feature_set, deleted=True), fit, what, now)
            _save(connection, scope, after)
            row = {"feature_set": version.feature_set, "version": version.version, "operation": fit.operation}
            row |= {"definition": _VERSION.dump_python(version, mode="json"), "size": what.size}
            connection.execute(insert(feature_set_version).values(**scope._asdict(), **row))
            schema.operations.end(connection, scope, fit.operation, effects(connection, after, version))

        await self._db.run(work)

    async def give_up(self, scope: Scope, fit: Fit, failure: Failure | None) -> None:
        """Ends a fitting once without a version: with a failure, or as cancelled. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, fit.operation)
            if not connection.execute(delete(feature_set_fit).where(_fit_is(scope, fit.operation))).rowcount:
                return
            schema.operations.end(connection, scope, fit.operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _fit_is(scope: Scope, operation: str) -> ColumnElement[bool]:
    return within(feature_set_fit, scope) & (feature_set_fit.c.operation == operation)


def _is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(feature_set, scope) & (feature_set.c.feature_set == name)


def _find(connection: Connection, scope: Scope, name: str) -> FeatureSet | None:
    row = connection.execute(select(feature_set).where(_is(scope, name))).first()
    return _parse(row) if row else None


def _get(connection: Connection, scope: Scope, name: str, deleted: bool = False) -> FeatureSet:
    found = _find(connection, scope, name)
    if found is None or (found.delete_time and not deleted):
        raise NotFound(f"there is no feature set {name}")
    return found


def _save(connection: Connection, scope: Scope, after: FeatureSet) -> None:
    connection.execute(update(feature_set).where(_is(scope, after.feature_set)).values(_row(after)))


def _row(made: FeatureSet) -> dict[str, Any]:
    times = {name: getattr(made, name) for name in ("create_time", "update_time", "delete_time")}
    return {**_SET.dump_python(made, mode="json"), **times}


def _parse(row: Row[Any]) -> FeatureSet:
    return _SET.validate_python({name: value for name, value in row._mapping.items() if name not in Scope._fields})
