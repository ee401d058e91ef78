"""Where feature views, their versions and materialisations under way are kept."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.datasets.following import Followed
from services.data.feature_views.domain import Coverage, FeatureView, Progress, Run, ViewVersion, extended, materialised
from services.data.feature_views.places import Place, Standing, Step
from services.data.feature_views.store.definitions import feature_view, run, version
from services.data.feature_views.wire import microseconds_of
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, within
from services.kit.definitions import Definitions
from services.kit.errors import Code, Failure
from services.kit.open_work import Names, OpenWork

_VERSION, _PROGRESS = TypeAdapter(ViewVersion), TypeAdapter(Progress)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COVERAGE = tuple(Coverage.__dataclass_fields__)
_NAMES = Names("FeatureViews/MaterialiseFeatureView", "feature-views", "materialisation")
_SAME = [version.c[name] == feature_view.c[name] for name in ("tenant", "project", "feature_view")]
_HERE = feature_view.c.delete_time.is_(None)
# Asked every few seconds, of all tenants: without definitions.
_STANDING = [
    *(version.c[name] for name in ("tenant", "project", "feature_view", "version", "stamp", "materialise_time")),
    feature_view.c.serving_version,
]
Respond = Callable[[Run, Progress], Message]


class Store(Definitions[FeatureView]):
    """The tables."""

    def __init__(self, db: Database) -> None:
        super().__init__(db, feature_view, vars, lambda row: FeatureView(**row))
        self.runs = OpenWork(schema, db, run, Run, _NAMES, metering.counting("pipeline"))

    async def begin_with(self, scope: Scope, made: FeatureView, first: ViewVersion, once: Once | None) -> FeatureView:
        """Keeps a view with its first version. Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> FeatureView:
            self.add(connection, scope, made)
            _add(connection, scope, first)
            return made

        return await self._db.run(work, once)

    async def extend(
        self, scope: Scope, name: str, make: Callable[[FeatureView], ViewVersion], now: datetime, once: Once | None
    ) -> ViewVersion:
        """Adds the version that `make` makes of the view with one more. Raises not_found."""

        def work(connection: Connection) -> ViewVersion:
            after = extended(self.existing(connection, scope, name), now)
            self.save(connection, scope, after)
            made = make(after)
            _add(connection, scope, made)
            return made

        return await self._db.run(work, once)

    async def version(
        self, scope: Scope, name: str, choose: Callable[[FeatureView], int], deleted: bool = False
    ) -> tuple[FeatureView, ViewVersion]:
        """A view and the version that `choose` says. Raises not_found, unknown_version, and what `choose` does."""

        def work(connection: Connection) -> tuple[FeatureView, ViewVersion]:
            found = self.existing(connection, scope, name, deleted=deleted)
            return found, _version(connection, scope, name, choose(found))

        return await self._db.read(work)

    async def serving(self) -> Sequence[Followed]:
        """What the views of all tenants have of their data sets, of the versions that are read."""
        query = select(version).where(*_SAME, version.c.version == feature_view.c.serving_version, _HERE)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [
            Followed(Scope(one.tenant, one.project), one.definition["definition"]["data_set"], one.data_set_version)
            for one in rows
            if one.data_set_version
        ]

    async def standing(self) -> Sequence[Standing]:
        """The places of all tenants that have rows, without those of deleted views."""
        query = select(*_STANDING).where(*_SAME, version.c.stamp > 0, _HERE)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        running = {Place(scope, one.feature_view, one.version) for scope, one in await self.runs.unfinished()}
        places = [Place(Scope(one.tenant, one.project), one.feature_view, one.version) for one in rows]
        return [
            Standing(
                place, one.stamp, one.materialise_time is not None, one.version == one.serving_version, place in running
            )
            for place, one in zip(places, rows, strict=True)
        ]

    def is_running(self, connection: Connection, place: Place) -> bool:
        """Whether a place is being materialised."""
        here = select(run.c.definition).where(within(run, place.scope))
        runs = connection.execute(here).scalars()
        return any((one["feature_view"], one["version"]) == place[1:] for one in runs)

    async def begin(
        self, scope: Scope, make: Callable[[str], Run], name: str, once: Once | None, budget: CpuBudget
    ) -> Operation:
        """Keeps a materialisation and its operation, which is returned. Raises not_found, invalid_value."""

        def work(connection: Connection) -> Operation:
            self.existing(connection, scope, name)
            progress = _PROGRESS.dump_python(Progress(), mode="json")
            return self.runs.add(connection, scope, name, make, budget, progress=progress)

        return await self._db.run(work, once)

    async def progress(self, scope: Scope, operation: str) -> Progress:
        """How far a run is. Raises cancelled for one that has ended."""
        return await self._db.read(lambda connection: self._progress(connection, scope, operation))

    def advance(self, connection: Connection, place: Place, operation: str, after: Progress, now: datetime) -> Step:
        """Says how far a run is, in the transaction that stores its rows. Raises fence_stale, cancelled."""
        schema.tenure.check(connection, operation)
        values = {"progress": _PROGRESS.dump_python(after, mode="json")}
        if not connection.execute(update(run).where(self.runs.here(place.scope, operation)).values(values)).rowcount:
            raise Failure(Code.CANCELLED, "the materialisation has ended")
        here = _version_is(*place)
        before = int(connection.execute(select(version.c.stamp).where(here)).scalar_one())
        step = Step(before, max(before + 1, microseconds_of(now)))
        connection.execute(update(version).where(here).values(stamp=step.after))
        return step

    async def finish(self, scope: Scope, done: Run, now: datetime, respond: Respond) -> None:
        """Ends a run once: what it covers and the end of its operation in one transaction. Raises fence_stale."""

        def work(connection: Connection) -> None:
            progress = self._progress(connection, scope, done.operation)
            self.runs.take(connection, scope, done.operation)
            view = self.existing(connection, scope, done.feature_view, deleted=True)
            found = _version(connection, scope, done.feature_view, done.version)
            after, coverage = materialised(view, found, done, progress, _EPOCH, now)
            self.save(connection, scope, after)
            here = _version_is(scope, done.feature_view, done.version)
            connection.execute(update(version).where(here).values(vars(coverage)))
            schema.operations.end(connection, scope, done.operation, respond(done, progress))

        await self._db.run(work)

    def _progress(self, connection: Connection, scope: Scope, operation: str) -> Progress:
        found = connection.execute(select(run.c.progress).where(self.runs.here(scope, operation))).scalar()
        if found is None:
            raise Failure(Code.CANCELLED, "the materialisation has ended")
        return _PROGRESS.validate_python(found)


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
