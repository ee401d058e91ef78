"""The use cases of the catalogue: what data sets are about, who owns them, and how they are found."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from services.data.datasets import openlineage
from services.data.datasets.domain import DataSet
from services.data.datasets.rows import MOST_BYTES
from services.data.datasets.store import Store
from services.data.datasets.store.catalogue import CatalogueStore
from services.data.datasets.wanted import wanted
from services.kit import pages
from services.kit.auth import Scope
from services.kit.errors import InvalidValue, Violation, match_etag
from services.kit.pages import Page
from services.kit.resources import changed


class Catalogue:
    """The use cases."""

    def __init__(self, store: Store, catalogue: CatalogueStore, now: Callable[[], datetime]) -> None:
        self._store, self._catalogue, self._now = store, catalogue, now

    async def update(self, scope: Scope, data_set: str, values: Mapping[str, Any], etag: str) -> DataSet:
        """With other values of `description`, `owner` or `refused_changes`. Raises not_found, etag_mismatch."""

        def change(found: DataSet) -> DataSet:
            match_etag(etag, found.generation, data_set)
            return changed(found, self._now(), **values)

        await self._store.get(scope, data_set)
        return await self._store.change(scope, data_set, change)

    async def mask(self, scope: Scope, data_set: str, columns: Sequence[str], etag: str) -> DataSet:
        """Masks these columns and no others. Raises not_found, etag_mismatch, invalid_value."""
        for index, name in enumerate(columns):
            if not name:
                raise InvalidValue("a column has no name", [Violation(f"/columns/{index}", "must not be empty")])
        return await self.update(scope, data_set, {"masked_columns": tuple(dict.fromkeys(columns))}, etag)

    async def search(self, scope: Scope, query: str, page_size: int, page_token: str) -> Page[DataSet]:
        """Those in which all words of a query are found, by name. Raises invalid_value."""
        return await self._catalogue.search(scope, wanted(query), page_size, page_token)

    async def open_lineage(
        self, scope: Scope, data_set: str, version: int, page_size: int, page_token: str
    ) -> Page[Mapping[str, Any]]:
        """The lineage of a version as events of OpenLineage, nearest first; at least one, fewer when they are large.

        Raises not_found, unknown_version, invalid_value.
        """
        last = pages.after(page_token, int)
        start, size = int(last[0]) if last else 0, pages.size(page_size)
        if start < 0:
            raise InvalidValue("page_token must be one that was returned", [Violation("/page_token", "is unknown")])
        found = await self._store.lineage(scope, data_set, version)
        made = openlineage.made(found)
        nodes = list(made)[start : start + size]
        versions = await self._store.described(scope, {*nodes, *(parent for node in nodes for parent in made[node])})
        each = (openlineage.event(scope, node, made[node], versions, self._now()) for node in nodes)
        told = await asyncio.to_thread(_fitting, each)
        end = start + len(told)
        return Page(told, pages.token(end) if told and end < len(made) else "")


def _fitting(events: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """As many as one answer holds, at least one."""
    told, size = list[Mapping[str, Any]](), 0
    for event in events:
        size += 2 * len(orjson.dumps(event))  # a struct names the kind of each value
        if told and size > MOST_BYTES:
            break
        told.append(event)
    return tuple(told)
