"""The use cases of partitions."""

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.domain import DataSetVersion, types_of
from services.data.datasets.laying import Laying
from services.data.datasets.layouts import Layout, Placing, check_layout
from services.data.datasets.service import DataSets
from services.data.metering.domain import CpuBudget
from services.data.partitions.domain import Division, Rewrite, division
from services.data.partitions.runner import RewriteRunner
from services.data.partitions.store import RewriteStore
from services.kit import pages
from services.kit.auth import Principal
from services.kit.db import Once
from services.kit.errors import InvalidValue, NotFound, Violation, match_etag


class Partitions:
    """The use cases."""

    def __init__(self, store: RewriteStore, laying: Laying, data_sets: DataSets, runner: RewriteRunner) -> None:
        self._store, self._laying, self._data_sets, self._runner = store, laying, data_sets, runner

    async def repartition(
        self,
        principal: Principal,
        data_set: str,
        layout: Layout | None,
        etag: str,
        once: Once | None,
        budget: CpuBudget,
        create: bool = False,
    ) -> Operation:
        """Begins to divide a data set otherwise, None: not at all; `create`: makes one that is not there.

        Raises not_found, invalid_value, etag_mismatch, forbidden for masked fields, failed_precondition for one to be
        created that is deleted.
        """
        await self._store.recall(once)
        if layout:
            check_layout(layout)
        scope = principal.scope
        try:
            found = await self._data_sets.get(scope, data_set)
        except NotFound:
            if not create:
                raise
            await self._laying.make(scope, data_set)
            etag = "*"
        else:
            match_etag(etag, found.generation, data_set)
            if layout:
                await self._data_sets.check_seen(principal, data_set, layout.fields)
            if layout and found.latest_version:
                _check_fields(layout, await self._data_sets.version(scope, data_set, 0))

        def make(operation: str) -> Rewrite:
            return Rewrite(operation, data_set, layout)

        operation = await self._store.begin_at(scope, data_set, etag, make, once, budget)
        self._runner.begin(scope, make(operation.operation))
        return operation

    async def division(
        self, principal: Principal, data_set: str, version: int, page_size: int, page_token: str
    ) -> tuple[Division, str]:
        """How a version is divided, with a page of its partitions, and the token of the next.

        Raises not_found, unknown_version, invalid_value, forbidden for masked fields.
        """
        size, last = pages.size(page_size), pages.after(page_token, int, int)
        number, after = (int(part) for part in last) if last else (version, -1)
        if version not in (0, number):
            raise InvalidValue("page_token is of another version", [Violation("/page_token", "is of another version")])
        location = await self._data_sets.locate(principal.scope, data_set, number)
        found = location.version
        if found.layout is None:
            return Division(), ""
        await self._data_sets.check_seen(principal, data_set, found.layout.fields)
        whole = division(found.layout, Placing(found.layout, types_of(found)), location.files)
        rest = [partition for partition in whole.partitions if partition.number > after]
        shown = tuple(rest[:size])
        token = pages.token(found.version, shown[-1].number) if len(rest) > size else ""
        return Division(shown, whole.layout, whole.count, whole.skew), token


def _check_fields(layout: Layout, found: DataSetVersion) -> None:
    """Raises invalid_value where the layout does not fit a version."""
    types = types_of(found)
    for index, name in enumerate(layout.fields):
        if name not in types:
            text = f"{found.data_set} has no column {name[:60]}"
            raise InvalidValue(text, [Violation(f"/partitioning/fields/{index}", "is not a column")])
    Placing(layout, types)
