"""Where feature views, their versions and materialisations under way are kept."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.feature_views.domain import Coverage, FeatureView, Progress, Run, ViewVersion, extended, materialised
from services.data.feature_views.store.definitions import feature_view, run, version
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_VERSION, _RUN, _PROGRESS = TypeAdapter(ViewVersion), TypeAdapter(Run), TypeAdapter(Progress)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COVERAGE = tuple(Coverage.__dataclass_fields__)
# Asked every other second: made once.
_UNFINISHED = select(run).order_by(run.c.operation)
Respond = Callable[[Run, Progress], Message]


class Store:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def create(self, scope: Scope, made: FeatureView, first: ViewVersion, once: Once | None) -> FeatureView:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> FeatureView:
            if _find(connection, scope, made.feature_view):
                raise AlreadyExists(f"the feature view {made.feature_view} exists already")
            connection.execute(insert(feature_view).values({**scope._asdict(), **vars(made)}))
            _add(connection, scope, first)
            return made

        return await self._db.run(work, once)

    async def extend(
        self, scope: Scope, name: str, make: Callable[[FeatureView], ViewVersion], now: datetime, once: Once | None
    ) -> ViewVersion:
        """Adds the version that `make` makes of the view with one more. Raises not_found."""

        def work(connection: Connection) -> ViewVersion:
            after = extended(_get(connection, scope, name), now)
            _save(connection, scope, after)
            made = make(after)
            _add(connection, scope, made)
            return made

        return await self._db.run(work, once)

    async def get(self, scope: Scope, name: str) -> FeatureView:
        """Raises not_found, also for a deleted one."""
        return await self._db.read(lambda connection: _get(connection, scope, name))

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[FeatureView]:
        """By name."""
        query = select(feature_view).where(within(feature_view, scope))
        if not show_deleted:
            query = query.where(feature_view.c.delete_time.is_(None))
        return await listed(self._db, query, feature_view.c.feature_view, _view, page_size, page_token)

    async def change(self, scope: Scope, name: str, decide: Callable[[FeatureView], FeatureView]) -> FeatureView:
        """Loads, also a deleted one, decides and saves in one transaction. Raises not_found."""

        def work(connection: Connection) -> FeatureView:
            after = decide(_get(connection, scope, name, deleted=True))
            _save(connection, scope, after)
            return after

        return await self._db.run(work)

    async def version(
        self, scope: Scope, name: str, choose: Callable[[FeatureView], int]
    ) -> tuple[FeatureView, ViewVersion]:
        """A view and the version that `choose` says. Raises not_found, unknown_version, and what `choose` does."""

        def work(connection: Connection) -> tuple[FeatureView, ViewVersion]:
            found = _get(connection, scope, name)
            return found, _version(connection, scope, name, choose(found))

        return await self._db.read(work)

    async def serving(self) -> Sequence[tuple[Scope, str, int]]:
        """The views of all tenants of which a version is read, with its number."""
        here = feature_view.c.serving_version > 0, feature_view.c.delete_time.is_(None)
        rows = await self._db.read(lambda connection: connection.execute(select(feature_view).where(*here)).all())
        return [(Scope(one.tenant, one.project), one.feature_view, one.serving_version) for one in rows]

    async def begin(
        self, scope: Scope, make: Callable[[str], Run], name: str, once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Keeps a materialisation and its operation, which is returned. Raises not_found, invalid_value."""

        def work(connection: Connection) -> Operation:
            _get(connection, scope, name)
            method, resource = "aimass.v1.FeatureViews/MaterialiseFeatureView", f"feature-views/{name}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "pipeline", budget)
            kept = {
                "operation": operation.operation,
                "definition": _RUN.dump_python(make(operation.operation), mode="json"),
                "progress": _PROGRESS.dump_python(Progress(), mode="json"),
            }
            connection.execute(insert(run).values({**scope._asdict(), **kept}))
            return operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Run]]:
        """The materialisations of all tenants that have not ended, oldest first."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(each.tenant, each.project), _RUN.validate_python(each.definition)) for each in rows]

    async def progress(self, scope: Scope, operation: str) -> Progress:
        """How far a run is. Raises cancelled for one that has ended."""
        return await self._db.read(lambda connection: _progress(connection, scope, operation))

    def advance(self, connection: Connection, scope: Scope, operation: str, after: Progress) -> None:
        """Says how far a run is, in the transaction that stores its rows. Raises fence_stale, cancelled."""
        schema.tenure.check(connection, operation)
        values = {"progress": _PROGRESS.dump_python(after, mode="json")}
        if not connection.execute(update(run).where(_run_is(scope, operation)).values(values)).rowcount:
            raise Failure(Code.CANCELLED, "the materialisation has ended")

    async def finish(self, scope: Scope, done: Run, now: datetime, respond: Respond) -> None:
        """Ends a run once: what it covers and the end of its operation in one transaction. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, done.operation)
            progress = _progress(connection, scope, done.operation)
            connection.execute(delete(run).where(_run_is(scope, done.operation)))
            view = _get(connection, scope, done.feature_view, deleted=True)
            found = _version(connection, scope, done.feature_view, done.version)
            after, coverage = materialised(view, found, done, progress, _EPOCH, now)
            _save(connection, scope, after)
            here = _version_is(scope, done.feature_view, done.version)
            connection.execute(update(version).where(here).values(vars(coverage)))
            schema.operations.end(connection, scope, done.operation, respond(done, progress))

        await self._db.run(work)

    async def give_up(self, scope: Scope, done: Run, failure: Failure | None) -> None:
        """Ends a run once: with a failure, or as cancelled. What it has written stays. Raises fence_stale."""

        def work(connection: Connection) -> None:
            schema.tenure.check(connection, done.operation)
            if connection.execute(delete(run).where(_run_is(scope, done.operation))).rowcount:
                schema.operations.end(connection, scope, done.operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _add(connection: Connection, scope: Scope, made: ViewVersion) -> None:
    values = {"feature_view": made.feature_view, "version": made.version, "create_time": made.create_time}
    values |= {"definition": _VERSION.dump_python(made, mode="json", exclude={"coverage"}), **vars(made.coverage)}
    connection.execute(insert(version).values({**scope._asdict(), **values}))


def _version_is(scope: Scope, name: str, number: int) -> ColumnElement[bool]:
    return within(version, scope) & (version.c.feature_view == name) & (version.c.version == number)


def _version(connection: Connection, scope: Scope, name: str, number: int) -> ViewVersion:
    found = connection.execute(select(version).where(_version_is(scope, name, number))).first()
    if found is None:
        raise Failure(Code.UNKNOWN_VERSION, f"{name} has no version {number}")
    coverage = Coverage(*(getattr(found, part) for part in _COVERAGE))
    return _VERSION.validate_python({**found.definition, "coverage": coverage})


def _run_is(scope: Scope, operation: str) -> ColumnElement[bool]:
    return within(run, scope) & (run.c.operation == operation)


def _progress(connection: Connection, scope: Scope, operation: str) -> Progress:
    found = connection.execute(select(run.c.progress).where(_run_is(scope, operation))).scalar()
    if found is None:
        raise Failure(Code.CANCELLED, "the materialisation has ended")
    return _PROGRESS.validate_python(found)


def _is(scope: Scope, name: str) -> ColumnElement[bool]:
    return within(feature_view, scope) & (feature_view.c.feature_view == name)


def _find(connection: Connection, scope: Scope, name: str) -> FeatureView | None:
    found = connection.execute(select(feature_view).where(_is(scope, name))).first()
    return _view(found) if found else None


def _get(connection: Connection, scope: Scope, name: str, deleted: bool = False) -> FeatureView:
    found = _find(connection, scope, name)
    if found is None or (found.delete_time and not deleted):
        raise NotFound(f"there is no feature view {name}")
    return found


def _save(connection: Connection, scope: Scope, after: FeatureView) -> None:
    connection.execute(update(feature_view).where(_is(scope, after.feature_view)).values(vars(after)))


def _view(found: Row[Any]) -> FeatureView:
    return FeatureView(**{name: value for name, value in found._mapping.items() if name not in Scope._fields})
