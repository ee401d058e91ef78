"""How the slices are put together that make something of data sets and that nothing else in the service asks."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from services.data.attachments.api import AttachmentsApi
from services.data.attachments.service import Attachments
from services.data.attachments.store import AttachmentStore
from services.data.config import Config
from services.data.datasets.laying import Laying
from services.data.datasets.queries import Queries
from services.data.datasets.service import DataSets
from services.data.datasets.store import Store as DataSetStore
from services.data.datasets.store.following import FollowingStore
from services.data.exports.api import ExportsApi
from services.data.exports.runner import WriteRunner
from services.data.exports.service import Exports
from services.data.exports.store import WriteStore
from services.data.exports.writes import TableWrites
from services.data.feature_joins.runner import JoinRunner
from services.data.feature_joins.service import FeatureJoins
from services.data.feature_joins.store import JoinStore
from services.data.feature_search.api import FeatureSearchesApi
from services.data.feature_search.runner import SearchRunner
from services.data.feature_search.service import FeatureSearches
from services.data.feature_search.store import SearchStore
from services.data.feature_views.api import FeatureViewsApi
from services.data.feature_views.covering import Covers
from services.data.feature_views.online import InDatabase, Online
from services.data.feature_views.reading import Reading
from services.data.feature_views.runner import Materialiser
from services.data.feature_views.service import FeatureViews
from services.data.feature_views.store import Store as ViewStore
from services.data.feature_views.store.rows import RowStore
from services.data.feature_views.store.sweeping import Sweeping
from services.data.feature_views.sweeping import Sweep
from services.data.feature_views.watching import Watch
from services.data.features.service import FeatureSets
from services.data.metering.service import Metering
from services.data.partition_advice.noting import QueryHistory
from services.data.partition_advice.runner import AdviceRunner
from services.data.partition_advice.service import PartitionAdvice
from services.data.partition_advice.store import AdviceStore, HistoryStore
from services.data.partitions.api import PartitionsApi
from services.data.partitions.runner import RewriteRunner
from services.data.partitions.service import Partitions
from services.data.partitions.store import RewriteStore
from services.data.series.api import SeriesSetsApi
from services.data.series.runner import SeriesRunner
from services.data.series.service import SeriesSets
from services.data.series.store import Store as SeriesStore
from services.data.series_clusters.runner import ClusteringRunner
from services.data.series_clusters.service import SeriesClusters
from services.data.series_clusters.store import ClusteringStore
from services.data.sources.service import Sources
from services.data.storage.service import Kept
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.forgetting import Forget
from services.kit.leased_work import Spawn
from services.kit.process import Limits
from services.kit.tasks import every_hour
from services.kit.turns import Turns

Task = Callable[[], Coroutine[Any, Any, None]]
Now = Callable[[], datetime]
Around = tuple[Metering, Now, Spawn]  # what everything needs that goes on beside requests


class Added(NamedTuple):
    """What a slice adds to the service."""

    rpc: Mapping[str, Any]
    kept: Mapping[str, Kept]
    start: Sequence[Callable[[], Awaitable[None]]]
    close: Sequence[Callable[[], Awaitable[None]]]
    forget: Sequence[Forget]
    tasks: Sequence[Task] = ()

    def and_(self, other: "Added") -> "Added":
        """What both add."""
        return Added(
            {**self.rpc, **other.rpc},
            {**self.kept, **other.kept},
            [*self.start, *other.start],
            [*self.close, *other.close],
            [*self.forget, *other.forget],
            [*self.tasks, *other.tasks],
        )


def derived_slices(
    config: Config,
    runtime: Runtime,
    database: Database,
    sources: Sources,
    data_sets: DataSets,
    queries: Queries,
    features: FeatureSets,
    around: Around,
) -> Added:
    """Feature views, series sets, partitions, exports, attachments and feature searches."""
    metering, *_ = around
    found = _feature_views(config, runtime, database, data_sets, features, around)
    found = found.and_(_series(config, runtime, database, data_sets, around))
    streaming = Limits(config.stream_seconds, config.query_memory_mib), Turns(config.streams_at_once)
    streams = Queries(data_sets, metering, *streaming)
    found = found.and_(_partitions(config, runtime, database, data_sets, metering, (queries, streams)))
    found = found.and_(_exports(config, runtime, database, sources, data_sets, metering, streams, *streaming))
    found = found.and_(_attachments(runtime, database, data_sets))
    return found.and_(_feature_search(config, runtime, database, data_sets, metering))


def _exports(
    config: Config,
    runtime: Runtime,
    database: Database,
    sources: Sources,
    data_sets: DataSets,
    metering: Metering,
    queries: Queries,
    limits: Limits,
    free: Turns,
) -> Added:
    most, writing = config.stream_mib * 2**20, Limits(config.pipeline_seconds, config.query_memory_mib)
    exports, store = Exports(data_sets, queries, metering, limits, free, most), WriteStore(database)
    runner = WriteRunner(store, sources, queries, metering, runtime.spawn, writing, config.streams_at_once, most)
    api = ExportsApi(exports, data_sets, TableWrites(store, sources, data_sets, queries, runner))
    return Added({"aimass.v1.Exports": api}, {}, [runner.resume], [], [])


def _attachments(runtime: Runtime, database: Database, data_sets: DataSets) -> Added:
    store = AttachmentStore(database)
    api = AttachmentsApi(Attachments(store, data_sets, runtime.blobs))
    return Added({"aimass.v1.Attachments": api}, {"attachments": store.kept}, [], [], [])


def _partitions(
    config: Config,
    runtime: Runtime,
    database: Database,
    data_sets: DataSets,
    metering: Metering,
    queries: Sequence[Queries],
) -> Added:
    laying = Laying(DataSetStore(database), runtime.now)
    store, limits = RewriteStore(database, laying), Limits(config.pipeline_seconds, config.pipeline_memory_mib)
    runner = RewriteRunner(store, data_sets, metering, runtime.spawn, limits)
    partitions = Partitions(store, laying, data_sets, runner)
    advice_store, history_store = AdviceStore(database), HistoryStore(database, laying.is_there)
    history = QueryHistory(history_store, runtime.now)
    for each in queries:
        each.told = history.note
    data_sets.forget = history_store.forget
    advising = Limits(config.discovery_seconds, config.discovery_memory_mib)
    memory = (config.query_memory_mib, config.pipeline_memory_mib)
    adviser = AdviceRunner(advice_store, data_sets, metering, runtime.spawn, advising, memory)
    advice = PartitionAdvice(advice_store, history, data_sets, adviser, runtime.now)
    api = PartitionsApi(partitions, advice)
    return Added({"aimass.v1.Partitions": api}, {}, [runner.resume, adviser.resume], [history.store], [], [history.run])


def _feature_views(
    config: Config,
    runtime: Runtime,
    database: Database,
    data_sets: DataSets,
    features: FeatureSets,
    around: Around,
) -> Added:
    store, rows, covers = ViewStore(database), RowStore(database), Covers(runtime.storage.keys)
    limits = Limits(config.materialisation_seconds, config.materialisation_memory_mib)
    online, tasks = _online(config, runtime, store, rows)
    runner = Materialiser(database, store, rows, data_sets, online, covers, runtime.blobs, around, limits)
    following = FollowingStore(database)
    views = FeatureViews(store, rows, data_sets, features, following, runner, runtime.now)
    reading = Reading(store, online, data_sets, covers, runtime.now)
    join_store = JoinStore(database)
    joiner = JoinRunner(join_store, data_sets, runtime.blobs, around, limits)
    joins = FeatureJoins(join_store, views, data_sets, joiner, runtime.now)
    api, start = FeatureViewsApi(views, reading, joins, runtime.now), [online.start, runner.resume, joiner.resume]
    kept, watch = {"feature-views": views.kept}, Watch(store, following, runtime.now)
    close, forget = [online.close, rows.close], [covers.forget, online.forget]
    sweep = Sweep(Sweeping(database, store), online, config.feature_version_days)
    sweeping = partial(every_hour, sweep.sweep, runtime.now)
    return Added({"aimass.v1.FeatureViews": api}, kept, start, close, forget, [watch.run, sweeping, *tasks])


def _online(config: Config, runtime: Runtime, store: ViewStore, rows: RowStore) -> tuple[Online, Sequence[Task]]:
    """Where features are read, and what keeps it filled."""
    if not (url := config.features_url.get_secret_value()):
        return InDatabase(rows), []
    from services.data.feature_views.online.far import InRedis
    from services.data.feature_views.online.filling import Filling

    settings = runtime.settings
    redis = InRedis(rows, url, config.features_mib * 2**20, settings.tls_dir, settings.cache_any_version)
    return redis, [Filling(store, rows, redis).run]


def _series(config: Config, runtime: Runtime, database: Database, data_sets: DataSets, around: Around) -> Added:
    store, limits = SeriesStore(database), Limits(config.series_seconds, config.series_memory_mib)
    runner = SeriesRunner(store, data_sets, runtime.blobs, *around, limits)
    series = SeriesSets(store, data_sets, runtime.blobs, runner, runtime.now)
    metering, now, spawn = around
    clusterings = ClusteringStore(database)
    clusterer = ClusteringRunner(clusterings, data_sets, runtime.blobs, metering, spawn, limits)
    api = SeriesSetsApi(series, SeriesClusters(clusterings, data_sets, clusterer, now))
    return Added({"aimass.v1.SeriesSets": api}, {"series-sets": store.kept}, [runner.resume, clusterer.resume], [], [])


def _feature_search(
    config: Config, runtime: Runtime, database: Database, data_sets: DataSets, metering: Metering
) -> Added:
    store, limits = SearchStore(database), Limits(config.fitting_seconds, config.fitting_memory_mib)
    runner = SearchRunner(store, data_sets, metering, runtime.spawn, limits)
    api = FeatureSearchesApi(FeatureSearches(store, data_sets, runner, runtime.now))
    return Added({"aimass.v1.FeatureSearches": api}, {}, [runner.resume], [], [])
