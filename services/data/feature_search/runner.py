"""Runs searches: a child reads a sample and searches, then the operation ends with what it found.

A search is a row until it has ended, and is done again after a crash.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.data.datasets.service import DataSets
from services.data.feature_search.domain import DEFAULT_SECONDS, Found, Search
from services.data.feature_search.store import SearchStore
from services.data.feature_search.wire import found_to_wire
from services.data.metering.service import Metering
from services.kit.auth import Scope
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits

_SEARCH, _FOUND, _WORK = TypeAdapter(Search), TypeAdapter(Found), "services.data.feature_search.work"


class SearchRunner(OpenRunner[Search]):
    """Runs one at a time: a search takes a core for as long as it may."""

    def __init__(
        self, store: SearchStore, data_sets: DataSets, metering: Metering, spawn: Spawn, limits: Limits
    ) -> None:
        super().__init__(store, spawn, at_once=1)
        self._store, self._data_sets, self._metering, self._limits = store, data_sets, metering, limits

    async def _do(self, scope: Scope, work: Search) -> None:
        name = work.wanted.data_set
        found = await self._data_sets.locate(scope, name, work.data_set_version)
        usage = await self._metering.usage(scope, work.operation)
        seconds = usage.left / 1000 if usage else DEFAULT_SECONDS

        async def tell(message: Mapping[str, Any]) -> None:
            await self._operations.progress(scope, work.operation, message["progress"], "searching", message["message"])

        async with self._data_sets.local(scope, found) as location:
            files = [str(Path(location.uri) / file.path) for file in location.files]
            request = {**_SEARCH.dump_python(work, mode="json"), "files": files, "cpu_seconds": seconds}
            result = await self._metering.run(scope, work.operation, _WORK, request, self._limits, tell)
        await self._store.finish(scope, work.operation, found_to_wire(work, _FOUND.validate_python(result)))
