"""Where models and versions are kept."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row

from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.listing import listed
from services.kit.pages import Page
from services.kit.statements import Claim, one
from services.registry.database import schema
from services.registry.models.domain import Contents, File, Model, Stage, Version, must_be_new

_model = scoped(
    "model",
    schema.metadata,
    Column("model", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
_version = scoped(
    "version",
    schema.metadata,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("stage", String(16), nullable=False),
    Column("wanted", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("files", JSON, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("card", Text, nullable=False),
    Column("run", String(36), nullable=False),
    # NULL for an upload: one version per job, however often its end is told.
    Column("job", String(36)),
    Column("feature_set", String(100), nullable=False),
    Column("data_set", String(100), nullable=False),
    Column("serving", JSON, nullable=False, server_default="{}"),
    Column("labels", JSON, nullable=False, server_default="{}"),
    Column("create_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
    UniqueConstraint("tenant", "project", "job", name="version_job"),
)
_ONE_MODEL, _VERSIONS, _NEW_MODEL = one(_model, "model"), one(_version, "model"), Claim(_model)
Tell = Callable[[Sequence[Version]], list[Event]]


class Store:
    """Models and versions. One method, one transaction; `tell` makes the events of versions that changed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.recall = db.recall

    async def add_model(self, scope: Scope, model: Model, once: Once | None) -> Model:
        """Saves a new model. Raises already_exists."""

        def work(connection: Connection) -> Model:
            if not _NEW_MODEL.first(connection, scope._asdict() | asdict(model)):
                must_be_new(_load(connection, scope, model.model) or model, model.model)
            return model

        return await self._db.write(work, once)

    async def change_model(
        self, scope: Scope, name: str, decide: Callable[[Model | None, list[Version]], Model]
    ) -> Model:
        """Loads a model and its versions, decides, saves the model."""

        def work(connection: Connection) -> Model:
            before = _load(connection, scope, name)
            after = decide(before, _versions(connection, scope, name))
            _save_model(connection, scope, before, after)
            return after

        return await self._db.run(work)

    async def add_version(
        self,
        scope: Scope,
        name: str,
        decide: Callable[[Model | None], tuple[Model, Version]],
        tell: Tell,
        once: Once | None,
    ) -> Version:
        """Loads a model, decides, saves it with its new version. A job that has a version gets that one again."""

        def work(connection: Connection) -> Version:
            before = _load(connection, scope, name)
            after, version = decide(before)
            if version.contents.job and (there := _of_job(connection, scope, version.contents.job)):
                return there
            _save_model(connection, scope, before, after)
            connection.execute(insert(_version).values(**scope._asdict(), **_version_row(version)))
            schema.outbox.add(connection, tell([version]))
            return version

        return await self._db.run(work, once)

    async def change_versions(
        self,
        scope: Scope,
        name: str,
        decide: Callable[[Model | None, list[Version]], list[Version]],
        tell: Tell,
    ) -> list[Version]:
        """Loads a model and its versions, decides, saves those that `decide` returns."""

        def work(connection: Connection) -> list[Version]:
            before = _versions(connection, scope, name)
            changed = decide(_load(connection, scope, name), before)
            for version in changed:
                here = within(_version, scope) & (_version.c.model == name) & (_version.c.version == version.version)
                row = _version_row(version)
                values = {key: row[key] for key in ("stage", "wanted", "generation", "delete_time")}
                connection.execute(update(_version).where(here).values(values))
            generations = {version.version: version.generation for version in before}
            published = [version for version in changed if generations[version.version] != version.generation]
            schema.outbox.add(connection, tell(published))
            return changed

        return await self._db.run(work)

    async def model(self, scope: Scope, name: str) -> Model | None:
        return await self._db.read(lambda connection: _load(connection, scope, name))

    async def version(self, scope: Scope, name: str, number: int) -> Version | None:
        here = within(_version, scope) & (_version.c.model == name) & (_version.c.version == number)
        row = await self._db.read(lambda connection: connection.execute(select(_version).where(here)).first())
        return _to_version(row) if row else None

    async def models(self, scope: Scope, page_size: int, page_token: str, deleted: bool) -> Page[Model]:
        """By name."""
        query = select(_model).where(within(_model, scope))
        if not deleted:
            query = query.where(_model.c.delete_time.is_(None))
        return await listed(self._db, query, _model.c.model, _to_model, page_size, page_token)

    async def versions(self, scope: Scope, name: str, page_size: int, page_token: str, deleted: bool) -> Page[Version]:
        """Newest first."""
        query = select(_version).where(within(_version, scope) & (_version.c.model == name))
        if not deleted:
            query = query.where(_version.c.stage != Stage.DELETED.value)
        return await listed(self._db, query, _version.c.version, _to_version, page_size, page_token, newest_first=True)

    async def wanted(self) -> list[tuple[Scope, str]]:
        """Models with a wanted version, in all tenants: what a start settles."""
        query = select(_version.c.tenant, _version.c.project, _version.c.model).where(_version.c.wanted).distinct()
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(Scope(row.tenant, row.project), row.model) for row in rows]


def _load(connection: Connection, scope: Scope, name: str) -> Model | None:
    row = connection.execute(_ONE_MODEL, {**scope._asdict(), "model": name}).first()
    return _to_model(row) if row else None


def _versions(connection: Connection, scope: Scope, name: str) -> list[Version]:
    return [_to_version(row) for row in connection.execute(_VERSIONS, {**scope._asdict(), "model": name})]


def _of_job(connection: Connection, scope: Scope, job: str) -> Version | None:
    row = connection.execute(select(_version).where(within(_version, scope) & (_version.c.job == job))).first()
    return _to_version(row) if row else None


def _save_model(connection: Connection, scope: Scope, before: Model | None, after: Model) -> None:
    if before is None:
        connection.execute(insert(_model), scope._asdict() | asdict(after))
    elif after != before:
        here = within(_model, scope) & (_model.c.model == after.model)
        connection.execute(update(_model).where(here).values(asdict(after)))


def _columns(table: Table, row: Row[Any], kind: type[Any]) -> dict[str, Any]:
    return {field.name: row._mapping[field.name] for field in fields(kind) if field.name in table.c}


def _to_model(row: Row[Any]) -> Model:
    return Model(**_columns(_model, row, Model))


def _to_version(row: Row[Any]) -> Version:
    made_of = _columns(_version, row, Contents)
    made_of |= {"files": tuple(File(**file) for file in row.files), "job": row.job or ""}
    found = _columns(_version, row, Version) | {"contents": Contents(**made_of), "stage": Stage(row.stage)}
    return Version(**found)


def _version_row(version: Version) -> dict[str, Any]:
    row = asdict(version)
    row |= row.pop("contents")
    row["files"] = [dict(file) for file in row["files"]]
    return row | {"stage": version.stage.value, "job": version.contents.job or None}
