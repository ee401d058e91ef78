"""Where recipes, their versions and runs are kept."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, and_, insert, select, text, update
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.cleaning import domain, steps
from services.data.cleaning.domain import RUNNING, Cleaned, Counts, Recipe, RecipeVersion, RecipeView, Run
from services.data.database import schema
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_recipe = scoped(
    "recipe",
    schema.metadata,
    Column("recipe", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("output", String(63), nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_version = scoped(
    "recipe_version",
    schema.metadata,
    Column("recipe", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("steps", JSON, nullable=False),
    Column("learned", JSON, nullable=False),
    Column("learned_from", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)
_COUNTS = tuple(Counts.__dataclass_fields__)
_ACTIVE = text("state = 'running'")
_run = scoped(
    "recipe_run",
    schema.metadata,
    Column("run", String(36), primary_key=True),
    Column("recipe", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("data_set_version", Integer, nullable=False),
    Column("output", String(63), nullable=False),
    Column("output_version", Integer, nullable=False),
    Column("operation", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("report", JSON, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in _COUNTS),
    Column("create_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime),
    Index("recipe_run_state", "state"),
    Index(
        "recipe_run_running", "tenant", "project", "recipe", unique=True,
        sqlite_where=_ACTIVE, postgresql_where=_ACTIVE,
    ),
)  # fmt: skip
_FIELDS = [column.name for column in _recipe.columns if column.name not in Scope._fields]
_REPORT = TypeAdapter(tuple[dict[str, Any], ...])
Respond = Callable[[Run], Message]
# Asked every other second: made once.
_UNFINISHED = select(_run).where(_run.c.state == RUNNING).order_by(_run.c.run)


class RecipeStore:
    """The tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def create(self, scope: Scope, made: RecipeView, once: Once | None) -> RecipeView:
        """Raises already_exists, also for the name of a deleted one."""

        def work(connection: Connection) -> RecipeView:
            if _load(connection, scope, made.recipe.recipe):
                raise AlreadyExists(f"the recipe {made.recipe.recipe} exists already")
            connection.execute(insert(_recipe).values(**scope._asdict(), **asdict(made.recipe)))
            _insert(connection, scope, made)
            return made

        return await self._db.run(work, once)

    async def extend(
        self, scope: Scope, name: str, given: Sequence[steps.Step], now: datetime, once: Once | None
    ) -> RecipeView:
        """Adds a version. Raises not_found."""

        def work(connection: Connection) -> RecipeView:
            after = domain.extended(_existing(connection, scope, name), now)
            _save(connection, scope, after)
            view = RecipeView(after, RecipeVersion(after.latest_version, tuple(given), now))
            _insert(connection, scope, view)
            return view

        return await self._db.run(work, once)

    async def change(self, scope: Scope, name: str, decide: Callable[[Recipe], Recipe]) -> RecipeView:
        """Loads, also a deleted one, decides and saves in one transaction. Raises not_found."""

        def work(connection: Connection) -> RecipeView:
            before = _load(connection, scope, name)
            if before is None:
                raise NotFound(f"there is no recipe {name}")
            after = decide(before)
            _save(connection, scope, after)
            return RecipeView(after, _load_version(connection, scope, name, after.latest_version))

        return await self._db.run(work)

    async def get(self, scope: Scope, name: str, version: int) -> RecipeView:
        """A recipe with a version, the newest for 0. Raises not_found, unknown_version."""

        def work(connection: Connection) -> RecipeView:
            found = _existing(connection, scope, name)
            return RecipeView(found, _load_version(connection, scope, name, version or found.latest_version))

        return await self._db.read(work)

    async def list(self, scope: Scope, page_size: int, page_token: str, deleted: bool) -> Page[RecipeView]:
        """By name, each with its newest version, without what that learned."""
        newest = and_(
            within(_version, scope),
            _version.c.recipe == _recipe.c.recipe,
            _version.c.version == _recipe.c.latest_version,
        )
        names = ("version", "steps", "learned_from", "create_time")
        versions = [_version.c[name].label(f"version_{name}") for name in names]
        query = select(_recipe, *versions).join(_version, newest).where(within(_recipe, scope))
        if not deleted:
            query = query.where(_recipe.c.delete_time.is_(None))
        return await listed(self._db, query, _recipe.c.recipe, _read_view, page_size, page_token)

    async def begin(self, scope: Scope, wanted: Run, once: Once | None, budget: CpuBudget) -> tuple[Run, Operation]:
        """Keeps a run with its operation. Raises not_found, invalid_value; in_progress while another one runs."""

        def work(connection: Connection) -> tuple[Run, Operation]:
            _existing(connection, scope, wanted.recipe)
            here = within(_run, scope) & (_run.c.recipe == wanted.recipe) & (_run.c.state == RUNNING)
            if connection.execute(select(_run.c.run).where(here)).first():
                raise Failure(Code.IN_PROGRESS, f"the recipe {wanted.recipe} is running")
            method, resource = "aimass.v1.Recipes/RunRecipe", f"recipes/{wanted.recipe}"
            operation = schema.operations.create(connection, scope, method, resource)
            metering.begin(connection, scope, operation.operation, "cleaning", budget)
            run = replace(wanted, operation=operation.operation)
            connection.execute(insert(_run).values(**scope._asdict(), **_run_row(run)))
            return run, operation

        return await self._db.run(work, once)

    async def unfinished(self) -> Sequence[tuple[Scope, Run]]:
        """The runs of all tenants that have not ended."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _run_of(row)) for row in rows]

    async def run(self, scope: Scope, recipe: str, name: str) -> Run:
        """Raises not_found, also for a run of another recipe."""

        def work(connection: Connection) -> Run:
            _existing(connection, scope, recipe)
            found = _load_run(connection, scope, name)
            if found is None or found.recipe != recipe:
                raise NotFound(f"there is no run {name} of {recipe}")
            return found

        return await self._db.read(work)

    async def runs(self, scope: Scope, recipe: str, page_size: int, page_token: str) -> Page[Run]:
        """Newest first, without their reports. Raises not_found."""
        await self._db.read(lambda connection: _existing(connection, scope, recipe))
        light = [column for column in _run.columns if column.name != "report"]
        query = select(*light).where(within(_run, scope) & (_run.c.recipe == recipe))
        return await listed(self._db, query, _run.c.run, _run_of, page_size, page_token, newest_first=True)

    def succeed(
        self,
        connection: Connection,
        scope: Scope,
        name: str,
        output_version: int,
        cleaned: Cleaned,
        now: datetime,
        respond: Respond,
    ) -> None:
        """Ends a run and its operation, and keeps what its version of the recipe learned; with the output's version.

        Raises cancelled when it has ended in the meantime.
        """
        before = _load_run(connection, scope, name)
        assert before
        schema.tenure.check(connection, before.operation)
        if before.state != RUNNING:
            raise Failure(Code.CANCELLED, f"the run {name} has ended")
        after = domain.succeeded(before, output_version, cleaned, now)
        _save_run(connection, scope, after)
        version = _load_version(connection, scope, after.recipe, after.version)
        learned = domain.taught(version, cleaned.learned, after.data_set_version)
        here = within(_version, scope) & (_version.c.recipe == after.recipe) & (_version.c.version == after.version)
        values = {"learned": list(learned.learned), "learned_from": learned.learned_from}
        connection.execute(update(_version).where(here).values(values))
        schema.operations.end(connection, scope, after.operation, response=respond(after))

    async def end(self, scope: Scope, name: str, now: datetime, failure: Failure | None) -> None:
        """Ends a run that did not succeed: with a failure, or as cancelled. One that has ended stays as it is."""

        def work(connection: Connection) -> None:
            before = _load_run(connection, scope, name)
            assert before
            schema.tenure.check(connection, before.operation)
            if before.state == RUNNING:
                _save_run(connection, scope, domain.ended(before, failure, now))
                schema.operations.end(connection, scope, before.operation, failure=failure, cancelled=failure is None)

        await self._db.run(work)


def _load(connection: Connection, scope: Scope, name: str) -> Recipe | None:
    row = connection.execute(select(_recipe).where(within(_recipe, scope) & (_recipe.c.recipe == name))).first()
    return _read(row) if row else None


def _existing(connection: Connection, scope: Scope, name: str) -> Recipe:
    found = _load(connection, scope, name)
    if found is None or found.delete_time:
        raise NotFound(f"there is no recipe {name}")
    return found


def _load_version(connection: Connection, scope: Scope, name: str, version: int) -> RecipeVersion:
    here = within(_version, scope) & (_version.c.recipe == name) & (_version.c.version == version)
    row = connection.execute(select(_version).where(here)).first()
    if row is None:
        raise Failure(Code.UNKNOWN_VERSION, f"{name} has no version {version}")
    return _version_of(row.version, row.steps, row.learned, row.learned_from, row.create_time)


def _version_of(version: int, given: Any, learned: Any, learned_from: int, create_time: datetime) -> RecipeVersion:
    found = tuple(steps.from_json(one) for one in given)
    return RecipeVersion(version, found, create_time, _REPORT.validate_python(learned), learned_from)


def _insert(connection: Connection, scope: Scope, view: RecipeView) -> None:
    version = view.version
    values = {"recipe": view.recipe.recipe, "version": version.version, "create_time": version.create_time}
    values |= {"steps": [steps.to_json(step) for step in version.steps], "learned": [], "learned_from": 0}
    connection.execute(insert(_version).values(**scope._asdict(), **values))


def _save(connection: Connection, scope: Scope, after: Recipe) -> None:
    here = within(_recipe, scope) & (_recipe.c.recipe == after.recipe)
    connection.execute(update(_recipe).where(here).values(**asdict(after)))


def _read(row: Row[Any]) -> Recipe:
    return Recipe(**{name: getattr(row, name) for name in _FIELDS})


def _read_view(row: Row[Any]) -> RecipeView:
    version, given, learned_from, create_time = (
        getattr(row, f"version_{name}") for name in ("version", "steps", "learned_from", "create_time")
    )
    return RecipeView(_read(row), _version_of(version, given, (), learned_from, create_time))


def _load_run(connection: Connection, scope: Scope, name: str) -> Run | None:
    row = connection.execute(select(_run).where(within(_run, scope) & (_run.c.run == name))).first()
    return _run_of(row) if row else None


def _run_of(row: Row[Any]) -> Run:
    kept = row._asdict()
    plain = {name: kept[name] for name in Run.__dataclass_fields__ if name not in ("counts", "report")}
    report = _REPORT.validate_python(kept.get("report", ()))
    return Run(**plain, counts=Counts(*(kept[name] for name in _COUNTS)), report=report)


def _run_row(run: Run) -> dict[str, Any]:
    row = {name: getattr(run, name) for name in Run.__dataclass_fields__ if name not in ("counts", "report")}
    return {**row, **vars(run.counts), "report": list(run.report)}


def _save_run(connection: Connection, scope: Scope, run: Run) -> None:
    connection.execute(update(_run).where(within(_run, scope) & (_run.c.run == run.run)).values(_run_row(run)))
