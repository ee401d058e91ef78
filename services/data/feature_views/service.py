"""The use cases of feature views."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from aimass.v1.operations_pb2 import Operation
from services.data.datasets.following import Followed, Following
from services.data.datasets.service import DataSets
from services.data.feature_views.defining import check_fit, columns_for
from services.data.feature_views.domain import Definition, FeatureView, Graph, Lag, Run, ViewVersion
from services.data.feature_views.runner import Materialiser
from services.data.feature_views.store import Store
from services.data.feature_views.store.rows import RowStore
from services.data.feature_views.wire import microseconds_of
from services.data.features.service import FeatureSets
from services.data.metering.domain import CpuBudget
from services.kit.auth import Principal, Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, invalid
from services.kit.pages import Page
from services.kit.resources import deleted, undeleted


class FeatureViews:
    """The use cases."""

    def __init__(
        self,
        store: Store,
        rows: RowStore,
        data_sets: DataSets,
        feature_sets: FeatureSets,
        following: Following,
        runner: Materialiser,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._data_sets, self._feature_sets = store, data_sets, feature_sets
        self._following, self._runner, self._now = following, runner, now
        self.kept = rows.kept

    async def create(
        self, scope: Scope, name: str, description: str, definition: Definition, once: Once | None
    ) -> FeatureView:
        """Raises already_exists, invalid_value, not_found for its data set; failed_precondition where that is empty."""
        await self._store.recall(once)
        first = await self._version(scope, name, definition)
        view = FeatureView(name, description, 1, 0, 1, first.create_time, first.create_time)
        return await self._store.begin_with(scope, view, first, once)

    async def extend(self, scope: Scope, name: str, definition: Definition, once: Once | None) -> ViewVersion:
        """Adds the next version. Raises not_found, invalid_value, failed_precondition."""
        await self._store.recall(once)
        await self._store.get(scope, name)
        made = await self._version(scope, name, definition)
        return await self._store.extend(
            scope, name, lambda after: replace(made, version=after.latest_version), made.create_time, once
        )

    async def _version(self, scope: Scope, name: str, definition: Definition) -> ViewVersion:
        try:
            columns = (await self._data_sets.version(scope, definition.data_set, 0)).columns
        except Failure as failure:
            if failure.code is not Code.UNKNOWN_VERSION:
                raise
            raise FailedPrecondition(f"the data set {definition.data_set} has no version yet") from None
        graph = None
        if definition.feature_set:
            definition, graph = await self._graph(scope, definition)
        keys, features = columns_for(definition, columns, graph)
        return ViewVersion(name, 1, definition, keys, features, self._now(), graph=graph)

    async def _graph(self, scope: Scope, wanted: Definition) -> tuple[Definition, Graph]:
        """The definition with the number of the fitted version, and its graph. Raises not_found, unknown_version."""
        fitted = await self._feature_sets.version(scope, wanted.feature_set, wanted.feature_set_version)
        sources = [column.name for column in fitted.inputs]
        if await self._akin(scope, fitted.data_set, wanted.data_set):  # its constants tell of other columns as well
            sources += [fitted.label, *(column for step in fitted.steps for column in step.columns.values())]
        graph = Graph(fitted.digest, fitted.inputs, fitted.outputs, tuple(dict.fromkeys(sources)))
        return replace(wanted, feature_set_version=fitted.version), graph

    async def _akin(self, scope: Scope, *names: str) -> bool:
        """Whether data sets are the same but for branches."""
        return len({await self._data_sets.parent(scope, name) or name for name in names}) == 1

    async def get(self, scope: Scope, name: str) -> FeatureView:
        """Raises not_found."""
        return await self._store.get(scope, name)

    async def list(self, scope: Scope, page_size: int, page_token: str, show_deleted: bool) -> Page[FeatureView]:
        """By name."""
        return await self._store.list(scope, page_size, page_token, show_deleted)

    async def version(self, scope: Scope, name: str, number: int) -> tuple[ViewVersion, Lag | None]:
        """A version, for 0 the one that is read, and how far it is behind. Raises not_found, unknown_version."""
        _, found = await self._store.version(
            scope, name, lambda view: number or view.serving_version or view.latest_version
        )
        return found, await self._lag(scope, found)

    async def _lag(self, scope: Scope, found: ViewVersion) -> Lag | None:
        """None where nothing is materialised as a whole, or the data set is deleted."""
        if not (covered := found.coverage.data_set_version):
            return None
        (behind,) = await self._following.behind([Followed(scope, found.definition.data_set, covered)])
        return Lag(*behind) if behind else None

    async def materialise(
        self,
        principal: Principal,
        name: str,
        numbers: tuple[int, int],
        span: tuple[int | None, int | None],
        once: Once | None,
        budget: CpuBudget,
    ) -> Operation:
        """Begins to materialise a version of the view from one of its data set (`numbers`; the newest for 0).

        `span`: event times from the first on and before the second, in microseconds since 1970. Answers with the
        operation. Raises not_found, unknown_version, invalid_value, failed_precondition; forbidden for masked columns
        that the caller does not see; storage_full.
        """
        await self._store.recall(once)
        self._data_sets.check_space()
        scope, (start, until) = principal.scope, span
        if start is not None and until is not None and start >= until:
            raise invalid("/until", "must be later than since")
        _, found = await self._store.version(scope, name, lambda view: numbers[0] or view.latest_version)
        made = found.definition
        await self._data_sets.check_seen(principal, made.data_set, found.reads)
        version = await self._data_sets.version(scope, made.data_set, numbers[1])
        check_fit(found, version.columns)
        skip = await self._covered(scope, found, version.version) if start is None and until is None else 0

        def run(operation: str) -> Run:
            return Run(
                operation,
                feature_view=name,
                version=found.version,
                data_set=made.data_set,
                data_set_version=version.version,
                keys=found.keys,
                event_time=made.event_time,
                features=found.features,
                now=microseconds_of(self._now()),
                start=start,
                until=until,
                skip=skip,
                graph=found.graph,
            )

        operation = await self._store.begin(scope, run, name, once, budget)
        self._runner.begin(scope, run(operation.operation))
        return operation

    async def _covered(self, scope: Scope, found: ViewVersion, number: int) -> int:
        """Rows at the beginning of a version of the data set that are materialised already."""
        covered = found.coverage.data_set_version
        if not 0 < covered <= number:
            return 0
        old = (await self._data_sets.locate(scope, found.definition.data_set, covered)).files
        new = (await self._data_sets.locate(scope, found.definition.data_set, number)).files
        return sum(file.rows for file in old) if new[: len(old)] == old else 0

    async def delete(self, scope: Scope, name: str, etag: str) -> FeatureView:
        """Hides it; a second time changes nothing. Raises not_found, etag_mismatch."""
        return await self._store.change(scope, name, lambda found: deleted(found, name, etag, self._now()))

    async def undelete(self, scope: Scope, name: str) -> FeatureView:
        """Brings it back; a second time changes nothing. Raises not_found."""
        return await self._store.change(scope, name, lambda found: undeleted(found, self._now()))
