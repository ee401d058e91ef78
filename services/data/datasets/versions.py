"""The use cases of versions that are there: tags for them, and going back to one."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion, Tag
from services.data.datasets.service import DataSets
from services.data.datasets.store.tags import TagStore
from services.data.datasets.tagging import tagged
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, match_etag
from services.kit.pages import Page
from services.kit.timestamps import uuid7


class Versions:
    """The use cases."""

    def __init__(self, store: TagStore, data_sets: DataSets, now: Callable[[], datetime]) -> None:
        self._store, self._data_sets, self._now = store, data_sets, now

    async def set_tag(self, scope: Scope, data_set: str, tag: str, version: int, etag: str) -> Tag:
        """Makes a tag or moves it; 0 is the newest version. The same again changes nothing.

        Raises not_found, unknown_version, etag_required and etag_mismatch for a tag that would move, limit_exceeded.
        """
        now = self._now()
        return await self._store.put(
            scope,
            data_set,
            version,
            lambda before, number: tagged(before, data_set, tag, number, etag, now),
            tag,
        )

    async def get_tag(self, scope: Scope, data_set: str, tag: str) -> Tag:
        """Raises not_found."""
        return await self._store.get(scope, data_set, tag)

    async def list_tags(self, scope: Scope, data_set: str, page_size: int, page_token: str) -> Page[Tag]:
        """By name. Raises not_found."""
        return await self._store.list(scope, data_set, page_size, page_token)

    async def delete_tag(self, scope: Scope, data_set: str, tag: str, etag: str) -> Tag:
        """Raises not_found, etag_mismatch."""
        return await self._store.delete(scope, data_set, tag, lambda found: match_etag(etag, found.generation, tag))

    async def roll_back(
        self, scope: Scope, data_set: str, version: int, etag: str, once: Once | None
    ) -> DataSetVersion:
        """Adds a version that is equal to an older one and reads its files.

        Raises not_found, unknown_version, etag_mismatch, also when another version comes in between;
        failed_precondition for the newest.
        """
        await self._store.recall(once)
        found = await self._data_sets.get(scope, data_set)
        match_etag(etag, found.generation, data_set)
        old, files = await self._data_sets.whole(scope, data_set, version)
        if old.version == found.latest_version:
            raise FailedPrecondition(f"{version or found.latest_version} is the newest version of {data_set}")
        new = NewVersion(
            data_set=data_set,
            run=uuid7(),
            files=files,
            columns=old.columns,
            append=False,
            parents=(LineageNode("data_set", data_set, old.version),),
            restores=old.version,
            layout=old.layout,
            statistics=old.quality.columns,
        )

        def effects(connection: Connection, made: DataSetVersion) -> None:
            if made.version != found.latest_version + 1:
                raise Failure(Code.ETAG_MISMATCH, f"{data_set} got another version in the meantime")

        await self._data_sets.prepare(scope, data_set, new.run)
        try:
            return await self._data_sets.commit(scope, new, effects, once)
        except Failure:
            await self._data_sets.discard(scope, data_set, new.run)
            raise
