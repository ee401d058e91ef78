"""The use cases of the catalogue: what data sets are about, who owns them, and how they are found."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from services.data.datasets.domain import DataSet
from services.data.datasets.store import Store
from services.data.datasets.store.catalogue import CatalogueStore
from services.data.datasets.wanted import wanted
from services.kit.auth import Scope
from services.kit.errors import match_etag
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

    async def search(self, scope: Scope, query: str, page_size: int, page_token: str) -> Page[DataSet]:
        """Those in which all words of a query are found, by name. Raises invalid_value."""
        return await self._catalogue.search(scope, wanted(query), page_size, page_token)
