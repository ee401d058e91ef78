"""The use cases of models and versions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import orjson

from services.kit import process
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, Violation, match_etag
from services.kit.pages import Page
from services.kit.process import Limits
from services.kit.resources import undeleted
from services.registry.artifacts.service import Artifacts
from services.registry.models import domain, events
from services.registry.models.domain import GRAPH, Contents, File, Model, Stage, Version
from services.registry.models.store import Store


class Wanted(NamedTuple):
    """What a caller makes a version of."""

    files: Sequence[File]
    metrics: Mapping[str, float]
    card: str
    serving: Mapping[str, Any]
    labels: Mapping[str, str]


class Models:
    """Models and versions of all tenants."""

    def __init__(
        self, store: Store, artifacts: Artifacts, limits: Limits, largest: int, now: Callable[[], datetime]
    ) -> None:
        """`limits` of the child that looks at uploads; `largest` graph in bytes."""
        self._store, self._artifacts, self._now = store, artifacts, now
        self._limits, self._largest = limits, largest

    async def create(self, scope: Scope, name: str, description: str, once: Once | None) -> Model:
        """Raises already_exists."""
        now = self._now()
        return await self._store.add_model(scope, Model(name, description, now, now), once)

    async def get(self, scope: Scope, name: str) -> Model:
        """Raises not_found."""
        return domain.found(await self._store.model(scope, name), name)

    async def page(self, scope: Scope, page_size: int, page_token: str, deleted: bool) -> Page[Model]:
        """By name."""
        return await self._store.models(scope, page_size, page_token, deleted)

    async def delete(self, scope: Scope, name: str, etag: str) -> Model:
        """Raises not_found, etag_mismatch, failed_precondition."""

        def decide(there: Model | None, versions: list[Version]) -> Model:
            return domain.delete(domain.found(there, name), versions, etag, self._now())

        return await self._store.change_model(scope, name, decide)

    async def undelete(self, scope: Scope, name: str) -> Model:
        """Raises not_found."""

        def decide(there: Model | None, _: list[Version]) -> Model:
            return undeleted(there or domain.found(there, name), self._now())

        return await self._store.change_model(scope, name, decide)

    async def add(
        self,
        scope: Scope,
        name: str,
        wanted: Wanted,
        once: Once | None,
    ) -> Version:
        """A version of uploaded files. Raises not_found, unsupported_format, invalid_value, limit_exceeded."""
        await self._store.recall(once)
        domain.check_files(wanted.files)
        domain.check_serving(name, wanted.serving)
        domain.check_labels(wanted.labels)
        await self.get(scope, name)
        files = await self._uploaded(scope, wanted.files)
        async with self._artifacts.local(scope, {file.name: file.digest for file in files}) as local:
            paths = {name: str(path) for name, path in local.items()}
            asked = {"graph": paths.pop(GRAPH), "files": paths}
            seen = await process.run("services.registry.models.inspect", asked, self._limits)
        listed = [vars(file) for file in sorted(files, key=lambda file: file.name)]
        manifest = orjson.dumps({"files": listed, "signature": seen["signature"]}, option=orjson.OPT_SORT_KEYS)
        digest = await self._artifacts.keep(scope, manifest)
        contents = Contents(
            tuple(files),
            digest,
            bytes.fromhex(seen["packed"]),
            dict(wanted.metrics),
            card=wanted.card,
            serving=dict(wanted.serving),
            labels=dict(wanted.labels),
        )

        def decide(there: Model | None) -> tuple[Model, Version]:
            model = domain.numbered(domain.found(there, name), self._now())
            return model, Version(name, model.latest_version, contents, self._now())

        return await self._store.add_version(scope, name, decide, self._events(scope), once)

    async def trained(self, scope: Scope, name: str, contents: Contents, once: Once | None) -> Version:
        """The version that a job made, once per job; makes the model if need be. Raises not_found without the files."""
        if GRAPH not in [file.name for file in contents.files]:
            raise InvalidValue(f"job {contents.job} has no {GRAPH}")
        await self._artifacts.adopt(scope, [contents.digest, *(file.digest for file in contents.files)])

        def decide(there: Model | None) -> tuple[Model, Version]:
            model = domain.numbered(there or Model(name, "", self._now(), self._now(), generation=0), self._now())
            return model, Version(name, model.latest_version, contents, self._now())

        return await self._store.add_version(scope, name, decide, self._events(scope), once)

    async def version(self, scope: Scope, name: str, number: int) -> Version:
        """Raises not_found."""
        await self.get(scope, name)
        return domain.found_version(await self._store.version(scope, name, number), name, number)

    async def versions(self, scope: Scope, name: str, page_size: int, page_token: str, deleted: bool) -> Page[Version]:
        """Newest first. Raises not_found."""
        await self.get(scope, name)
        return await self._store.versions(scope, name, page_size, page_token, deleted)

    async def delete_version(self, scope: Scope, name: str, number: int, etag: str) -> Version:
        """Raises not_found, etag_mismatch, failed_precondition."""

        def decide(version: Version) -> Version:
            domain.found_version(version, name, number)
            match_etag(etag, version.etag, str(version))
            return domain.move(version, Stage.DELETED, self._now())

        return await self._change(scope, name, number, decide)

    async def undelete_version(self, scope: Scope, name: str, number: int) -> Version:
        """As a candidate; one that is not deleted stays as it is. Raises not_found."""

        def decide(version: Version) -> Version:
            deleted = version.stage is Stage.DELETED
            return domain.move(version, Stage.CANDIDATE, self._now()) if deleted else version

        return await self._change(scope, name, number, decide)

    async def want(self, scope: Scope, name: str, number: int) -> Version:
        """Keeps a version from being deleted until `follow` frees it. Raises not_found, failed_precondition."""
        return await self._change(scope, name, number, lambda v: replace(_servable(v, name), wanted=True))

    async def follow(self, scope: Scope, name: str, serving: int, wanted: Collection[int]) -> None:
        """Moves the stages to where a release is, 0 for no version; a second time changes nothing."""
        project = partial(domain.project, serving=serving, wanted=wanted, now=self._now())
        await self._store.change_versions(scope, name, lambda _, there: project(there), self._events(scope))

    async def wanted(self) -> list[tuple[Scope, str]]:
        """Models of all tenants with a version that `want` keeps."""
        return await self._store.wanted()

    async def _change(self, scope: Scope, name: str, number: int, decide: Callable[[Version], Version]) -> Version:
        def each(model: Model | None, versions: list[Version]) -> list[Version]:
            domain.found(model, name)
            version = next((v for v in versions if v.version == number), None)
            return [decide(version or domain.found_version(version, name, number))]

        (changed,) = await self._store.change_versions(scope, name, each, self._events(scope))
        return changed

    async def _uploaded(self, scope: Scope, files: Sequence[File]) -> list[File]:
        """The files with their true sizes and types. Raises invalid_value for those that were not uploaded."""
        known = await self._artifacts.known(scope, [file.digest for file in files])
        missing = [i for i, file in enumerate(files) if file.digest not in known]
        if missing:
            places = [Violation(f"/files/{i}/digest", "must be uploaded") for i in missing]
            raise InvalidValue(f"{files[missing[0]].name} is not uploaded", places)
        found = []
        for file in files:
            size = await self._artifacts.size(scope, file.digest)
            if size > self._largest:
                raise Failure(Code.LIMIT_EXCEEDED, f"{file.name} is larger than {self._largest >> 20} MiB")
            found.append(File(file.name, file.digest, size, domain.media_type(file.name)))
        return found

    def _events(self, scope: Scope) -> Callable[[Sequence[Version]], list[Event]]:
        return lambda versions: events.changed(scope, versions, self._now())


def _servable(version: Version, name: str) -> Version:
    found = domain.found_version(version, name, version.version)
    if not found.contents.signature:
        raise FailedPrecondition(f"{found} has no signature")
    return found
