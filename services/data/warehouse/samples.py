"""The records of a source that landed last, for previews, tests of rules and discovery: without the source."""

import contextlib
from collections.abc import AsyncIterator

from services.data.datasets.parents import check_permitted
from services.data.datasets.service import DataSets
from services.data.reading.folders import Place
from services.data.reading.landed import LandedRecords, data_set_of
from services.data.sources.domain import Source
from services.data.warehouse.domain import Range
from services.data.warehouse.service import Warehouse
from services.kit.auth import Principal
from services.kit.errors import FailedPrecondition

_READ = "data_sets.read"


class LandedSamples:
    """Opens them for callers who may see them."""

    def __init__(self, warehouse: Warehouse, data_sets: DataSets) -> None:
        self._warehouse, self._data_sets = warehouse, data_sets

    @contextlib.asynccontextmanager
    async def opened(
        self, principal: Principal, source: Source, records: int
    ) -> AsyncIterator[tuple[LandedRecords, Place]]:
        """At most so many records, while the context lasts.

        Raises failed_precondition where none have landed; forbidden for who may not read them, or not all of them.
        """
        name, data_set = source.source, data_set_of(source.source)
        await check_permitted(self._data_sets, principal, _READ, data_set)
        last = (await self._warehouse.position(principal.scope, name)).last if source.landed else 0
        if not last:
            raise FailedPrecondition(f"nothing of {name} has landed")
        await self._data_sets.check_seen(principal, data_set)
        wanted = Range(max(last - records, 0), last)
        async with self._warehouse.opened(principal.scope, name, source.definition, wanted) as found:
            yield found
